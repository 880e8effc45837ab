"""A day goes: what is open is closed, a tombstone is stated, its keys are destroyed, its rows deleted.

Tombstone, keys and rows go in one transaction, so no crash leaves one without the other; the part of the key that lies
outside the database is removed when that is committed, and by the next run if it was not. Every tenant and day is on
its own: what fails is told, tried again five minutes later, and holds up nothing else. The functions that delete check
for themselves that the day is due.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Exists, Max, OuterRef

from audit import reaper, record, tree
from audit.models import AuditCompletion, Status
from audit.record import Handle, Keeping
from audit.retention import erasure, holds, metrics, policies, schedule
from audit.retention.models import Tombstone
from audit.retention.schedule import Day
from audit.tree import selectors, statements
from tenants import envelope
from tenants.keyring import data_keys
from tenants.models import DataKey, Tenant, TenantKey
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

# A day of millions of rows may take its time; nobody waits for it.
_TIMEOUT = "15min"
_TABLES = {
    "audit_chunk": (Keeping.REQUESTS,),
    "audit_completion": tuple(Keeping),
    "audit_record": tuple(Keeping),
}


class NotYet(Exception):
    """The day cannot go now; the next run tries again."""


@dataclass(frozen=True, slots=True)
class Gone:
    """What went. statement: the tombstone's."""

    keeping: Keeping
    day: date
    records: int
    size: int
    statement: UUID


def run_all() -> int:
    """Let go what is due, of every tenant; how many days went. Does nothing while the clocks disagree."""
    try:
        at = schedule.now()
    except schedule.ClocksDisagree as error:
        metrics.failures.labels("clock").inc()
        logger.error("ALARM: nothing goes under retention: %s. Set the clocks right.", error)
        return 0
    went = waiting = 0
    for tenant_id in Tenant.objects.order_by("pk").values_list("pk", flat=True):
        went += len(run(tenant_id, at))
        waiting += len(_tried("look", tenant_id, partial(_alarm, tenant_id, at)) or ())
    metrics.waiting.set(waiting)
    _tried("partitions", None, drop_empty)
    return went


def run(tenant_id: UUID, at: datetime) -> list[Gone]:
    """Let go what is due of one tenant. What fails is logged."""
    _tried("mend", tenant_id, partial(data_keys.sweep, tenant_id))
    _tried("erase", tenant_id, partial(erasure.carry_out, tenant_id))
    _tried("release", tenant_id, partial(holds.carry_out, tenant_id))
    _tried("announce", tenant_id, partial(schedule.announce, tenant_id, at))
    days = _tried("look", tenant_id, partial(schedule.ready, tenant_id, at)) or []
    gone = (_tried("destroy", tenant_id, partial(let_go, tenant_id, each)) for each in days)
    return [each for each in gone if each is not None]


def let_go(tenant_id: UUID, day: Day) -> Gone:
    """Destroy one day's records of one keeping. Raises NotYet, and DatabaseError where the database refuses."""
    _close_open(tenant_id, day)
    tree.extend(tenant_id)
    with tenant_scope(tenant_id):
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [_TIMEOUT])
            cursor.execute("SELECT audit_lock_day(%s)", [day.day])
        if not selectors.is_sequenced(day.day):
            raise NotYet(f"records of {day.day} have no place in the log yet")
        tombstone = _tombstone(tenant_id, day)
        envelope.destroy(tenant_id, day.keeping, day.day)
        records = _delete(day)
    assert tombstone.statement is not None
    metrics.destroyed.labels(day.keeping).inc(records)
    logger.info("%s records (%s) of %s went, tenant %s", records, day.keeping, day.day, tenant_id)
    return Gone(day.keeping, day.day, records, tombstone.size, tombstone.statement)


