"""Reading the log: a record's place and proof, what is proven of a day, and what is wrong.

All within the tenant's scope. None of it tells what a record holds; who may know that there is such a record is the
caller's to check.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Min

from audit.tree import anchors, merkle, stored
from audit.tree.models import Anchoring, Checkpoint, Leaf, Pending
from tenants import clock
from tenants.access import NotVisible

LATE_AFTER = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head of the log. note: signed by the log, and by the witness when `witnessed` (when it had seen it)."""

    size: int
    root: bytes
    created: datetime
    note: str
    witnessed: datetime | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record or statement stands. checkpoint: the first head that covers it; None until one is signed."""

    sequence: int
    leaf: bytes
    day: date
    keeping: str
    checkpoint: SignedHead | None


@dataclass(frozen=True, slots=True)
class Proof:
    """That a leaf stands in the log whose head is `checkpoint`: `path` leads from it to the root, upwards."""

    sequence: int
    leaf: bytes
    path: list[bytes]
    checkpoint: SignedHead


@dataclass(frozen=True, slots=True)
class Alarms:
    """What must not be. late: closed records without a place after a minute. refusals: why the witness refused (anchors.Refusal)."""

    late: int
    refusals: list[str]
    unanchored_s: float


def place_of(request_id: UUID) -> Place | None:
    """Where the record stands; None while it waits for its place."""
    leaf = Leaf.objects.filter(request_id=request_id).first()
    if leaf is None:
        return None
    covering = Checkpoint.objects.filter(size__gt=leaf.seq).order_by("size").first()
    head = _head(covering) if covering else None
    return Place(leaf.seq, bytes(leaf.hash), leaf.day, leaf.keeping, head)


def proof_of(request_id: UUID, hashes: stored.Stored | None = None) -> Proof | None:
    """The record's proof under the newest head that the witness knows, else the newest; None when none covers it.

    Raises Broken. hashes: to be used for many proofs in turn.
    """
    leaf = Leaf.objects.filter(request_id=request_id).first()
    head = newest_head() if leaf else None
    if leaf is None or head is None or head.size <= leaf.seq:
        return None
    subtree = (hashes or stored.Stored()).subtree
    return Proof(leaf.seq, bytes(leaf.hash), merkle.inclusion_proof(subtree, leaf.seq, head.size), head)


def continuation(old: int, new: int) -> list[bytes]:
    """What shows that the log of `new` entries begins with the one of `old`. Raises NotVisible for sizes it never had, Broken."""
    if not 0 < old <= new <= stored.size():
        raise NotVisible("log of that size")
    return merkle.consistency_proof(stored.Stored().subtree, old, new)


def newest_head(*, witnessed: bool = True) -> SignedHead | None:
    """The newest head that the witness has signed; else, or when it does not matter, the newest of all."""
    accepted = Anchoring.objects.filter(outcome=Anchoring.Outcome.ACCEPTED, anchor=anchors.WITNESS)
    laid = accepted.order_by("-size").first() if witnessed else None
    rows = Checkpoint.objects.order_by("-size")
    row = (rows.filter(size=laid.size).first() if laid else None) or rows.first()
    return _head(row) if row else None


def extent(day: date, keeping: str) -> dict[str, Any]:
    """What a tombstone states of a day's records: how many, from where to where, and the root over their leaves.

    {"day", "keeping", "first", "last", "count", "root"}; first and last are None when there are none. The root is over
    those leaves alone, in the order of their places.
    """
    leaves = Leaf.objects.filter(day=day, keeping=keeping).order_by("seq").values_list("seq", "hash")
    growing, first, last = merkle.Growing(), None, None
    for last, found in leaves.iterator(chunk_size=10_000):
        first = last if first is None else first
        growing.add(bytes(found))
    return {
        "day": day.isoformat(),
        "keeping": str(keeping),
        "first": first,
        "last": last,
        "count": growing.size,
        "root": growing.root().hex(),
    }


def is_sequenced(day: date) -> bool:
    """Whether every closed record of the day has its place, so that a tombstone can speak of all of them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM audit_pending WHERE day = %(day)s AND NOT is_statement) OR EXISTS ("
            "SELECT FROM audit_completion AS c WHERE c.day = %(day)s AND NOT EXISTS (SELECT FROM audit_leaf AS l "
            "WHERE l.tenant_id = c.tenant_id AND l.request_id = c.request_id))",
            {"day": day},
        )
        return not cursor.fetchone()[0]


def alarms() -> Alarms:
    """What is wrong right now, from few rows; `verification` looks at everything."""
    now = clock.now()
    late = Pending.objects.filter(since__lt=now - LATE_AFTER).count()
    laid = Anchoring.objects.filter(anchor=anchors.WITNESS)
    last = laid.order_by("-created", "-id").first()
    refused = last is not None and last.outcome == Anchoring.Outcome.REFUSED
    accepted = laid.filter(outcome=Anchoring.Outcome.ACCEPTED).order_by("-size").first()
    waiting = Checkpoint.objects.filter(size__gt=accepted.size if accepted else 0)
    oldest = waiting.aggregate(oldest=Min("created"))["oldest"]
    return Alarms(
        late=late,
        refusals=[last.detail] if refused else [],
        unanchored_s=(now - oldest).total_seconds() if oldest else 0.0,
    )


def days_with_records(since: date | None = None) -> list[date]:
    """The days, oldest first, of which there are tables of records; of whom is not said."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT to_date(right(part.relname, 8), 'YYYYMMDD') FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid "
            "WHERE inhparent = 'public.audit_completion'::regclass"
        )
        days = sorted(row[0] for row in cursor.fetchall())
    return [day for day in days if since is None or day >= since]


def _head(row: Checkpoint) -> SignedHead:
    laid = Anchoring.objects.filter(
        size=row.size, outcome=Anchoring.Outcome.ACCEPTED, anchor=anchors.WITNESS
    ).first()
    note = row.note + laid.signature if laid else row.note
    return SignedHead(row.size, bytes(row.root), row.created, note, laid.created if laid else None)
