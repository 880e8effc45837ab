"""Gives closed records and statements their places in a tenant's log, signs heads, and has them laid down.

Closing a record only leaves a row in the outbox, so it stays cheap; the worker comes by every two seconds. All of it is
done under a lock a tenant, in one order for all processes. Whatever ends in the middle is taken up by the next run:
places and the emptied outbox are committed together, and a head is handed over only once it is committed.
"""

import itertools
import logging
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Max

from audit.models import AuditRecord
from audit.record import handle_of
from audit.selectors import first_id_at
from audit.tree import anchors, metrics, selectors, signing, statements, stored
from audit.tree.models import Anchoring, Checkpoint, Leaf, Pending, Statement
from audit.tree.notes import Checkpoint as Head
from audit.tree.notes import signed
from tenants import clock
from tenants.ids import day_of, uuid7
from tenants.models import Tenant
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

BATCH = 2000
MOST_BATCHES = (
    10  # In one run of the worker: the others' logs wait no longer for one that has much to make up for.
)
SIGN_EVERY = timedelta(seconds=10)
SIGN_LEAVES = 256

# Whatever was closed within this time is compared with the log every minute; older records by `verification`.
LOOK_BACK = timedelta(minutes=30)
_LOOK_EVERY = timedelta(minutes=1)
_looked: dict[UUID, datetime] = {}
_told_to_wait: set[UUID] = set()


class _Waiting(NamedTuple):
    request_id: UUID
    day: date
    is_statement: bool
    since: datetime


def extend_all() -> None:
    """`extend` every tenant's log. One that cannot be is logged and holds up no other."""
    for tenant_id in Tenant.objects.order_by("pk").values_list("pk", flat=True):
        try:
            extend(tenant_id)
        except Exception:
            logger.exception("the log of tenant %s could not be extended", tenant_id)


def extend(tenant_id: UUID, *, sign_now: bool = False) -> None:
    """Give what waits its place, sign a head when it is time, hand it to the witness.

    sign_now: all that waits, however much that is, and a head over it at once.

    Call outside of transactions: a head that is not committed must not become known. Raises DatabaseError, Broken.
    """
    if connection.in_atomic_block and not connection.atomic_blocks[-1]._from_testcase:  # type: ignore[attr-defined]
        raise RuntimeError("a log is extended outside of transactions")
    _look_for_lost(tenant_id)
    _sequence(tenant_id, None if sign_now else MOST_BATCHES)
    _sign(tenant_id, sign_now)
    _lay_down(tenant_id)
    _measure(tenant_id)


def _sequence(tenant_id: UUID, most: int | None) -> None:
    after: _Waiting | None = None
    for _ in itertools.count() if most is None else range(most):
        with tenant_scope(tenant_id):
            _lock(tenant_id, "log")
            waiting = _waiting(after)
            if not waiting:
                return
            known = set(
                Leaf.objects.filter(request_id__in=[each.request_id for each in waiting]).values_list(
                    "request_id", flat=True
                )
            )
            new = [each for each in waiting if each.request_id not in known]
            leaves = list(_leaves(tenant_id, new))
            if leaves:
                stored.append(stored.size(), leaves, tenant_id)
            # What has no row stays, and is told of as late: somebody may have taken the row away.
            placed = known | {leaf[1] for leaf in leaves}
            Pending.objects.filter(request_id__in=placed).delete()
        metrics.leaves.inc(len(leaves))
        after = waiting[-1]


def _waiting(after: _Waiting | None) -> list[_Waiting]:
    """The next of the outbox, oldest first."""
    beyond, values = "", list[Any]()
    if after is not None:
        beyond, values = "WHERE (since, request_id) > (%s, %s)", [after.since, after.request_id]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT request_id, day, is_statement, since FROM audit_pending {beyond} "
            "ORDER BY since, request_id LIMIT %s",
            [*values, BATCH],
        )
        return [_Waiting(*row) for row in cursor.fetchall()]


def _leaves(tenant_id: UUID, waiting: list[_Waiting]) -> Iterator[stored.NewLeaf]:
    """The leaves of what waits, in its order."""
    records = {each.request_id: each.day for each in waiting if not each.is_statement}
    with connection.cursor() as cursor:
        # One after the other by their keys: the planner would read whole days otherwise.
        cursor.execute(
            "SELECT wanted.id, ended.leaf_digest, record.kind, record.schema "
            "FROM unnest(%s::uuid[], %s::date[]) AS wanted (id, day) "
            "CROSS JOIN LATERAL (SELECT leaf_digest FROM audit_completion AS c "
            "WHERE c.day = wanted.day AND c.request_id = wanted.id LIMIT 1) AS ended "
            "CROSS JOIN LATERAL (SELECT kind, schema FROM audit_record AS r "
            "WHERE r.day = wanted.day AND r.id = wanted.id LIMIT 1) AS record",
            [list(records), list(records.values())],
        )
        rows = {row[0]: row[1:] for row in cursor.fetchall()}
    stated = Statement.objects.filter(id__in=[each.request_id for each in waiting if each.is_statement])
    said = {row.pk: row.text for row in stated if statements.is_signed(row)}
    for each in waiting:
        if each.is_statement and each.request_id in said:
            yield statements.hash_of(said[each.request_id]), each.request_id, each.day, Leaf.STATEMENT
        elif not each.is_statement and each.request_id in rows:
            digest, kind, schema = rows[each.request_id]
            record = AuditRecord(tenant_id=tenant_id, id=each.request_id, kind=kind, schema=schema)
            yield bytes(digest), each.request_id, each.day, str(handle_of(record).keeping)


