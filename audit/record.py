"""The write path of the audit record. Whatever cannot be recorded must not happen.

    handle = begin(...)                      durable before the first token; AuditUnavailable: ask the model nothing
    sealed = append(handle, seq=1, text=…)   durable before that text is delivered; AuditUnavailable: deliver nothing
                                             (more than the text of one answer: text in the form of audit.output)
    complete(handle, status=…, …)            once; a second call returns the first one's result

Each of the three is one transaction of its own, committed when the call returns. Functions are synchronous;
asynchronous code awaits them through `tenants.database.in_database`.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from django.db import Error, IntegrityError, connection
from django.utils.translation import gettext as _

from audit import leaf, metrics, partitions
from audit.models import AuditChunk, AuditCompletion, AuditModel, AuditRecord, Status
from tenants import envelope
from tenants.access import Actor
from tenants.ids import day_of, time_of, uuid7
from tenants.scope import tenant_scope

GENERATION = "generation"
EMBEDDING = "embedding"
# What was asked of a model; all other kinds are events, closed when they are written.
REQUESTS = (GENERATION, EMBEDDING)


class Keeping(StrEnum):
    """Records that are kept and go together; the value is the purpose of the keys under which they are sealed."""

    REQUESTS = "audit"
    CHANGES = "audit.changes"  # Administration, sign-ins, and what the audit itself did.
    READINGS = "audit.readings"  # Who opened, searched or exported what, and why.


# Kinds that begin so tell who read; other events are changes.
READINGS = ("audit.read", "audit.search", "audit.export")

# Part of what every ciphertext is bound to: bytes sealed under one meaning never open under another.
_SCHEMA = 1


class AuditUnavailable(Exception):
    """The record could not be written. Do not go on with what was to be recorded."""


class AuditRefused(AuditUnavailable):
    """The record is closed already, or the piece does not follow the one before it. Trying again does not help."""


class Usage(Protocol):
    """Token counts of a generation; None: not known."""

    @property
    def prompt_tokens(self) -> int | None: ...

    @property
    def completion_tokens(self) -> int | None: ...

    @property
    def cached_tokens(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds since the request arrived; `itl_p50_ms` is the median gap between tokens. None: not known."""

    queue_ms: int | None = 0
    ttft_ms: int | None = None
    total_ms: int | None = 0
    itl_p50_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Handle:
    """Names one record; can be made anew from its two ids, in any process."""

    tenant_id: UUID
    request_id: UUID
    keeping: Keeping = Keeping.REQUESTS

    @property
    def day(self) -> date:
        return day_of(self.request_id)


def keeping_of(kind: str) -> Keeping:
    """With which records a kind is kept."""
    if kind in REQUESTS:
        return Keeping.REQUESTS
    return Keeping.READINGS if kind in READINGS else Keeping.CHANGES


def handle_of(record: AuditRecord) -> Handle:
    """The handle that opens a stored record."""
    # Events of the first schema were sealed as requests are.
    keeping = Keeping.REQUESTS if record.schema == 1 else keeping_of(record.kind)
    return Handle(record.tenant_id, record.id, keeping)


def begin(
    *,
    actor: Actor,
    channel: str,
    input: list[dict[str, Any]] | str,
    model: str,
    model_version: str,
    route: str,
    route_reason: str,
    parameters: dict[str, Any],
    kind: str = GENERATION,
    adapter: str = "",
    deployment: str = "",
    passages: Sequence[dict[str, Any]] = (),
    attachments: Sequence[dict[str, Any]] = (),
    conversation_id: UUID | None = None,
    client_address: str = "",
    request_id: UUID | None = None,
) -> Handle:
    """Record the intent, durably. Raises AuditUnavailable: then nothing may be asked of the model.

    passages: what was retrieved, as {"document", "text", …}. attachments: {"name", "media_type", "text", …}.
    `input`, `parameters`, `passages` and `attachments` are sealed; all else is plain, so it must not carry what a
    user wrote.
    """
    handle = Handle(actor.tenant_id, request_id or uuid7())
    with _recording("begin", handle):
        _insert_intent(
            handle,
            actor,
            kind=kind,
            channel=channel,
            input=input,
            parameters=parameters,
            model=model,
            model_version=model_version,
            adapter=adapter,
            deployment=deployment,
            route=route,
            route_reason=route_reason,
            context=_context(passages, attachments),
            conversation_id=conversation_id,
            client_address=client_address,
        )
    return handle


def append(handle: Handle, *, seq: int, text: str) -> bytes:
    """Record a piece of output, durably, and return its ciphertext. `seq` counts from 1 without gaps.

    Raises AuditUnavailable (AuditRefused when the record is closed or `seq` is out of order): deliver nothing then.
    """
    plaintext = text.encode(errors="surrogatepass")
    with _recording("append", handle):
        sealed = _seal(handle, field="output", sequence=seq, plaintext=plaintext)
        chunk = AuditChunk(
            tenant_id=handle.tenant_id,
            day=handle.day,
            request_id=handle.request_id,
            seq=seq,
            size=len(plaintext),
            sealed=sealed,
        )
        _insert(chunk)
    return sealed


