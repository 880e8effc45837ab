"""The write path of the audit record. Whatever cannot be recorded must not happen.

    handle = begin(...)                      durable before the first token; AuditUnavailable: ask the model nothing
    sealed = append(handle, seq=1, text=…)   durable before that text is delivered; AuditUnavailable: deliver nothing
                                             (more than the text of one answer: text in the form of audit.output)
    complete(handle, status=…, …)            once; a second call returns the first one's result

Each of the three is committed when the call returns; calls of several threads share a transaction (audit.commits).
Functions are synchronous; asynchronous code awaits them through `tenants.database.in_database`.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from django.db import Error, IntegrityError, InterfaceError, OperationalError, connection
from django.utils.translation import gettext as _

from audit import leaf, metrics, partitions
from audit.commits import Commits
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

    def intent() -> AuditRecord:
        return _intent(
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

    with _recording("begin", handle):
        _committed(_Write(handle, intent))
    return handle


def append(handle: Handle, *, seq: int, text: str) -> bytes:
    """Record a piece of output, durably, and return its ciphertext. `seq` counts from 1 without gaps.

    Raises AuditUnavailable (AuditRefused when the record is closed or `seq` is out of order): deliver nothing then.
    """
    plaintext = text.encode(errors="surrogatepass")

    def chunk() -> AuditChunk:
        return AuditChunk(
            tenant_id=handle.tenant_id,
            day=handle.day,
            request_id=handle.request_id,
            seq=seq,
            size=len(plaintext),
            sealed=_seal(handle, field="output", sequence=seq, plaintext=plaintext),
        )

    with _recording("append", handle):
        row = _committed(_Write(handle, chunk))
    assert isinstance(row, AuditChunk)
    return bytes(row.sealed)


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
    ending = partial(
        _completion,
        status=status,
        finish_reason=finish_reason,
        usage=usage,
        timings=timings,
        error_code=error_code,
    )
    with _recording("complete", handle):
        completion = _committed(_Ending(handle, ending))
    assert isinstance(completion, AuditCompletion)
    return completion


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
        partitions.ensure(handle.day)
        with tenant_scope(handle.tenant_id):
            intent = _intent(
                handle,
                actor,
                kind=kind,
                channel=channel,
                input=detail,
                subject_id=subject_id,
                confined_to=confined_to,
                client_address=client_address,
            )
            _insert([intent])
            _insert([_completion(handle, _start_closing([handle])[0], status=status, error_code=error_code)])
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
    """One step of the write path, timed; database and key errors become AuditUnavailable."""
    if not joins and _inside_transaction():
        raise RuntimeError(
            f"audit.record.{operation} inside another transaction would not be durable; call it outside"
        )
    started = time.perf_counter()
    try:
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


@dataclass(frozen=True, slots=True)
class _Closing:
    """What is there of a record that is to be closed; `record` is the intent without content, None: there is none."""

    is_closed: bool
    chunk_count: int
    output_bytes: int
    ciphertext_digest: bytes
    record: AuditRecord | None


@dataclass(frozen=True, slots=True)
class _Write:
    """A row to be made and inserted, within the tenant's scope."""

    handle: Handle
    row: Callable[[], AuditModel]


@dataclass(frozen=True, slots=True)
class _Ending:
    """A record to be closed, unless it is."""

    handle: Handle
    row: Callable[[Handle, _Closing], AuditCompletion]


def _commit(writes: Sequence[_Write | _Ending]) -> Sequence[AuditModel | BaseException]:
    """All in one transaction; where one of them is refused, each in its own. Comes back what was inserted.

    Raises OperationalError and InterfaceError for all of them: the database is away, or it is not known what it did.
    """
    try:
        return _together(writes)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        if len(writes) == 1:
            raise
    return [_alone(each) for each in writes]


def _alone(write: _Write | _Ending) -> AuditModel | BaseException:
    try:
        return _together([write])[0]
    except Exception as error:
        return error


def _together(writes: Sequence[_Write | _Ending]) -> Sequence[AuditModel]:
    for day in {each.handle.day for each in writes}:
        partitions.ensure(day)
    with tenant_scope(writes[0].handle.tenant_id):
        # Everybody locks in the same order.
        endings = sorted(
            (each for each in writes if isinstance(each, _Ending)), key=lambda each: each.handle.request_id
        )
        closings = dict(
            zip(
                (each.handle.request_id for each in endings),
                _start_closing([each.handle for each in endings]),
                strict=True,
            )
        )
        rows, new = [], []
        for each in writes:
            if isinstance(each, _Write):
                rows.append(each.row())
            elif (closing := closings[each.handle.request_id]).is_closed:
                rows.append(
                    AuditCompletion.objects.get(day=each.handle.day, request_id=each.handle.request_id)
                )
                continue
            else:
                rows.append(each.row(each.handle, closing))
            new.append(rows[-1])
        for model in (AuditRecord, AuditChunk, AuditCompletion):
            _insert([row for row in new if isinstance(row, model)])
    return rows


_commits: Commits[_Write | _Ending, AuditModel] = Commits(_commit)


def _committed(write: _Write | _Ending) -> AuditModel:
    return _commits.run(write, together=write.handle.tenant_id, alone=write.handle.request_id)


def _intent(
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
) -> AuditRecord:
    return AuditRecord(
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


def _completion(
    handle: Handle,
    closing: _Closing,
    *,
    status: str,
    finish_reason: str = "",
    usage: Usage | None = None,
    timings: Timings = Timings(),
    error_code: str = "",
) -> AuditCompletion:
    if closing.record is None:
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
        itl_p50_ms=_finite(timings.itl_p50_ms),
        chunk_count=closing.chunk_count,
        output_bytes=closing.output_bytes,
        ciphertext_digest=closing.ciphertext_digest,
    )
    completion.leaf_digest = leaf.digest(closing.record, completion)
    return completion


def _start_closing(handles: Sequence[Handle]) -> list[_Closing]:
    """Of each record, in one query. Until the end of the transaction nobody else appends to them or closes them."""
    if not handles:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT is_closed, chunk_count, output_bytes, digest, "
            f"{', '.join(leaf.RECORD_FIELDS)} FROM audit_start_closing(%s::date[], %s::uuid[])",
            [[each.day for each in handles], [each.request_id for each in handles]],
        )
        found = cursor.fetchall()
    closings = []
    for is_closed, chunk_count, output_bytes, digest, *values in found:
        fields = dict(zip(leaf.RECORD_FIELDS, values, strict=True))
        record = AuditRecord(**fields) if fields["id"] else None
        closings.append(_Closing(is_closed, chunk_count, output_bytes, bytes(digest or b""), record))
    return closings


def _insert(rows: Sequence[AuditModel]) -> None:
    """Insert new rows of one table, as JSON in one parameter: making SQL of a hundred values costs more than storing them.

    These models have neither signals nor parents that save() would see to.
    """
    if not rows:
        return
    table = rows[0]._meta.db_table
    columns = [field.attname for field in rows[0]._meta.local_concrete_fields]
    values = [{column: getattr(row, column) for column in columns} for row in rows]
    names = ", ".join(columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM json_populate_recordset(NULL::{table}, %s)",
            [json.dumps(values, default=_in_json)],
        )


def _in_json(value: Any) -> str:
    """As PostgreSQL reads it out of JSON."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


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


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None
