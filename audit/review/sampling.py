"""Sampling plans: a share of each period's records comes under review without a suspicion.

A period is drawn once, after its end; its seed and picks are kept, and its population for as long as its records are, so
that anybody can draw again and find the same (`redraw`). How: see audit.review.drawing. Services and selectors run in, or open, the tenant's scope.
"""

import logging
import os
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Q, QuerySet, Sum
from django.utils.translation import gettext as _

from audit import selectors
from audit.models import AuditRecord, Status
from audit.record import REQUESTS, record_event
from audit.review import drawing, sealing
from audit.review.flags import raise_flag
from audit.review.models import (
    Flag,
    Measure,
    Per,
    SampleDone,
    SamplePlan,
    SampleRun,
    Severity,
    Source,
    State,
    Stratum,
)
from tenants import clock, envelope, words
from tenants.access import Actor, NotVisible, require
from tenants.actors import system_actor
from tenants.changes import change, difference, record_change
from tenants.errors import Refused
from tenants.ids import day_of, uuid7
from tenants.models import Group, Tenant
from tenants.roles import AUDIT_LIST, REVIEW_MANAGE, REVIEW_WORK
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

MOST_PLANS = 50
MOST_COUNT = 10_000
# By when every record of a period is there: generations begin in it, and their records with them.
GRACE = timedelta(minutes=2)
_SPANS = {Per.HOUR: timedelta(hours=1), Per.DAY: timedelta(days=1), Per.WEEK: timedelta(weeks=1)}
_RUNS_AT_ONCE = 24
_FLAGS_AT_ONCE = 50
_SETTINGS, _RULE = "settings", "rule"
_FIELDS = ("name", "measure", "size", "per", "stratum", "severity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Of which records a plan draws; "" narrows nothing. group: an id; the people who are in it when it is drawn."""

    group: str = ""
    model_version: str = ""
    channel: str = ""
    status: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a plan would have picked of the last whole period."""

    since: datetime
    until: datetime
    population: int
    picked: int
    strata: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a plan has seen. reviewed: picked records on which somebody has decided."""

    runs: int
    population: int
    picked: int
    reviewed: int
    missing: int


def plans(actor: Actor) -> QuerySet[SamplePlan]:
    """The plans that are in use, by name. Raises NotVisible without review.manage."""
    require(actor, REVIEW_MANAGE)
    return SamplePlan.objects.filter(retired=None).order_by("name", "pk")


def plan_of(actor: Actor, plan_id: UUID) -> SamplePlan:
    found = plans(actor).filter(pk=plan_id).first()
    if found is None:
        raise NotVisible("sample plan")
    return found


def filters_of(plan: SamplePlan) -> Filters:
    """Raises Refused where they cannot be read any more."""
    return Filters(**_settings(plan)["filters"])


@change
def create_plan(*, actor: Actor, filters: Filters = Filters(), **fields: Any) -> SamplePlan:
    """A plan that draws from the period on that is going on. fields: name, measure, size, per, stratum, severity."""
    require(actor, REVIEW_MANAGE)
    if plans(actor).count() >= MOST_PLANS:
        message = _("There are %(most)d plans, which is the most. Delete one first.") % {"most": MOST_PLANS}
        raise Refused("too_many_plans", message)
    plan = SamplePlan(id=uuid7(), tenant_id=actor.tenant_id, counted_from=clock.now())
    _put(plan, fields)
    secret = os.urandom(32)
    _seal(plan, _checked(filters), secret)
    _save(plan)
    # The secret is part of the record: who reads it there can draw every period again.
    detail = {"secret": secret.hex()}
    record_change(
        actor, "review.plan_created", subject_id=plan.pk, after=_shown(plan, filters), detail=detail
    )
    return plan


@change
def update_plan(*, actor: Actor, plan_id: UUID, filters: Filters | None = None, **changes: Any) -> SamplePlan:
    """Change a plan, from the next period that is drawn on."""
    plan = plan_of(actor, plan_id)
    settings = _settings(plan)
    old_filters = Filters(**settings["filters"])
    before = _shown(plan, old_filters)
    _put(plan, changes)
    if filters is not None:
        _seal(plan, _checked(filters), bytes.fromhex(settings["secret"]))
    _save(plan)
    old, new = difference(before, _shown(plan, filters or old_filters))
    if new:
        record_change(actor, "review.plan_changed", subject_id=plan.pk, before=old, after=new)
    return plan


@change
def pause_plan(*, actor: Actor, plan_id: UUID) -> None:
    """Draw no period that ends before the plan is resumed."""
    plan = plan_of(actor, plan_id)
    if plan.paused is None:
        plan.paused = clock.now()
        plan.save(update_fields=["paused"])
        record_change(actor, "review.plan_paused", subject_id=plan.pk)


@change
def resume_plan(*, actor: Actor, plan_id: UUID) -> None:
    plan = plan_of(actor, plan_id)
    if plan.paused is not None:
        plan.paused, plan.counted_from = None, clock.now()
        plan.save(update_fields=["paused", "counted_from"])
        record_change(actor, "review.plan_resumed", subject_id=plan.pk)


@change
def retire_plan(*, actor: Actor, plan_id: UUID) -> None:
    """Take a plan out of use; what it drew stays, with its flags."""
    plan = plan_of(actor, plan_id)
    plan.retired = clock.now()
    plan.save(update_fields=["retired"])
    try:
        filters = filters_of(plan)
    except Refused:  # Altered: what it said is known from the record of whoever made it.
        filters = Filters()
    record_change(actor, "review.plan_retired", subject_id=plan.pk, before=_shown(plan, filters))


def preview(actor: Actor, *, filters: Filters, **fields: Any) -> Preview:
    """What such a plan would have picked of the last whole period; numbers only. Raises Refused as create_plan."""
    require(actor, REVIEW_MANAGE)
    plan = SamplePlan(tenant_id=actor.tenant_id)
    _put(plan, {"name": "preview", **fields})
    with tenant_scope(actor.tenant_id):
        filters = _checked(filters)
        until = _start(plan.per, clock.now())
        since = until - _SPANS[Per(plan.per)]
        population, strata = _population(_reader(actor.tenant_id), plan, filters, since, until)
    counts: dict[int, int] = {}
    for stratum in strata:
        counts[stratum] = counts.get(stratum, 0) + 1
    picked = sum(drawing.quota(count, plan.measure, plan.size) for count in counts.values())
    return Preview(since, until, len(population), picked, len(counts))


def coverage(actor: Actor, plan: SamplePlan) -> Coverage:
    """Figures over all of a plan's runs. Inside the tenant's scope."""
    require(actor, REVIEW_MANAGE)
    runs = SampleRun.objects.filter(plan=plan).aggregate(
        runs=Count("pk"), population=Sum("population_count", default=0), picked=Sum("picked_count", default=0)
    )
    missing = SampleDone.objects.filter(run__plan=plan).aggregate(missing=Sum("missing", default=0))
    decided = Q(item__state__in=(State.DECIDED, State.SECOND, State.CLOSED))
    flags = Flag.objects.filter(decided, source=Source.SAMPLE, source_id=str(plan.pk))
    return Coverage(**runs, **missing, reviewed=flags.count())


def runs_of(actor: Actor, plan: SamplePlan) -> QuerySet[SampleRun]:
    """The periods that were drawn, newest first, without their populations."""
    require(actor, REVIEW_MANAGE)
    found = SampleRun.objects.filter(plan=plan).select_related("done").order_by("-since")
    return found.defer("population", "strata", "picked", "rule")


def redraw(run: SampleRun) -> bool | None:
    """Whether drawing again, from what was kept of it, picks what was picked; None: its records went, and with them what
    it was drawn from. Inside the tenant's scope.
    """
    if run.population_count and not run.population:
        return None
    rule = sealing.unseal(
        run.rule, tenant_id=run.tenant_id, row_id=run.pk, field=_RULE, purpose=sealing.SETTINGS
    )
    population = drawing.unpack(bytes(run.population))
    strata = struct.unpack(f">{len(population)}I", bytes(run.strata))
    picked = drawing.draw(bytes(run.seed), population, strata, rule["measure"], Decimal(rule["size"]))
    return drawing.digest(bytes(run.population)) == bytes(run.population_digest) and drawing.pack(
        picked
    ) == bytes(run.picked)


def run_due(tenant: Tenant) -> int:
    """Draw the periods that have ended, and flag what was picked; how many were drawn. Opens the tenant's scope.

    Also forgets from what was drawn where the records are gone.
    """
    with tenant_scope(tenant.pk):
        active = SamplePlan.objects.filter(retired=None, paused=None).order_by("pk")
        plan_ids = list(active.values_list("pk", flat=True))
    drawn = 0
    for plan_id in plan_ids:
        try:
            while drawn < _RUNS_AT_ONCE and _draw_next(tenant, plan_id):
                drawn += 1
        except Refused:
            logger.exception("the sampling plan %s draws no more", plan_id)
    with tenant_scope(tenant.pk):
        waiting = list(SampleRun.objects.filter(done=None).order_by("pk").values_list("pk", flat=True))
    for run_id in waiting:
        _flag(tenant, run_id)
    with tenant_scope(tenant.pk), connection.cursor() as cursor:
        cursor.execute("SELECT audit_forget_populations()")
    return drawn


# --- Inside ----------------------------------------------------------------------------------


def _draw_next(tenant: Tenant, plan_id: UUID) -> bool:
    """Draw the plan's next period, if it has ended and no other worker is at it."""
    with tenant_scope(tenant.pk):
        active = SamplePlan.objects.filter(pk=plan_id, retired=None, paused=None)
        plan = active.select_for_update(skip_locked=True).first()
        if plan is None:
            return False
        since, until = _next_period(plan)
        if until + GRACE > clock.now():
            return False
        settings = _settings(plan)
        filters, secret = Filters(**settings["filters"]), bytes.fromhex(settings["secret"])
        population, strata = _population(_reader(tenant.pk), plan, filters, since, until)
        seed = drawing.seed_of(secret, since.isoformat())
        picked = drawing.draw(seed, population, strata, plan.measure, plan.size)
        packed, run_id = drawing.pack(population), uuid7()
        rule = {"measure": plan.measure, "size": str(plan.size), "stratum": plan.stratum}
        run = SampleRun(
            id=run_id,
            plan=plan,
            since=since,
            until=until,
            seed=seed,
            population_count=len(population),
            population_digest=drawing.digest(packed),
            population=packed,
            strata=struct.pack(f">{len(strata)}I", *strata),
            picked_count=len(picked),
            picked=drawing.pack(picked),
            rule=sealing.seal(
                {**rule, "filters": asdict(filters)},
                tenant_id=tenant.pk,
                row_id=run_id,
                field=_RULE,
                purpose=sealing.SETTINGS,
            ),
        )
        run.save(force_insert=True)
        record_event(
            actor=system_actor(tenant, "sample"),
            kind="review.sample_drawn",
            subject_id=plan.pk,
            detail={
                "plan": plan.name,
                "since": since.isoformat(),
                "until": until.isoformat(),
                **rule,
                "filters": asdict(filters),
                "seed": seed.hex(),
                "population": len(population),
                "population_sha256": drawing.digest(packed).hex(),
                "picked": len(picked),
                "picked_sha256": drawing.digest(drawing.pack(picked)).hex(),
            },
        )
    return True


def _flag(tenant: Tenant, run_id: UUID) -> None:
    """Flag what a run picked. Beginning anew after a failure is safe: a plan flags a record once."""
    with tenant_scope(tenant.pk):
        run = SampleRun.objects.select_related("plan").get(pk=run_id)
        picked, plan = drawing.unpack(bytes(run.picked)), run.plan
    actor = system_actor(tenant, "sample", frozenset({REVIEW_WORK}))
    missing = 0
    for at in range(0, len(picked), _FLAGS_AT_ONCE):
        with tenant_scope(tenant.pk):
            for request_id in picked[at : at + _FLAGS_AT_ONCE]:
                missing += not _flagged(actor, plan, run, request_id)
    with tenant_scope(tenant.pk):
        done = SampleDone(run=run, flagged=len(picked) - missing, missing=missing)
        SampleDone.objects.bulk_create([done], ignore_conflicts=True)


def _flagged(actor: Actor, plan: SamplePlan, run: SampleRun, request_id: UUID) -> bool:
    try:
        raise_flag(
            actor=actor,
            request_id=request_id,
            source=Source.SAMPLE,
            source_id=str(plan.pk),
            severity=plan.severity,
            reason=plan.name,
            code="sample",
            detail={"run": str(run.pk)},
        )
    except NotVisible:
        return False  # Gone since, as under retention.
    return True


def _population(
    actor: Actor, plan: SamplePlan, filters: Filters, since: datetime, until: datetime
) -> tuple[list[UUID], list[int]]:
    """The records of a period, ascending, and the number of each one's stratum."""
    wanted = selectors.RecordFilters(
        group=UUID(filters.group) if filters.group else None,
        model_version=filters.model_version,
        channel=filters.channel,
        status=filters.status,
        since=since,
        until=until,
    )
    population = list(selectors.ids(actor, wanted, oldest_first=True))
    if not plan.stratum:
        return population, [0] * len(population)
    column = "user_id" if plan.stratum == Stratum.USER else "model_version"
    first, end = selectors.first_id_at(since), selectors.first_id_at(until)
    records = AuditRecord.objects.filter(
        day__gte=day_of(first), day__lte=day_of(end), id__gte=first, id__lt=end, kind__in=REQUESTS
    )
    of_record = dict(records.values_list("id", column))
    numbers: dict[Any, int] = {}
    return population, [numbers.setdefault(of_record.get(record), len(numbers)) for record in population]


def _reader(tenant_id: UUID) -> Actor:
    """Who lists records for a plan, from plain columns: Custos itself."""
    return system_actor(Tenant.objects.get(pk=tenant_id), "sample", frozenset({AUDIT_LIST}))


def _next_period(plan: SamplePlan) -> tuple[datetime, datetime]:
    """The first period that is neither drawn nor over before the plan counted."""
    last = SampleRun.objects.filter(plan=plan).order_by("-until").values_list("until", flat=True).first()
    since = _start(plan.per, max(plan.counted_from, last or plan.counted_from))
    return since, since + _SPANS[Per(plan.per)]


def _start(per: str, when: datetime) -> datetime:
    """The beginning of the hour, day or week (from Monday on) that a time lies in, in UTC."""
    hour = when.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if per == Per.HOUR:
        return hour
    day = hour.replace(hour=0)
    return day if per == Per.DAY else day - timedelta(days=day.weekday())


def _settings(plan: SamplePlan) -> dict[str, Any]:
    """Raises Refused where they cannot be read any more, with the secret that periods are drawn by."""
    place = {"tenant_id": plan.tenant_id, "row_id": plan.pk}
    try:
        found = sealing.unseal(plan.sealed, field=_SETTINGS, purpose=sealing.SETTINGS, **place)
    except envelope.Tampered:
        found = None
    if found is None:
        message = _(
            "This plan was altered in the database, so it draws no more. Delete it, and make another."
        )
        raise Refused("plan_lost", message)
    return dict(found)


def _seal(plan: SamplePlan, filters: Filters, secret: bytes) -> None:
    plan.sealed = sealing.seal(
        {"filters": asdict(filters), "secret": secret.hex()},
        tenant_id=plan.tenant_id,
        row_id=plan.pk,
        field=_SETTINGS,
        purpose=sealing.SETTINGS,
    )


def _shown(plan: SamplePlan, filters: Filters) -> dict[str, Any]:
    fields = {name: getattr(plan, name) for name in _FIELDS}
    return {**fields, "size": str(plan.size), **asdict(filters)}


def _save(plan: SamplePlan) -> None:
    try:
        with transaction.atomic():
            plan.save()
    except IntegrityError as error:
        raise Refused(
            "name_in_use", _("Another plan has this name. Choose a different one."), "name"
        ) from error


def _put(plan: SamplePlan, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if name not in _FIELDS:
            raise TypeError(f"a sampling plan has no field {name}")
        setattr(plan, name, _CLEANERS[name](value, name))
    plan.size = _size(plan.measure, plan.size)


def _size(measure: str, size: Decimal) -> Decimal:
    try:
        size = Decimal(size)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise Refused("size_invalid", _("Enter a number."), "size") from error
    if measure == Measure.PERCENT:
        if not Decimal("0.01") <= size <= 100 or -size.as_tuple().exponent > 2:  # type: ignore[operator]
            message = _("Choose from 0.01 to 100 percent, with at most two decimals.")
            raise Refused("size_invalid", message, "size")
    elif not 1 <= size <= MOST_COUNT or size != size.to_integral_value():
        message = _("Choose a whole number from 1 to %(most)d.") % {"most": MOST_COUNT}
        raise Refused("size_invalid", message, "size")
    return size


def _checked(filters: Filters) -> Filters:
    if filters.group:
        try:
            known = Group.objects.filter(pk=UUID(filters.group)).exists()
        except ValueError:
            known = False
        if not known:
            raise Refused("group_unknown", _("This group is gone. Choose another."), "group")
    if filters.status and filters.status not in Status.values:
        raise Refused("choice_unknown", _("Choose one of those offered."), "status")
    return filters


def _one_of(choices: Iterable[str]) -> Any:
    known = set(choices)

    def clean(value: str, field: str) -> str:
        if value not in known:
            raise Refused("choice_unknown", _("Choose one of those offered."), field)
        return value

    return clean


_CLEANERS: dict[str, Any] = {
    "name": lambda value, field: words.clean_name(value, field=field, most=80),
    "measure": _one_of(Measure.values),
    "size": lambda value, field: value,
    "per": _one_of(Per.values),
    "stratum": _one_of(Stratum.values),
    "severity": _one_of(Severity.values),
}
