"""Exports: everything that a search or a list finds, or some of it, as a stream of records in constant memory.

    export = choose(actor, …)     which records, and how many
    record(export, …)             that they are exported, by whom and why; AuditUnavailable: let nothing out
    export.read(batch)            once that is committed

Which records it will be is fixed at the beginning, as ids in a file of no name; their content is read while it is sent.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import IO, Any
from uuid import UUID

from django.utils.translation import gettext as _

from audit import output, selectors
from audit.output import Kind
from audit.record import record_event
from audit.search import engine
from audit.search.asked import Asked
from audit.selectors import ReasonRequired, RecordView
from audit.tree import bundle as tree_bundle
from audit.tree.stored import Broken
from tenants.access import Actor, require
from tenants.actors import refreshed
from tenants.roles import AUDIT_EXPORT, AUDIT_READ
from tenants.scope import tenant_scope

EXPORT = "audit.export"
PROOF_MOST = 1000  # Records in a bundle with proof, which holds the path of each through the tree.
_OF_RECORD = (
    "kind",
    "channel",
    "api_key_id",
    "session_ref",
    "client_address",
    "model",
    "model_version",
    "adapter",
    "deployment",
    "route",
    "route_reason",
    "conversation_id",
    "subject_id",
    "status",
)
_OF_COMPLETION = (
    "finish_reason",
    "error_code",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "queue_ms",
    "ttft_ms",
    "total_ms",
)
CORE = ("request_id", "user_id", "input", "output", "timestamp")
FIELDS = (
    *CORE,
    *("state", "user"),
    *_OF_RECORD,
    *_OF_COMPLETION,
    *("parameters", "passages", "attachments", "output_parts"),
)
_BATCH = 100
_ID_BYTES = 16
# Named one by one in the record of the export up to here; beyond, the filters and the number tell.
_NAMED_MOST = 1000


class Unprovable(Exception):
    """The log does not prove what was to be exported with proof; the message says where to look."""


@dataclass(frozen=True)
class Export:
    """The records to be exported, in order. `count` is theirs when it began."""

    actor: Actor
    count: int
    _ids: IO[bytes]

    def ids(self) -> Iterator[UUID]:
        self._ids.seek(0)
        while piece := self._ids.read(_ID_BYTES * _BATCH):
            yield from (UUID(bytes=piece[at : at + _ID_BYTES]) for at in range(0, len(piece), _ID_BYTES))

    def batches(self) -> Iterator[list[UUID]]:
        batch: list[UUID] = []
        for each in self.ids():
            batch.append(each)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def read(self, batch: Sequence[UUID]) -> list[dict[str, Any]]:
        """The records of a batch, each as `flat` gives it. Raises NotVisible once the actor may export no more."""
        with tenant_scope(self.actor.tenant_id):
            actor = refreshed(self.actor)
            require(actor, AUDIT_EXPORT)
            return [flat(view) for view in selectors.views(actor, batch)]

    def close(self) -> None:
        self._ids.close()


def choose(
    actor: Actor,
    asked: Asked,
    request_ids: Sequence[UUID] = (),
    *,
    found: Callable[[int], None] = lambda count: None,
) -> Export:
    """What would be exported: these records, or all that is asked for. Inside the tenant's scope; records nothing.

    found: told now and then how many were found; what it raises ends the search.
    """
    require(actor, AUDIT_EXPORT)
    require(actor, AUDIT_READ)
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the export closes it)
    count = 0
    try:
        for each in _visible(actor, request_ids) if request_ids else matching(actor, asked):
            if count % _BATCH == 0:
                found(count)
            file.write(each.bytes)
            count += 1
    except BaseException:
        file.close()
        raise
    return Export(actor, count, file)


def record(
    export: Export,
    asked: Asked,
    request_ids: Sequence[UUID],
    *,
    form: str,
    reason: str,
    client_address: str = "",
) -> None:
    """Record the export before its first byte. Raises ReasonRequired, or AuditUnavailable: then let nothing out.

    form: "csv", "jsonl" or "proof". Inside an open scope it is part of that transaction.
    """
    reason = reason.strip()
    if not reason:
        raise ReasonRequired(_("State why you export these records."))
    detail = {
        "format": form,
        "records": export.count,
        "reason": reason,
        "asked": {} if request_ids else asked.told(),
        "selected": [str(each) for each in request_ids[:_NAMED_MOST]],
    }
    subject = request_ids[0] if len(request_ids) == 1 else None
    record_event(
        actor=export.actor, kind=EXPORT, detail=detail, subject_id=subject, client_address=client_address
    )


def bundle(
    export: Export, asked: Asked | None, file: IO[bytes], *, reason: str, client_address: str = ""
) -> None:
    """Write the bundle with proof, which records the export itself. Outside of transactions.

    asked: what was searched for, where it is all of that. Raises AuditUnavailable, Unprovable, NotVisible.
    """
    told = asked.told() if asked else None
    wanted: dict[str, Any] = {"request_ids": export.ids(), "asked": told, "client_address": client_address}
    try:
        tree_bundle.write(file, actor=export.actor, reason=reason, **wanted)
    except Broken as error:
        message = _(
            "The log cannot prove these records now. Look at the Proof page before you export with proof."
        )
        raise Unprovable(message) from error


def matching(actor: Actor, asked: Asked) -> Iterator[UUID]:
    """The ids of all records that are asked for, in order; inside the tenant's scope."""
    if asked.is_search:
        return engine.iterate(actor, asked.search())
    return selectors.ids(actor, asked.filters(), oldest_first=asked.sort == "oldest")


def flat(view: RecordView) -> dict[str, Any]:
    """A record as one line of an export, by FIELDS. Without content where `state` is not "intact"."""
    summary, done = view.summary, view.summary.completion
    values = {
        "request_id": summary.id,
        "user_id": summary.user_id,
        "input": view.input,
        "output": output.text_of(view.output),
        "timestamp": summary.created.astimezone(UTC).isoformat(timespec="milliseconds"),
        "state": view.state.value,
        "user": summary.user_label,
        **{name: getattr(summary, name) for name in _OF_RECORD},
        **{name: getattr(done, name, None) for name in _OF_COMPLETION},
        "parameters": view.parameters,
        "passages": view.passages,
        "attachments": view.attachments,
        "output_parts": _parts(view) if view.output else [],
    }
    return {name: str(values[name]) if isinstance(values[name], UUID) else values[name] for name in FIELDS}


def _parts(view: RecordView) -> list[dict[str, Any]]:
    """All that was written, where there is more than one text: reasoning, calls of tools, further answers."""
    if all(part.kind == Kind.TEXT and part.choice == 0 for part in view.output):
        return []
    return [
        {"choice": part.choice, "kind": part.kind.value, "name": part.name, "text": part.text}
        for part in view.output
    ]


def _visible(actor: Actor, request_ids: Iterable[UUID]) -> Iterator[UUID]:
    for request_id in dict.fromkeys(request_ids):
        yield selectors.find_record(actor, request_id).id
