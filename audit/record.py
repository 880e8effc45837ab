"""The write path of the audit record. Whatever cannot be recorded must not happen.

    handle = begin(...)                      durable before the first token; AuditUnavailable: ask the model nothing
    sealed = append(handle, seq=1, text=…)   durable before that text is delivered; AuditUnavailable: deliver nothing
                                             (more than the text of one answer: text in the form of audit.output)
    complete(handle, status=…, …)            once; a second call returns the first one's result

Each of the three is committed when the call returns; calls that are made at once share a transaction (audit.commits).
Asynchronous code awaits `aappend` and `acomplete`, which are otherwise the same, and `begin`, which may seal a long
input, through `tenants.database.in_database`.
"""

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, ClassVar, Protocol
from uuid import UUID
from weakref import WeakKeyDictionary

from django.core.exceptions import SynchronousOnlyOperation
from django.db import Error, IntegrityError, InterfaceError, OperationalError, connection
from django.utils.translation import gettext as _

from audit import leaf, metrics, partitions
from audit.commits import Commits, TaskCommits
from audit.models import AuditChunk, AuditCompletion, AuditModel, AuditRecord, Status
from tenants import clock, envelope
from tenants.access import Actor
from tenants.database import in_database
from tenants.ids import day_of, time_of, uuid7
from tenants.scope import Journeys, brief_scope, tenant_scope

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
        intent = _intent(
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
        _committed(_Write(handle, AuditRecord, intent))
    return handle


def append(handle: Handle, *, seq: int, text: str) -> bytes:
    """Record a piece of output, durably, and return its ciphertext. `seq` counts from 1 without gaps.

    Raises AuditUnavailable (AuditRefused when the record is closed or `seq` is out of order): deliver nothing then.
    """
    with _recording("append", handle):
        chunk = _chunk(handle, seq, text)
        _committed(_Write(handle, AuditChunk, chunk))
    return chunk["sealed"]


async def aappend(handle: Handle, *, seq: int, text: str) -> bytes:
    """As `append`."""
    with _recording("append", handle, joins=True):
        try:
            chunk = _chunk(handle, seq, text)
        except SynchronousOnlyOperation:  # The day's key is not at hand: it has to be fetched.
            chunk = await in_database(_chunk, handle, seq, text)
        await _acommitted(_Write(handle, AuditChunk, chunk))
    return chunk["sealed"]


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
    ending = _Ending(handle, status, finish_reason, usage, timings, error_code)
    with _recording("complete", handle):
        written = _committed(ending)
        if written is not None:
            return AuditCompletion(**written)
        with tenant_scope(handle.tenant_id):
            return AuditCompletion.objects.get(day=handle.day, request_id=handle.request_id)


async def acomplete(
    handle: Handle,
    *,
    status: str,
    finish_reason: str = "",
    usage: Usage | None = None,
    timings: Timings = Timings(),
    error_code: str = "",
) -> None:
    """As `complete`, for whoever does not ask what the first completion was."""
    with _recording("complete", handle, joins=True):
        await _acommitted(_Ending(handle, status, finish_reason, usage, timings, error_code))


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
            journeys = Journeys()
            journeys.tell(*_insertion(AuditRecord, [intent]))
            (closing,) = _start_closing(journeys, [handle])
            ending = _completion(_Ending(handle, status, error_code=error_code), closing)
            journeys.ask(*_insertion(AuditCompletion, [ending]))
    return handle


class Opener:
    """Opens what one record says. Each may raise envelope.Tampered; making it, KeyDestroyed and KeysUnavailable."""

    def __init__(self, handle: Handle) -> None:
        self._handle, self._cipher = handle, _cipher(handle)

    def json(self, field: str, sealed: bytes | memoryview) -> Any:
        """The value of the sealed `input`, `parameters` or `context`."""
        return json.loads(self._open(field, 0, sealed))

    def output(self, seq: int, sealed: bytes | memoryview) -> str:
        """What `append` was given as text for `seq`."""
        return self._open("output", seq, sealed)

    def _open(self, field: str, sequence: int, sealed: bytes | memoryview) -> str:
        opened = self._cipher.open(bytes(sealed), associated(self._handle, field, sequence))
        return opened.decode(errors="surrogatepass")


def open_output(handle: Handle, *, seq: int, sealed: bytes | memoryview) -> str:
    """One piece by itself; see Opener."""
    return Opener(handle).output(seq, sealed)


def open_json(handle: Handle, *, field: str, sealed: bytes | memoryview) -> Any:
    """One value by itself; see Opener."""
    return Opener(handle).json(field, sealed)


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


# A row that is to be inserted, or was: columns by name.
_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Closing:
    """What is there of a record that is to be closed; `intent` is its row without content, None: there is none."""

    is_closed: bool
    chunk_count: int
    output_bytes: int
    ciphertext_digest: bytes
    intent: _Row | None


@dataclass(frozen=True, slots=True)
class _Write:
    """A row to be inserted."""

    handle: Handle
    model: type[AuditModel]
    row: _Row


@dataclass(frozen=True, slots=True)
class _Ending:
    """A record to be closed, unless it is."""

    model: ClassVar = AuditCompletion
    handle: Handle
    status: str
    finish_reason: str = ""
    usage: Usage | None = None
    timings: Timings = Timings()
    error_code: str = ""


def _commit(writes: Sequence[_Write | _Ending]) -> Sequence[_Row | BaseException | None]:
    """All in one transaction; where one of them is refused, each in its own.

    Comes back what was inserted; None: the record was closed before. Raises OperationalError and InterfaceError for all
    of them: the database is away, or it is not known what it did.
    """
    try:
        return _together(writes)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        if len(writes) == 1:
            raise
    return [_alone(each) for each in writes]


def _alone(write: _Write | _Ending) -> _Row | BaseException | None:
    try:
        return _together([write])[0]
    except Exception as error:
        return error


def _together(writes: Sequence[_Write | _Ending]) -> Sequence[_Row | None]:
    for day in {each.handle.day for each in writes}:
        partitions.ensure(day)
    # Everybody locks in the same order.
    closing = sorted(
        (each.handle for each in writes if isinstance(each, _Ending)), key=lambda each: each.request_id
    )
    with brief_scope(writes[0].handle.tenant_id) as journeys:
        closings = dict(zip(closing, _start_closing(journeys, closing), strict=True))
        rows = [
            each.row if isinstance(each, _Write) else _ended(each, closings[each.handle]) for each in writes
        ]
        for model in (AuditRecord, AuditChunk, AuditCompletion):
            new = [
                row for each, row in zip(writes, rows, strict=True) if row is not None and each.model is model
            ]
            if new:
                journeys.tell(*_insertion(model, new))
    return rows


def _ended(ending: _Ending, closing: _Closing) -> _Row | None:
    return None if closing.is_closed else _completion(ending, closing)


_commits: Commits[_Write | _Ending, _Row | None] = Commits(_commit)


def _committed(write: _Write | _Ending) -> _Row | None:
    return _commits.run(write, together=write.handle.tenant_id, alone=write.handle.request_id)


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, TaskCommits[_Write | _Ending, _Row | None]] = (
    WeakKeyDictionary()
)


