"""Which day goes when.

A UTC day's records go at the end of that day plus their policy's days. That a day will go is announced a day before,
and a day that was not announced does not go for another day, whoever asks: so a clock that jumps years ahead finds one
day to destroy at most, and people have a day to look at why so many others wait. Every day with records has a key, so
the days are found by their keys, of which there are few.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import Coalesce

from audit.models import AuditCompletion, AuditRecord
from audit.record import READINGS, REQUESTS, Keeping
from audit.retention import policies
from audit.retention.models import Notice
from tenants import clock
from tenants.models import DataKey, TenantKey
from tenants.scope import tenant_scope

WAIT = timedelta(hours=24)
# Announced so long before it is due that the worker's next runs still come early enough.
AHEAD = WAIT + timedelta(hours=1)
# Two clocks that differ by more are not both right.
CLOCKS_APART = timedelta(minutes=3)


class ClocksDisagree(Exception):
    """The database's clock and this machine's tell different times, so nothing is destroyed."""


@dataclass(frozen=True, slots=True)
class Day:
    """A day's records of one keeping, and when they go.

    due: by the policy that counts or will. announced: since when it counts as said; None: not yet. goes: from when on
    the worker destroys it.
    """

    keeping: Keeping
    day: date
    due: datetime
    announced: datetime | None

    @property
    def goes(self) -> datetime | None:
        if self.announced is None:
            return None
        return max(self.due, self.announced + WAIT)


@dataclass(frozen=True, slots=True)
class Amount:
    """records: how many. size: bytes of their output."""

    records: int
    size: int


def end_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def now() -> datetime:
    """The database's time. Raises ClocksDisagree. Inside a scope or outside."""
    theirs, ours = policies.database_time(), clock.now()
    if abs(theirs - ours) > CLOCKS_APART:
        raise ClocksDisagree(
            f"the database says {theirs:%Y-%m-%d %H:%M:%S}, this machine {ours:%Y-%m-%d %H:%M:%S}"
        )
    return theirs


def days(tenant_id: UUID, at: datetime, *, within: timedelta = timedelta(0)) -> list[Day]:
    """Those that are due by `at` + within, oldest first. Opens the tenant's scope."""
    until, found = at + within, []
    with tenant_scope(tenant_id):
        for policy in policies.in_force(tenant_id).values():
            latest = (until - timedelta(days=1)).date()
            for day in sorted(_present(policy.keeping, latest)):
                due = _due(policy, day)
                if due <= until:
                    found.append(_day(policy.keeping, day, due, at))
    return sorted(found, key=lambda each: (each.day, each.keeping))


def announce(tenant_id: UUID, at: datetime) -> int:
    """Say which days will go; how many were not said before. Opens the tenant's scope."""
    fresh = [each for each in days(tenant_id, at, within=AHEAD) if each.announced is None]
    with tenant_scope(tenant_id):
        # One by one: a trigger gives each its time.
        for each in fresh:
            Notice.objects.create(keeping=each.keeping, day=each.day)
    return len(fresh)


def ready(tenant_id: UUID, at: datetime) -> list[Day]:
    """Those that go now. Opens the tenant's scope."""
    return [each for each in days(tenant_id, at) if each.goes is not None and each.goes <= at]


def waiting(tenant_id: UUID, at: datetime) -> list[Day]:
    """Those that are due and were not announced in time, as after a long stop or a jump of the clock."""
    return [each for each in days(tenant_id, at) if each.goes is None or each.goes > at]


def amounts(keeping: Keeping, wanted: Collection[date]) -> dict[date, Amount]:
    """How much each of these days holds. Inside the tenant's scope."""
    found: dict[date, Amount] = {}
    for day in wanted:
        records = of_keeping(keeping, day)
        closed = AuditCompletion.objects.filter(day=day, request_id__in=records.values("id"))
        size = closed.aggregate(size=Coalesce(Sum("output_bytes"), 0))["size"]
        found[day] = Amount(records.aggregate(count=Count("id"))["count"], int(size))
    return found


def of_keeping(keeping: Keeping, day: date) -> QuerySet[AuditRecord]:
    """A day's records that go together, without their content. Inside the tenant's scope."""
    first_schema = AuditRecord.objects.filter(day=day, schema=1)
    later = AuditRecord.objects.filter(day=day).exclude(schema=1)
    match keeping:
        case Keeping.REQUESTS:  # Events of the first schema were sealed as requests are, and go with them.
            found = first_schema | later.filter(kind__in=REQUESTS)
        case Keeping.READINGS:
            found = later.filter(kind__in=READINGS)
        case Keeping.CHANGES:
            found = later.exclude(kind__in=(*REQUESTS, *READINGS))
    return found.defer("input", "parameters", "context").order_by("id")


def _due(policy: policies.InForce, day: date) -> datetime:
    """By the policy that counts, or by a shorter one from when on that counts."""
    due = end_of(day) + timedelta(days=policy.days)
    if policy.pending is None or policy.pending.effective is None:
        return due
    return min(due, max(end_of(day) + timedelta(days=policy.pending.days), policy.pending.effective))


def _present(keeping: Keeping, latest: date) -> set[date]:
    """Days with something to destroy: a key, or records whose keys went with their tenant."""
    keys = DataKey.objects.filter(purpose=keeping, day__lte=latest).values_list("day", flat=True)
    if TenantKey.objects.exists():
        return set(keys)
    return {*keys, *(day for day in days_with_rows(latest) if of_keeping(keeping, day).exists())}


def days_with_rows(latest: date) -> Iterator[date]:
    """Days up to that one of which the tenant has records. Inside its scope."""
    # From one to the next by the index, for there may be many rows.
    rows = AuditRecord.objects.filter(day__lte=latest).order_by("day").values_list("day", flat=True)
    day = rows.first()
    while day is not None:
        yield day
        day = rows.filter(day__gt=day).first()


def _day(keeping: Keeping, day: date, due: datetime, at: datetime) -> Day:
    # What was said by a clock that ran ahead was not said yet.
    said = Notice.objects.filter(keeping=keeping, day=day, announced__lte=at)
    return Day(keeping, day, due, said.order_by("announced").values_list("announced", flat=True).first())
