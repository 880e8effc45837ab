"""Who read what and why. One's own readings, or everybody's for officers; all inside the tenant's scope."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Max, Q, QuerySet
from django.utils.translation import gettext as _

from audit import secrecy
from audit.models import AuditRecord
from audit.readers.access import sees_everybody
from audit.record import READINGS, handle_of, open_json, record_event
from audit.selectors import READ, ReasonRequired, first_id_at
from tenants import clock, envelope
from tenants.access import Actor, NotVisible, require
from tenants.ids import day_of
from tenants.roles import AUDIT_READ, REVIEW_MANAGE

PAGE_SIZE = 50
_USUAL_DAYS = 28


@dataclass(frozen=True, slots=True)
class Filters:
    """Narrow the readings; what is empty does not. `record`: the one that was opened."""

    user_id: UUID | None = None
    kind: str = ""
    since: datetime | None = None
    until: datetime | None = None
    record: UUID | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An opening, search or export. `reason` is None where it is not shown, "" where its key is gone."""

    id: UUID
    created: datetime
    kind: str
    reader_id: UUID | None
    reader: str
    record: UUID | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """One reader's openings, searches and exports of today (UTC), and their openings on a day of reading otherwise."""

    reader_id: UUID
    reader: str
    openings: int
    searches: int
    exports: int
    usual: float | None
    last: datetime


def readings(
    actor: Actor, filters: Filters = Filters(), cursor: str = "", limit: int = PAGE_SIZE
) -> tuple[list[Entry], str]:
    """A page, newest first, and the cursor of the next one ("" at the end). Raises NotVisible without audit.read.

    The reasons that the actor stated themselves are among it; those of others are shown by `with_reasons`.
    """
    rows, next_cursor = _page(actor, filters, cursor, limit)
    return [_entry(row, is_shown=row.user_id == actor.user_id) for row in rows], next_cursor


def with_reasons(
    actor: Actor, filters: Filters, cursor: str = "", limit: int = PAGE_SIZE, *, reason: str
) -> tuple[list[Entry], str]:
    """As `readings`, with everybody's reasons, once it is recorded that this actor looks at them and why.

    Raises NotVisible without review.manage, ReasonRequired, and AuditUnavailable.
    """
    require(actor, REVIEW_MANAGE)
    reason = reason.strip()
    if not reason:
        raise ReasonRequired(_("State why you look at their reasons."))
    rows, next_cursor = _page(actor, filters, cursor, limit)
    detail = {"reasons_of": [str(row.id) for row in rows], "reason": reason}
    record_event(actor=actor, kind=READ, detail=detail, client_address=actor.address)
    return [_entry(row, is_shown=True) for row in rows], next_cursor


def readers(actor: Actor) -> list[tuple[UUID, str]]:
    """Those who have read something, by address, for a filter."""
    found = _known(actor).exclude(user_id=None).order_by("user_label")
    return [
        (user_id, label)
        for user_id, label in found.values_list("user_id", "user_label").distinct()
        if user_id
    ]


def figures(actor: Actor) -> list[Figures]:
    """Of everybody who read within four weeks, most openings today first."""
    today = clock.today()
    recent = _known(actor).filter(day__gte=today - timedelta(days=_USUAL_DAYS)).exclude(user_id=None)
    on_day = recent.filter(day=today)
    nothing = {"openings": 0, "searches": 0, "exports": 0}
    counted: dict[UUID | None, dict[str, Any]] = {
        row["user_id"]: {name: value for name, value in row.items() if name != "user_id"}
        for row in on_day.order_by()
        .values("user_id")
        .annotate(
            openings=Count("id", filter=Q(kind=READ)),
            searches=Count("id", filter=Q(kind="audit.search")),
            exports=Count("id", filter=Q(kind="audit.export")),
        )
    }
    before = recent.filter(kind=READ, day__lt=today).order_by().values("user_id")
    usual = {
        row["user_id"]: row["n"] / row["days"]
        for row in before.annotate(n=Count("id"), days=Count("day", distinct=True))
    }
    people = recent.order_by().values("user_id").annotate(label=Max("user_label"), last=Max("created"))
    found = [
        Figures(
            reader_id=row["user_id"],
            reader=row["label"],
            **counted.get(row["user_id"], nothing),
            usual=usual.get(row["user_id"]),
            last=row["last"],
        )
        for row in people
        if row["user_id"]
    ]
    return sorted(found, key=lambda each: (-each.openings, each.reader))


def _known(actor: Actor) -> QuerySet[AuditRecord]:
    """The readings that exist for the actor."""
    require(actor, AUDIT_READ)
    found = secrecy.visible(actor, AuditRecord.objects.filter(kind__in=READINGS))
    return found if sees_everybody(actor) else found.filter(user_id=actor.user_id)


def _page(actor: Actor, filters: Filters, cursor: str, limit: int) -> tuple[list[AuditRecord], str]:
    found = _known(actor)
    if filters.user_id:
        found = found.filter(user_id=filters.user_id)
    if filters.kind:
        found = found.filter(kind=filters.kind)
    if filters.record:
        found = found.filter(subject_id=filters.record)
    if filters.since:
        first = first_id_at(filters.since)
        found = found.filter(day__gte=day_of(first), id__gte=first)
    if filters.until:
        end = first_id_at(filters.until)
        found = found.filter(day__lte=day_of(end), id__lt=end)
    if cursor:
        try:
            last = UUID(cursor)
            found = found.filter(day__lte=day_of(last), id__lt=last)
        except (ValueError, OverflowError) as error:
            raise NotVisible(READ) from error
    rows = list(found.defer("parameters", "context").order_by("-day", "-id")[: limit + 1])
    return rows[:limit], str(rows[limit - 1].id) if len(rows) > limit else ""


def _entry(row: AuditRecord, *, is_shown: bool) -> Entry:
    return Entry(
        id=row.id,
        created=row.created,
        kind=row.kind,
        reader_id=row.user_id,
        reader=row.user_label,
        record=row.subject_id,
        reason=_reason(row) if is_shown else None,
    )


def _reason(row: AuditRecord) -> str:
    try:
        return str(open_json(handle_of(row), field="input", sealed=row.input).get("reason", ""))
    except (envelope.KeyDestroyed, envelope.Tampered):
        return ""