def complete(
    handle: Handle,
    *,
    status: str,
    finish_reason: str = "",
    usage: Usage | None = None,
    timings: Timings = Timings(),
    error_code: str = "",
) -> AuditCompletion:
    """Close the record, once: when it is closed already, the first completion is returned and nothing is written.

    Raises AuditUnavailable; calling again is safe, and the reaper closes what nobody closed.
    """
    with _recording("complete", handle):
        return _close(
            handle,
            status=status,
            finish_reason=finish_reason,
            usage=usage,
            timings=timings,
            error_code=error_code,
        )


def record_event(
    *,
    actor: Actor,
    kind: str,
    detail: dict[str, Any],
    subject_id: UUID | None = None,
    channel: str = "console",
    client_address: str = "",
    status: str = Status.COMPLETED,
    error_code: str = "",
    confined_to: UUID | None = None,
) -> Handle:
    """One closed record of something other than a generation. `detail` is sealed. Raises AuditUnavailable.

    confined_to: the case it belongs to; nobody outside of that case learns that there is such an event.

    Inside an open scope of the same tenant it becomes part of that transaction: the deed and its record are committed
    together or not at all. Otherwise it is durable when the call returns.
    """
    handle = Handle(actor.tenant_id, uuid7(), keeping_of(kind))
    with _recording("event", handle, joins=True):
        _insert_intent(
            handle,
            actor,
            kind=kind,
            channel=channel,
            input=detail,
            subject_id=subject_id,
            confined_to=confined_to,
            client_address=client_address,
        )
        _close(handle, status=status, error_code=error_code)
    return handle


def unseal_chunk(handle: Handle, seq: int, sealed: bytes) -> str:
    """What `append` was given as text for `seq`. Raises envelope.Tampered or envelope.KeyDestroyed."""
    with tenant_scope(handle.tenant_id):
        return open_output(handle, seq=seq, sealed=sealed)


def open_output(handle: Handle, *, seq: int, sealed: bytes | memoryview) -> str:
    """As unseal_chunk, for code that is inside the tenant's scope already."""
    return _open(handle, field="output", sequence=seq, sealed=sealed).decode(errors="surrogatepass")


def open_json(handle: Handle, *, field: str, sealed: bytes | memoryview) -> Any:
    """The value of a record's sealed `input`, `parameters` or `context`, inside the tenant's scope."""
    return json.loads(_open(handle, field=field, sequence=0, sealed=sealed).decode(errors="surrogatepass"))


@contextmanager
def _recording(operation: str, handle: Handle, *, joins: bool = False) -> Iterator[None]:
    """One transaction of the write path, timed; database and key errors become AuditUnavailable."""
    if not joins and _inside_transaction():
        raise RuntimeError(
            f"audit.record.{operation} inside another transaction would not be durable; call it outside"
        )
    started = time.perf_counter()
    try:
        partitions.ensure(handle.day)
        with tenant_scope(handle.tenant_id):
            yield
    except IntegrityError as error:
        metrics.failures.labels(operation).inc()
        raise AuditRefused(
            _(
                "The record is closed or this piece is out of order, so it was not recorded: start a new request."
            )
        ) from error
    except (Error, envelope.Tampered, envelope.KeyDestroyed, envelope.KeysUnavailable) as error:
        metrics.failures.labels(operation).inc()
        raise AuditUnavailable(
            _(
                "The audit record could not be written, so this was not done. Check PostgreSQL, then try again."
            )
        ) from error
    metrics.append_seconds.labels(operation).observe(time.perf_counter() - started)


def _inside_transaction() -> bool:
    """As Django's durable atomic blocks see it: the transaction that a TestCase wraps around a test is none."""
    return bool(connection.atomic_blocks) and not connection.atomic_blocks[-1]._from_testcase  # type: ignore[attr-defined]


