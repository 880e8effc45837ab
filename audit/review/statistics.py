"""Figures of reviews: how much waits, how it was decided, how often two agree, how long it takes. Numbers only.

Over the queues that the actor works in and never over what is about themselves; figures of people are for review.manage.
All inside the tenant's scope. Raises NotVisible without review.work.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Aggregate, Count, Exists, FloatField, IntegerField, OuterRef, Q, QuerySet
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, TruncDate

from audit.review import access, people
from audit.review.models import Deed, Flag, Outcome, ReviewItem, ReviewStep, Source, State
from tenants import clock
from tenants.access import Actor, require
from tenants.roles import REVIEW_MANAGE, REVIEW_WORK


class Percentile(Aggregate):
    """PostgreSQL's percentile_cont of an expression; None over nothing."""

    function = "percentile_cont"
    output_field = FloatField()

    def __init__(self, expression: str, share: float, **extra: Any) -> None:
        template = f"%(function)s({share:f}) WITHIN GROUP (ORDER BY %(expressions)s)"
        super().__init__(expression, template=template, **extra)


AGES = (
    (1, "1"),
    (3, "3"),
    (7, "7"),
    (30, "30"),
)  # Days: the upper bound of an age, and its code; older is "more".


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of a queue or a source. hours: the median from flag to decision, None where nothing was decided."""

    label: str
    open: int
    late: int
    second: int
    decided: dict[str, int]
    hours: float | None


@dataclass(frozen=True, slots=True)
class Load:
    """What a person has before them and has done."""

    label: str
    assigned: int
    late: int
    decided: int
    signed: int
    returned: int


@dataclass(frozen=True, slots=True)
class Figures:
    """since: of decisions; what waits is as of now. agreement: signed of all that a second person has looked at."""

    since: date
    open: int
    late: int
    second: int
    ages: dict[str, int]
    days: list[tuple[date, dict[str, int]]]
    outcomes: dict[str, int]
    signed: int
    returned: int
    median_hours: float | None
    slowest_tenth_hours: float | None
    queues: list[Row]
    sources: list[Row]
    loads: list[Load]

    @property
    def agreement(self) -> float | None:
        looked_at = self.signed + self.returned
        return self.signed / looked_at if looked_at else None


def waiting(actor: Actor) -> dict[UUID | None, dict[str, int]]:
    """By queue (None: all together): {"open", "mine", "free", "late", "second"}, as the actor sees them."""
    items = access.items_of(actor).exclude(state__in=(State.CLOSED, State.DECIDED))
    is_open = Q(state=State.OPEN)
    counts = {
        "open": Count("pk", filter=is_open),
        "mine": Count("pk", filter=is_open & Q(assignee_id=actor.user_id)),
        "free": Count("pk", filter=is_open & Q(assignee_id=None)),
        "late": Count("pk", filter=Q(due__lt=clock.now())),
        "second": Count("pk", filter=Q(state=State.SECOND) & ~Q(decided_by_id=actor.user_id)),
    }
    found: dict[UUID | None, dict[str, int]] = {None: items.aggregate(**counts)}
    for queue_id, *row in (
        items.order_by().values_list("queue_id").annotate(**counts).values_list("queue_id", *counts)
    ):
        found[queue_id] = dict(zip(counts, row, strict=True))
    return found


def figures(actor: Actor, *, days: int = 30) -> Figures:
    """The figures of the queues that the actor sees, with decisions of the last so many days."""
    require(actor, REVIEW_WORK)
    now = clock.now()
    since = (now - timedelta(days=days - 1)).date()
    items = access.items_of(actor)
    steps = ReviewStep.objects.filter(item__in=items.values("pk"), created__date__gte=since)
    decisions = steps.filter(~_taken_back(), deed=Deed.DECIDED)
    open_ = items.filter(state=State.OPEN)
    outcomes = _outcomes(decisions)
    times = _times(decisions)
    return Figures(
        since=since,
        open=open_.count(),
        late=items.filter(state__in=(State.OPEN, State.SECOND), due__lt=now).count(),
        second=items.filter(state=State.SECOND).count(),
        ages=_ages(open_),
        days=_by_day(decisions, since, now.date()),
        outcomes=outcomes,
        signed=steps.filter(deed=Deed.APPROVED).count(),
        returned=steps.filter(deed=Deed.RETURNED).exclude(actor_id=None).count(),
        median_hours=times[0],
        slowest_tenth_hours=times[1],
        queues=[
            _row(queue.name, items.filter(queue=queue), decisions.filter(item__queue=queue))
            for queue in access.queues_of(actor)
        ],
        sources=[
            _row(
                str(source.label),
                items.filter(pk__in=_flagged_by(source)),
                decisions.filter(item__in=_flagged_by(source)),
            )
            for source in Source
        ],
        loads=_loads(items, steps) if actor.can(REVIEW_MANAGE) else [],
    )


def _taken_back() -> Exists:
    """Of a decision: that its author took it back, so that it counts for nothing."""
    decision = Cast(KeyTextTransform("decision", "data"), IntegerField())
    back = ReviewStep.objects.filter(item=OuterRef("item"), deed=Deed.WITHDRAWN)
    return Exists(back.annotate(decision=decision).filter(decision=OuterRef("seq")))


def _flagged_by(source: Source) -> QuerySet[Flag, Any]:
    return Flag.objects.filter(source=source).values("item")


def _ages(open_: QuerySet[ReviewItem]) -> dict[str, int]:
    """How many have waited for up to so many days, by the codes of AGES, and "more"."""
    now, counts = clock.now(), {}
    newer_than: dict[str, datetime] = {}
    for days, code in AGES:
        counts[code] = Count("pk", filter=Q(opened__gt=now - timedelta(days=days), **newer_than))
        newer_than = {"opened__lte": now - timedelta(days=days)}
    counts["more"] = Count("pk", filter=Q(**newer_than))
    return open_.aggregate(**counts)


def _outcomes(decisions: QuerySet[ReviewStep]) -> dict[str, int]:
    counted = dict(decisions.order_by().values_list("outcome").annotate(Count("pk")))
    return {outcome: counted.get(outcome, 0) for outcome in Outcome.values}


def _by_day(decisions: QuerySet[ReviewStep], since: date, until: date) -> list[tuple[date, dict[str, int]]]:
    rows = decisions.order_by().annotate(day=TruncDate("created")).values_list("day", "outcome")
    counted = {(day, outcome): count for day, outcome, count in rows.annotate(count=Count("pk"))}
    days = [since + timedelta(days=number) for number in range((until - since).days + 1)]
    return [(day, {outcome: counted.get((day, outcome), 0) for outcome in Outcome.values}) for day in days]


def _times(decisions: QuerySet[ReviewStep]) -> tuple[float | None, float | None]:
    """Median and 90th percentile of the hours from the flag to the decision."""
    waited = decisions.filter(data__has_key="waited_s").order_by()
    hours = Cast(KeyTextTransform("waited_s", "data"), FloatField()) / 3600
    found = waited.annotate(hours=hours).aggregate(
        half=Percentile("hours", 0.5), tenth=Percentile("hours", 0.9)
    )
    return found["half"], found["tenth"]


def _row(label: str, items: QuerySet[ReviewItem], decisions: QuerySet[ReviewStep]) -> Row:
    now = clock.now()
    counts = items.aggregate(
        open=Count("pk", filter=Q(state=State.OPEN)),
        late=Count("pk", filter=Q(state__in=(State.OPEN, State.SECOND), due__lt=now)),
        second=Count("pk", filter=Q(state=State.SECOND)),
    )
    return Row(label, **counts, decided=_outcomes(decisions), hours=_times(decisions)[0])


def _loads(items: QuerySet[ReviewItem], steps: QuerySet[ReviewStep]) -> list[Load]:
    now = clock.now()
    assigned = items.filter(state=State.OPEN).exclude(assignee_id=None).order_by().values("assignee_id")
    before = {
        row["assignee_id"]: (row["count"], row["late"])
        for row in assigned.annotate(count=Count("pk"), late=Count("pk", filter=Q(due__lt=now)))
    }
    deeds = (Deed.DECIDED, Deed.APPROVED, Deed.RETURNED)
    rows = (
        steps.filter(~_taken_back(), deed__in=deeds)
        .exclude(actor_id=None)
        .order_by()
        .values_list("actor_id", "deed")
    )
    done = {(actor_id, deed): count for actor_id, deed, count in rows.annotate(count=Count("pk"))}
    everybody = {*before, *(actor_id for actor_id, _deed in done)}
    names = people.names(everybody)
    loads = [
        Load(
            names.get(person, "–"),
            *before.get(person, (0, 0)),
            *(done.get((person, deed), 0) for deed in deeds),
        )
        for person in everybody
    ]
    return sorted(loads, key=lambda load: (-load.assigned, load.label))
