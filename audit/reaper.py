"""Closes orphans: records of generations and embeddings whose process died before it could close them.

A running one keeps a heartbeat in Valkey (renewed at least every 5 s, gone after 15 s). A record without a
completion, without a heartbeat and older than 20 s has nobody left to close it; the worker looks every 15 s, so each
is closed within 60 s of its process's death, as "interrupted", with what was recorded until then.
"""

import logging
from datetime import UTC, datetime, timedelta
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

RUNNER_LOST = "runner_lost"
OLDER_THAN = timedelta(seconds=20)

# No transaction that records an intent lasts this long: what was settled before needs no second look.
_SETTLED_AFTER = timedelta(hours=1)
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_VALKEY_TIMEOUT_S = 3.0

# By tenant: everything before is closed. A new process looks through all days once.
_settled: dict[UUID, datetime] = {}


def alive_key(handle: record.Handle) -> str:
    """The Valkey key that exists while a process works on the generation."""
    return f"custos:{handle.tenant_id}:generation:{handle.request_id}:alive"


def close_orphans(*, older_than: timedelta = OLDER_THAN) -> int:
    """Close the orphans of every tenant; how many. Does nothing while Valkey is away: then nobody is known to be dead.

    A record that cannot be closed is logged and left to the next run; it holds up no other.
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
            closed += sum(map(_close, orphans))
    return closed


def _orphans(tenant_id: UUID, valkey: redis.Redis, older_than: timedelta) -> list[record.Handle]:
    until = clock.now() - older_than
    open_handles = _open_records(tenant_id, until)
    beats = valkey.mget([alive_key(handle) for handle in open_handles]) if open_handles else []
    oldest = [time_of(handle.request_id) for handle in open_handles[:1]]
    _settled[tenant_id] = min([*oldest, until - _SETTLED_AFTER])
    return [handle for handle, beat in zip(open_handles, beats, strict=True) if beat is None]


def _open_records(tenant_id: UUID, until: datetime) -> list[record.Handle]:
    """Requests begun before `until` that are not closed, oldest first."""
    newest = first_id_at(until)
    oldest = first_id_at(_settled.get(tenant_id, _EVER))
    # Both tables are bounded: PostgreSQL does not carry bounds from one to the other, and would read whole days.
    days = {"day__gte": day_of(oldest), "day__lte": day_of(newest)}
    with tenant_scope(tenant_id):
        closed = AuditCompletion.objects.filter(**days, request_id__gte=oldest, request_id__lt=newest)
        records = AuditRecord.objects.filter(**days, id__gte=oldest, id__lt=newest, kind__in=record.REQUESTS)
        orphans = records.exclude(Exists(closed.filter(day=OuterRef("day"), request_id=OuterRef("id"))))
        ids = orphans.order_by("day", "id").values_list("id", flat=True)
        return [record.Handle(tenant_id, request_id) for request_id in ids]


def _close(handle: record.Handle) -> bool:
    """Whether the record was an orphan and is closed now."""
    try:
        completion = record.complete(
            handle,
            status=Status.INTERRUPTED,
            error_code=RUNNER_LOST,
            timings=record.Timings(queue_ms=None, total_ms=_recorded_ms(handle)),
        )
    except record.AuditUnavailable:
        logger.exception("record %s, whose process is gone, could not be closed", handle.request_id)
        return False
    if completion.error_code != RUNNER_LOST:
        return False  # Its process was only slow, and closed it itself meanwhile.
    metrics.orphans.inc()
    logger.warning("record %s was closed as interrupted: its process is gone", handle.request_id)
    return True


def _recorded_ms(handle: record.Handle) -> int | None:
    """From the request's arrival to its last recorded chunk; None when there is none."""
    with tenant_scope(handle.tenant_id):
        chunks = AuditChunk.objects.filter(day=handle.day, request_id=handle.request_id)
        last = chunks.order_by("-seq").values_list("created", flat=True).first()
    if last is None:
        return None
    return round((last - time_of(handle.request_id)).total_seconds() * 1000)