def drop_empty() -> int:
    """Drop the partitions in which no tenant has anything left; how many. Keys tell which are worth a look.

    None newer than the newest day that went: after a jump of the clock nothing goes for a day, and so the partitions of
    what is in truth today stay where records are about to be written.
    """
    kept: dict[Keeping, set[date]] = {keeping: set() for keeping in Keeping}
    newest = date.min
    for tenant_id in Tenant.objects.order_by("pk").values_list("pk", flat=True):
        with tenant_scope(tenant_id):
            last = Tombstone.objects.exclude(finished=None).aggregate(last=Max("day"))["last"]
            newest = max(newest, last or date.min)
            keys = DataKey.objects.filter(purpose__in=list(Keeping)).values_list("purpose", "day")
            for purpose, day in keys:
                kept[Keeping(purpose)].add(day)
            if not TenantKey.objects.exists():  # Its keys went with it; its rows go when they are due.
                for days in kept.values():
                    days.update(schedule.days_with_rows(newest))
    dropped = 0
    for table, keepings in _TABLES.items():
        for day in _partitions(table):
            if day <= newest and not any(day in kept[keeping] for keeping in keepings):
                dropped += _tried("partitions", None, partial(_drop, table, day)) or 0
    return dropped


def _tried(step: str, tenant_id: UUID | None, deed: Callable[[], Any]) -> Any:
    """The deed's result; None when it failed, which is logged and counted."""
    try:
        return deed()
    except NotYet as error:
        logger.info("retention of tenant %s waits: %s", tenant_id, error)
    except Exception:
        metrics.failures.labels(step).inc()
        logger.exception(
            "retention of tenant %s failed in the step %s; the next run tries again", tenant_id, step
        )
    return None


def _alarm(tenant_id: UUID, at: datetime) -> list[Day]:
    waiting = schedule.waiting(tenant_id, at)
    by_keeping = {keeping: sum(each.keeping == keeping for each in waiting) for keeping in Keeping}
    for keeping, days in by_keeping.items():
        if days > 1:
            logger.error(
                "ALARM: %s days (%s) of tenant %s would go at once, and were not announced before. They wait for a "
                "day. Check the clocks.",
                days,
                keeping,
                tenant_id,
            )
    return waiting


def _close_open(tenant_id: UUID, day: Day) -> None:
    """Nobody is left who could close what was begun on a day that is over; a record without an end has no leaf."""
    with tenant_scope(tenant_id):
        closed = AuditCompletion.objects.filter(day=day.day, request_id=OuterRef("id"))
        left = schedule.of_keeping(day.keeping, day.day).exclude(Exists(closed))
        ids = list(left.values_list("id", flat=True))
    for request_id in ids:
        record.complete(
            Handle(tenant_id, request_id, day.keeping),
            status=Status.INTERRUPTED,
            error_code=reaper.RUNNER_LOST,
            timings=record.Timings(queue_ms=None, total_ms=None),
        )


def _tombstone(tenant_id: UUID, day: Day) -> Tombstone:
    amount = schedule.amounts(day.keeping, [day.day])[day.day]
    extent = selectors.extent(day.day, day.keeping)
    days = policies.in_force(tenant_id)[day.keeping].days
    if extent["count"] != amount.records:
        logger.error(
            "ALARM: %s records (%s) of %s of tenant %s are in the log, and %s in the tables",
            extent["count"],
            day.keeping,
            day.day,
            tenant_id,
            amount.records,
        )
    body = {
        **extent,
        "rows": amount.records,
        "key": f"{day.keeping}/{day.day.isoformat()}",
        "reason": "retention",
        "policy": {"days": days},
    }
    stated = statements.state(statements.TOMBSTONE, body)
    tombstone = Tombstone(
        keeping=day.keeping,
        day=day.day,
        count=amount.records,
        size=amount.size,
        first=extent["first"],
        last=extent["last"],
        root=bytes.fromhex(extent["root"]),
        days=days,
        statement=stated.id,
    )
    tombstone.save(force_insert=True)
    return tombstone


def _delete(day: Day) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_retention_delete(%s, %s)", [day.keeping, day.day])
        records: int = cursor.fetchone()[0]
    return records


def _partitions(table: str) -> list[date]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT to_date(right(part.relname, 8), 'YYYYMMDD') FROM pg_inherits "
            "JOIN pg_class AS part ON part.oid = inhrelid WHERE inhparent = to_regclass(%s) ORDER BY 1",
            [f"public.{table}"],
        )
        return [row[0] for row in cursor.fetchall()]


def _drop(table: str, day: date) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_drop_empty(%s, %s)", [table, day])
        was_dropped: bool = cursor.fetchone()[0]
        if was_dropped and table == "audit_record":
            cursor.execute("SELECT audit_search_forget(%s)", [day])
    return int(was_dropped)
