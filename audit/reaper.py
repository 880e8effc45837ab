"""Closes orphans: records of generations whose process died before it could close them.

A running generation keeps a heartbeat in Valkey (renewed at least every 5 s, gone after 15 s). A record without a
completion, without a heartbeat and older than 20 s has nobody left to close it; the worker looks every 15 s, so each
is closed within 60 s of its process's death, as "interrupted", with what was recorded until then.
"""

import logging
from datetime import datetime, timedelta
from uuid import UUID

import redis
from django.conf import settings
from django.db.models import Exists, OuterRef

from audit import metrics, record
from audit.models import AuditChunk, AuditCompletion, AuditRecord, Status
from audit.selectors import first_id_at
from tenants import clock
from tenants.ids import day_of, time_of
from tenants.models import Tenant
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

OLDER_THAN = timedelta(seconds=20)

# No transaction that records an intent lasts this long: what was settled before needs no second look.
_SETTLED_AFTER = timedelta(hours=1)
_VALKEY_TIMEOUT_S = 3.0

# By tenant: everything before is closed. A new process looks through all days once.
_settled: dict[UUID, datetime] = {}


def alive_key(handle: record.Handle) -> str:
    """The Valkey key that exists while a process works on the generation."""
    return f"custos:{handle.tenant_id}:generation:{handle.request_id}:alive"


def close_orphans(*, older_than: timedelta = OLDER_THAN) -> int:
    """Close the orphans of every tenant; how many. Does nothing while Valkey is away: then nobody is known to be dead.

    Raises AuditUnavailable when a record cannot be closed; the next run tries again.
    """
    valkey = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=_VALKEY_TIMEOUT_S, socket_connect_timeout=_VALKEY_TIMEOUT_S
    )
    closed = 0
    with valkey:
        for tenant_id in Tenant.objects.values_list("id", flat=True):
            try:
                orphans = _orphans(tenant_id, valkey, older_than)
            except (redis.RedisError, OSError) as error:
                logger.warning("orphaned records are not looked for: Valkey does not answer (%s)", error)
                return closed
            for handle in orphans:
                _close(handle)
                closed += 1
    return closed


def _orphans(tenant_id: UUID, valkey: redis.Redis, older_than: timedelta) -> list[record.Handle]:
    until = clock.now() - older_than
    open_handles = _open_records(tenant_id, until)
    oldest = time_of(open_handles[0].request_id) if open_handles else until
    if not open_handles:
        _settled[tenant_id] = until - _SETTLED_AFTER
        return []
    beats = valkey.mget([alive_key(handle) for handle in open_handles])
    _settled[tenant_id] = min(oldest, until - _SETTLED_AFTER)
    return [handle for handle, beat in zip(open_handles, beats, strict=True) if beat is None]


def _open_records(tenant_id: UUID, until: datetime) -> list[record.Handle]:
    """Generations begun before `until` that are not closed, oldest first."""
    with tenant_scope(tenant_id):
        completion = AuditCompletion.objects.filter(day=OuterRef("day"), request_id=OuterRef("id"))
        newest = first_id_at(until)
        records = AuditRecord.objects.filter(kind=record.GENERATION, day__lte=day_of(newest), id__lt=newest)
        if settled := _settled.get(tenant_id):
            oldest = first_id_at(settled)
            records = records.filter(day__gte=day_of(oldest), id__gte=oldest)
        ids = records.filter(~Exists(completion)).order_by("day", "id").values_list("id", flat=True)
        return [record.Handle(tenant_id, request_id) for request_id in ids]


def _close(handle: record.Handle) -> None:
    completion = record.complete(
        handle,
        status=Status.INTERRUPTED,
        error_code="runner_lost",
        timings=record.Timings(queue_ms=None, total_ms=_recorded_ms(handle)),
    )
    if completion.error_code == "runner_lost":
        metrics.orphans.inc()
        logger.warning("record %s was closed as interrupted: its process is gone", handle.request_id)


def _recorded_ms(handle: record.Handle) -> int | None:
    """From the request's arrival to its last recorded chunk; None when there is none."""
    with tenant_scope(handle.tenant_id):
        chunks = AuditChunk.objects.filter(day=handle.day, request_id=handle.request_id)
        last = chunks.order_by("-seq").values_list("created", flat=True).first()
    if last is None:
        return None
    return round((last - time_of(handle.request_id)).total_seconds() * 1000)