async def _acommitted(write: _Write | _Ending) -> _Row | None:
    loop = asyncio.get_running_loop()
    if loop not in _of_loop:
        _of_loop[loop] = TaskCommits(_commit)
    return await _of_loop[loop].run(write, together=write.handle.tenant_id, alone=write.handle.request_id)


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
) -> _Row:
    cipher = _cipher(handle, create=True)

    def sealed(field: str, value: Any) -> bytes:
        return cipher.seal(_json(value), associated(handle, field, 0))

    return {
        "tenant_id": handle.tenant_id,
        "day": handle.day,
        "id": handle.request_id,
        "kind": kind,
        "channel": channel,
        "user_id": actor.user_id,
        "user_label": actor.label,
        "api_key_id": actor.api_key_id,
        "session_ref": _fingerprint(actor.session_ref),
        "model": model,
        "model_version": model_version,
        "adapter": adapter,
        "deployment": deployment,
        "route": route,
        "route_reason": route_reason,
        "client_address": client_address,
        "conversation_id": conversation_id,
        "subject_id": subject_id,
        "confined_to": confined_to,
        "created": time_of(handle.request_id),
        "schema": leaf.SCHEMA,
        "input": sealed("input", input),
        "parameters": sealed("parameters", parameters or {}),
        "context": sealed("context", context) if context else None,
    }


