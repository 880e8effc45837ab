"""What goes when, what would go now, what went, and what is held: read only, for the page and the command line.

What cases hold is counted for those inside of them alone: a number that rises after somebody asked something odd would
tell that they are looked into.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count

from audit import secrecy
from audit.record import Keeping
from audit.retention import schedule
from audit.retention.models import Hold, Tombstone
from audit.retention.schedule import Amount, Day
from audit.tree import selectors
from audit.tree.models import Statement
from tenants.actors import Actor, NotVisible, require
from tenants.roles import AUDIT_LIST, RETENTION_MANAGE
from tenants.scope import tenant_scope

AHEAD = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Planned:
    """A day that goes. goes: when; None: not announced yet, so at its due time unless that is less than a day away."""

    keeping: Keeping
    day: date
    due: datetime
    goes: datetime | None
    is_late: bool
    amount: Amount


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A day that would go now, and what its tombstone would say."""

    keeping: Keeping
    day: date
    amount: Amount
    first: int | None
    last: int | None
    root: str

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "keeping": self.keeping.value,
            "day": self.day.isoformat(),
            "records": self.amount.records,
            "bytes": self.amount.size,
            "first": self.first,
            "last": self.last,
            "root": self.root,
        }


@dataclass(frozen=True, slots=True)
class Stated:
    """A tombstone, the very text that its leaf covers, and its proof; None while no checkpoint covers it."""

    tombstone: Tombstone
    text: str
    proof: selectors.Proof | None


@dataclass(frozen=True, slots=True)
class HeldFor:
    """How many records a case holds."""

    case_id: UUID
    records: int


def planned(actor: Actor, within: timedelta = AHEAD) -> list[Planned]:
    """What goes within that time, soonest first. Raises NotVisible and ClocksDisagree."""
    require(actor, AUDIT_LIST)
    return plan(actor.tenant_id, schedule.now(), within=within)


def plan(tenant_id: UUID, at: datetime, *, within: timedelta = AHEAD) -> list[Planned]:
    """As `planned`, for the command line. Opens the tenant's scope."""
    with tenant_scope(tenant_id):
        found = [_planned(each, at) for each in schedule.days(tenant_id, at, within=within)]
    return sorted(found, key=lambda each: (each.goes or each.due, each.day, each.keeping))


def rehearsed(actor: Actor) -> list[Rehearsed]:
    """What would go now. Raises NotVisible and ClocksDisagree."""
    require(actor, AUDIT_LIST)
    return rehearse(actor.tenant_id, schedule.now())


def rehearse(tenant_id: UUID, at: datetime) -> list[Rehearsed]:
    """What a run would destroy now, and how its tombstones would read. Changes nothing. Opens the tenant's scope."""
    with tenant_scope(tenant_id):
        return [_rehearsed(each) for each in schedule.ready(tenant_id, at)]


def gone(actor: Actor, most: int = 60) -> list[Tombstone]:
    """What went, newest first. Raises NotVisible."""
    require(actor, AUDIT_LIST)
    with tenant_scope(actor.tenant_id):
        return list(Tombstone.objects.exclude(finished=None).order_by("-finished", "-day")[:most])


def stated(actor: Actor, tombstone_id: UUID) -> Stated:
    """A tombstone with what proves it. Raises NotVisible."""
    require(actor, AUDIT_LIST)
    with tenant_scope(actor.tenant_id):
        tombstone = Tombstone.objects.filter(pk=tombstone_id).first()
        statement = Statement.objects.filter(pk=tombstone.statement).first() if tombstone else None
        if tombstone is None or statement is None:
            raise NotVisible("tombstone")
        return Stated(tombstone, statement.text, selectors.proof_of(statement.pk))


def held(actor: Actor) -> list[HeldFor]:
    """What the cases hold that the actor is inside of. Raises NotVisible."""
    require(actor, RETENTION_MANAGE)
    with tenant_scope(actor.tenant_id):
        rows = Hold.objects.filter(case_id__in=secrecy.inside(actor)).values("case_id")
        counts = rows.annotate(records=Count("request_id")).order_by("case_id")
        return [HeldFor(row["case_id"], row["records"]) for row in counts]


def _planned(day: Day, at: datetime) -> Planned:
    amount = schedule.amounts(day.keeping, [day.day])[day.day]
    goes = day.goes
    return Planned(day.keeping, day.day, day.due, goes, day.due <= at and (goes is None or goes > at), amount)


def _rehearsed(day: Day) -> Rehearsed:
    extent = selectors.extent(day.day, day.keeping)
    return Rehearsed(
        day.keeping,
        day.day,
        schedule.amounts(day.keeping, [day.day])[day.day],
        extent["first"],
        extent["last"],
        extent["root"],
    )