def _sign(tenant_id: UUID, sign_now: bool) -> None:
    with tenant_scope(tenant_id):
        _lock(tenant_id, "log")
        size = stored.size()
        newest = Checkpoint.objects.order_by("-size").first()
        if size <= (newest.size if newest else 0):
            return
        now = clock.now()
        is_due = newest is None or size - newest.size >= SIGN_LEAVES or now - newest.created >= SIGN_EVERY
        if not (is_due or sign_now):
            return
        signer = signing.signer(tenant_id)
        head = Head(signer.name, size, stored.Stored().root(size))
        note = signed(str(head), [signer.line(str(head))])
        Checkpoint(tenant_id=tenant_id, size=size, root=head.root, note=note, created=now).save(
            force_insert=True
        )
    metrics.checkpoints.inc()


def _lay_down(tenant_id: UUID) -> None:
    """Hand the newest head to every anchor that has not seen it; those between are covered by its consistency."""
    for anchor in anchors.configured():
        with tenant_scope(tenant_id):
            # One process at a time, which looks only then: a head that comes late would seem to be an old one.
            _lock(tenant_id, anchor.name)
            newest = Checkpoint.objects.order_by("-size").first()
            laid = Anchoring.objects.filter(anchor=anchor.name)
            if newest is None or laid.filter(size=newest.size, outcome=Anchoring.Outcome.ACCEPTED).exists():
                continue
            accepted = laid.filter(outcome=Anchoring.Outcome.ACCEPTED)
            last = accepted.aggregate(last=Max("size"))["last"] or 0
            try:
                line = anchor.lay_down(newest.note, last=last, subtree=stored.Stored().subtree)
                result = Anchoring(outcome=Anchoring.Outcome.ACCEPTED, signature=line)
                _told_to_wait.discard(tenant_id)
            except anchors.Away as error:
                if tenant_id not in _told_to_wait:  # Once, and not every two seconds.
                    logger.warning("heads of tenant %s wait: %s", tenant_id, error)
                    _told_to_wait.add(tenant_id)
                continue
            except anchors.Refused as error:
                # Tried again each time, and kept once.
                if laid.filter(size=newest.size).exists():
                    continue
                logger.error("ALARM: the head of tenant %s was refused: %s", tenant_id, error)
                result = Anchoring(outcome=Anchoring.Outcome.REFUSED, detail=error.why)
            result.id, result.tenant_id, result.anchor, result.size = (
                uuid7(),
                tenant_id,
                anchor.name,
                newest.size,
            )
            result.save(force_insert=True)


def _look_for_lost(tenant_id: UUID) -> None:
    """Closed records without leaf and outbox row: the row was taken away, or they are older than the log."""
    now = clock.now()
    looked = _looked.get(tenant_id)
    if looked is not None and now - looked < _LOOK_EVERY:
        return
    # A process looks through all once, and then only at what can have been closed since.
    since = first_id_at(now - LOOK_BACK) if looked is not None else UUID(int=0)
    with tenant_scope(tenant_id):
        _lock(tenant_id, "log")
        days = selectors.days_with_records(since=day_of(since) if looked is not None else None)
        lost = sum(_put_back(day, since) for day in days) + _put_back_statements()
    _looked[tenant_id] = now
    if lost:
        metrics.lost.inc(lost)
        logger.warning("%s closed records of tenant %s were not in the outbox", lost, tenant_id)


def _put_back(day: date, since: UUID) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_pending (tenant_id, request_id, day, is_statement, since) "
            "SELECT c.tenant_id, c.request_id, c.day, false, c.created FROM audit_completion AS c "
            "WHERE c.day = %s AND c.request_id >= %s "
            "AND NOT EXISTS (SELECT FROM audit_leaf AS l WHERE l.tenant_id = c.tenant_id AND l.request_id = c.request_id) "
            "ON CONFLICT DO NOTHING",
            [day, since],
        )
        return cursor.rowcount


def _put_back_statements() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_pending (tenant_id, request_id, day, is_statement, since) "
            "SELECT s.tenant_id, s.id, (s.created AT TIME ZONE 'UTC')::date, true, s.created FROM audit_statement AS s "
            "WHERE NOT EXISTS (SELECT FROM audit_leaf AS l WHERE l.tenant_id = s.tenant_id AND l.request_id = s.id) "
            "ON CONFLICT DO NOTHING"
        )
        return cursor.rowcount


def _measure(tenant_id: UUID) -> None:
    with tenant_scope(tenant_id):
        state = selectors.alarms()
    label = str(tenant_id)
    metrics.late.labels(label).set(state.late)
    metrics.refused.labels(label).set(bool(state.refusals))
    metrics.unanchored.labels(label).set(state.unanchored_s)


def _lock(tenant_id: UUID, what: str) -> None:
    """Until the end of the transaction nobody else does this for the tenant."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{what}:{tenant_id}"])