def _chunk(handle: Handle, seq: int, text: str) -> _Row:
    plaintext = text.encode(errors="surrogatepass")
    return {
        "tenant_id": handle.tenant_id,
        "day": handle.day,
        "request_id": handle.request_id,
        "seq": seq,
        "size": len(plaintext),
        "sealed": _cipher(handle, create=True).seal(plaintext, associated(handle, "output", seq)),
        "created": clock.now(),
    }


def _completion(ending: _Ending, closing: _Closing) -> _Row:
    handle, usage, timings = ending.handle, ending.usage, ending.timings
    if closing.intent is None:
        raise IntegrityError(f"no record {handle.request_id} to close")
    row = {
        "tenant_id": handle.tenant_id,
        "day": handle.day,
        "request_id": handle.request_id,
        "status": Status(ending.status).value,
        "finish_reason": ending.finish_reason,
        "error_code": ending.error_code,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "cached_tokens": usage.cached_tokens if usage else None,
        "queue_ms": _whole(timings.queue_ms),
        "ttft_ms": _whole(timings.ttft_ms),
        "total_ms": _whole(timings.total_ms),
        "itl_p50_ms": _finite(timings.itl_p50_ms),
        "chunk_count": closing.chunk_count,
        "output_bytes": closing.output_bytes,
        "ciphertext_digest": closing.ciphertext_digest,
        "created": clock.now(),
    }
    return row | {"leaf_digest": leaf.digest_of(closing.intent, row)}


def _start_closing(journeys: Journeys, handles: Sequence[Handle]) -> list[_Closing]:
    """Of each record, in one query. Until the end of the transaction nobody else appends to them or closes them."""
    if not handles:
        return []
    found = journeys.ask(
        _START_CLOSING, [[each.day for each in handles], [each.request_id for each in handles]]
    )
    closings = []
    for is_closed, chunk_count, output_bytes, digest, *values in found:
        intent = dict(zip(leaf.RECORD_FIELDS, values, strict=True))
        is_there = intent["id"] is not None
        closings.append(
            _Closing(is_closed, chunk_count, output_bytes, bytes(digest or b""), intent if is_there else None)
        )
    return closings


_START_CLOSING = (
    f"SELECT is_closed, chunk_count, output_bytes, digest, {', '.join(leaf.RECORD_FIELDS)} "
    "FROM audit_start_closing(%s::date[], %s::uuid[])"
)


def _insertion(model: type[AuditModel], rows: Sequence[_Row]) -> tuple[str, list[str]]:
    """The statement that inserts rows of one table, and its parameter: all of them as JSON.

    Making SQL of a hundred values costs more than storing them. These models have neither signals nor parents that
    save() would see to.
    """
    table, names = model._meta.db_table, ", ".join(rows[0])
    statement = (
        f"INSERT INTO {table} ({names}) SELECT {names} FROM json_populate_recordset(NULL::{table}, %s)"
    )
    return statement, [_rows_as_json(rows)]


def _in_json(value: Any) -> str:
    """As PostgreSQL reads it out of JSON."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


_rows_as_json = json.JSONEncoder(default=_in_json, separators=(",", ":")).encode
# surrogatepass, below: JSON may carry lone surrogates, and what was sent must be recorded as it was sent.
_as_sent = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _cipher(handle: Handle, *, create: bool = False) -> envelope.RecordCipher:
    return envelope.record_cipher(
        handle.tenant_id, handle.keeping, handle.day, handle.request_id, create=create
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
    return _as_sent(value).encode(errors="surrogatepass")


def _fingerprint(session_ref: str) -> str:
    """Tells sessions apart without being one: a session's key is a credential."""
    return hashlib.sha256(session_ref.encode()).hexdigest()[:32] if session_ref else ""


def _whole(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds)


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None