def _insert_intent(
    handle: Handle,
    actor: Actor,
    *,
    kind: str,
    channel: str,
    input: Any,
    client_address: str,
    parameters: dict[str, Any] | None = None,
    model: str = "",
    model_version: str = "",
    adapter: str = "",
    deployment: str = "",
    route: str = "",
    route_reason: str = "",
    context: dict[str, Any] | None = None,
    conversation_id: UUID | None = None,
    subject_id: UUID | None = None,
    confined_to: UUID | None = None,
) -> None:
    intent = AuditRecord(
        tenant_id=handle.tenant_id,
        day=handle.day,
        id=handle.request_id,
        kind=kind,
        channel=channel,
        user_id=actor.user_id,
        user_label=actor.label,
        api_key_id=actor.api_key_id,
        session_ref=_fingerprint(actor.session_ref),
        model=model,
        model_version=model_version,
        adapter=adapter,
        deployment=deployment,
        route=route,
        route_reason=route_reason,
        client_address=client_address,
        conversation_id=conversation_id,
        subject_id=subject_id,
        confined_to=confined_to,
        created=time_of(handle.request_id),
        schema=leaf.SCHEMA,
        input=_seal(handle, field="input", sequence=0, plaintext=_json(input)),
        parameters=_seal(handle, field="parameters", sequence=0, plaintext=_json(parameters or {})),
        context=_seal(handle, field="context", sequence=0, plaintext=_json(context)) if context else None,
    )
    _insert(intent)


def _close(
    handle: Handle,
    *,
    status: str,
    finish_reason: str = "",
    usage: Usage | None = None,
    timings: Timings = Timings(),
    error_code: str = "",
) -> AuditCompletion:
    is_closed, chunk_count, output_bytes, ciphertext_digest, record = _start_closing(handle)
    if is_closed:
        return AuditCompletion.objects.get(day=handle.day, request_id=handle.request_id)
    if record is None:
        raise IntegrityError(f"no record {handle.request_id} to close")
    completion = AuditCompletion(
        tenant_id=handle.tenant_id,
        day=handle.day,
        request_id=handle.request_id,
        status=Status(status).value,
        finish_reason=finish_reason,
        error_code=error_code,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        cached_tokens=usage.cached_tokens if usage else None,
        queue_ms=_whole(timings.queue_ms),
        ttft_ms=_whole(timings.ttft_ms),
        total_ms=_whole(timings.total_ms),
        itl_p50_ms=None if timings.itl_p50_ms is None else float(timings.itl_p50_ms),
        chunk_count=chunk_count,
        output_bytes=output_bytes,
        ciphertext_digest=ciphertext_digest,
    )
    completion.leaf_digest = leaf.digest(record, completion)
    _insert(completion)
    return completion


def _start_closing(handle: Handle) -> tuple[bool, int, int, bytes, AuditRecord | None]:
    """(closed already?, chunks, bytes of output, digest of ciphertexts, the intent without content), in one query.

    Until the end of the transaction no other process appends to the record or closes it.
    """
    columns = ", ".join(f"intent.{name}" for name in leaf.RECORD_FIELDS)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT closing.*, {columns} FROM audit_start_closing(%(day)s, %(id)s) AS closing "
            "LEFT JOIN audit_record AS intent ON intent.day = %(day)s AND intent.id = %(id)s",
            {"day": handle.day, "id": handle.request_id},
        )
        is_closed, chunk_count, output_bytes, digest, *values = cursor.fetchone()
    found = dict(zip(leaf.RECORD_FIELDS, values, strict=True))
    record = AuditRecord(**found) if found["id"] else None
    return is_closed, chunk_count, output_bytes, bytes(digest or b""), record


def _insert(row: AuditModel) -> None:
    """Insert a new row, at a third of what save() costs; the audit's models have neither signals nor parents."""
    columns = [field.attname for field in row._meta.local_concrete_fields]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {row._meta.db_table} ({', '.join(columns)}) "
            f"VALUES ({', '.join(['%s'] * len(columns))})",
            [getattr(row, column) for column in columns],
        )


def _seal(handle: Handle, *, field: str, sequence: int, plaintext: bytes) -> bytes:
    return envelope.seal(
        tenant_id=handle.tenant_id,
        purpose=handle.keeping,
        day=handle.day,
        plaintext=plaintext,
        aad=associated(handle, field, sequence),
        record=handle.request_id,
    )


def _open(handle: Handle, *, field: str, sequence: int, sealed: bytes | memoryview) -> bytes:
    return envelope.open_sealed(
        tenant_id=handle.tenant_id,
        purpose=handle.keeping,
        day=handle.day,
        sealed=bytes(sealed),
        aad=associated(handle, field, sequence),
        record=handle.request_id,
    )


def associated(handle: Handle, field: str, sequence: int) -> dict[str, object]:
    """What a record's ciphertext is bound to, beside its tenant and purpose."""
    return {"request": handle.request_id, "field": field, "sequence": sequence, "schema": _SCHEMA}


def _context(
    passages: Sequence[dict[str, Any]], attachments: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    found = {"passages": list(passages), "attachments": list(attachments)}
    return found if passages or attachments else None


def _json(value: Any) -> bytes:
    # surrogatepass: JSON may carry lone surrogates, and what was sent must be recorded as it was sent.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")


def _fingerprint(session_ref: str) -> str:
    """Tells sessions apart without being one: a session's key is a credential."""
    return hashlib.sha256(session_ref.encode()).hexdigest()[:32] if session_ref else ""


def _whole(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds)
