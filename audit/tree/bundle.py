"""Records handed out with all that proves them, as one zip that a single file checks without us (audit/verifier).

    manifest.json      what the bundle is, when it was made, and the SHA-256 of every other file; manifest.note signs it
    checkpoint.txt     the log's head, signed by the log and, when it could be asked, by the witness
    records.jsonl      a line a record, in the order of the log: content, metadata, key, leaf and its path to the head
    sealed.bin         their ciphertexts as the leaf's digest covers them: length (8 bytes) and bytes, one after the other
    statements.jsonl   the tombstones and erasures that tell of records that are gone

A record's key opens that record alone. The export is an event of the log itself, recorded before anything leaves, and
the head covers it: a bundle cannot come with an older head than its own time.
"""

import base64
import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC
from typing import IO, Any, Protocol
from uuid import UUID

from django.db import connection
from django.utils.translation import gettext as _

from audit import leaf, output, record, secrecy
from audit.models import AuditChunk, AuditCompletion, AuditRecord
from audit.selectors import ReasonRequired
from audit.tree import merkle, selectors, sequencer, signing, statements, stored
from audit.tree.models import Leaf, Statement
from audit.tree.notes import signed
from tenants import clock, envelope
from tenants.access import Actor, NotVisible, require
from tenants.ids import day_of
from tenants.keyring import ciphers
from tenants.roles import AUDIT_EXPORT
from tenants.scope import tenant_scope

FORMAT = "custos.bundle/1"
EXPORT = "audit.export"
BATCH = 100
_NAMED = 1000  # So many records the event of an export names one by one.

_README = """This is an export of audit records with proof of their integrity.

Check it with the single file custos_verify.py (Python 3.11 or newer with the package "cryptography"), which the
Proof page of the console offers and which can be had from whoever you trust:

    python custos_verify.py BUNDLE --key LOG_KEY --witness WITNESS_KEY

Take the two keys from where Custos cannot have changed them since, not from whoever gave you this file.
records.jsonl holds the records: request_id, user_id, input, output, timestamp, and what proves them.
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A record that is not in its day any more, as something built on the log has kept it.

    metadata: as audit.leaf has it. sealed: its ciphertexts in the order of the digest, or None when they are gone.
    """

    metadata: dict[str, Any]
    ciphertext_digest: bytes
    key: bytes | None
    sealed: list[bytes] | None


class Keeper(Protocol):
    """Finds what is kept of a record that is gone from its day, for this actor; inside the tenant's scope."""

    def __call__(self, actor: Actor, request_id: UUID) -> Kept | None: ...


_keeper: Keeper | None = None


def register(keeper: Keeper) -> None:
    """Who finds records that are gone from their day. One for the process."""
    global _keeper
    _keeper = keeper


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was written. left_out: records without a place yet, because they were still running."""

    records: int
    left_out: list[UUID]
    export_id: UUID
    head: selectors.SignedHead
    sha256: dict[str, str] = field(default_factory=dict)


def write(
    file: IO[bytes],
    *,
    actor: Actor,
    request_ids: Iterable[UUID],
    reason: str,
    client_address: str = "",
    confined_to: UUID | None = None,
    asked: dict[str, Any] | None = None,
) -> Manifest:
    """Write a bundle of these records to `file`, after recording that this actor exports them and why.

    asked: what was searched for, where these are all that was found; it is recorded with the export.
    confined_to: the case it is for; those outside of it do not see that there was such an export. Call outside of
    transactions. Raises NotVisible (without audit.export, or when one of them is not there for this actor),
    ReasonRequired, AuditUnavailable when the export cannot be recorded, Broken when the log is.
    """
    require(actor, AUDIT_EXPORT)
    reason = reason.strip()
    if not reason:
        raise ReasonRequired(_("State why you export these records."))
    if connection.in_atomic_block and not connection.atomic_blocks[-1]._from_testcase:  # type: ignore[attr-defined]
        raise RuntimeError("a bundle is written outside of transactions: its export must be recorded first")
    wanted = sorted(set(request_ids))
    with tenant_scope(actor.tenant_id):
        _require_visible(actor, wanted)
    event = record.record_event(
        actor=actor,
        kind=EXPORT,
        detail={
            "format": FORMAT,
            "reason": reason,
            "records": len(wanted),
            "record_ids": [str(each) for each in wanted[:_NAMED]],
            **({"asked": asked} if asked else {}),
        },
        subject_id=wanted[0] if len(wanted) == 1 else None,
        client_address=client_address,
        confined_to=confined_to,
    )
    sequencer.extend(actor.tenant_id, sign_now=True)
    with tenant_scope(actor.tenant_id):
        writer = _Writer(actor, event.request_id)
        places = {row.request_id: row for row in _leaves(wanted)}
    left_out = [each for each in wanted if each not in places]
    in_order = sorted(places.values(), key=lambda row: row.seq)
    return writer.write(file, in_order, left_out)


def _require_visible(actor: Actor, wanted: list[UUID]) -> None:
    """Raises NotVisible unless the actor may know of every one of them."""
    for batch in _batches(wanted):
        try:
            days = {day_of(each) for each in batch}
        except (ValueError, OverflowError) as error:
            raise NotVisible(EXPORT) from error
        rows = secrecy.visible(actor, AuditRecord.objects.filter(day__in=days, id__in=batch))
        found = set(rows.values_list("id", flat=True))
        for each in set(batch) - found:
            # Only of requests is it known that they were there; events may belong to a case.
            kept = _keeper(actor, each) if _keeper else None
            gone = Leaf.objects.filter(request_id=each, keeping=record.Keeping.REQUESTS)
            if kept is None and (
                AuditRecord.objects.filter(day=day_of(each), id=each).exists() or not gone.exists()
            ):
                raise NotVisible(EXPORT)


def _leaves(wanted: list[UUID]) -> Iterator[Leaf]:
    for batch in _batches(wanted):
        yield from Leaf.objects.filter(request_id__in=batch)


class _Writer:
    """One bundle, under one head."""

    def __init__(self, actor: Actor, export_id: UUID) -> None:
        self._actor, self._tenant_id = actor, actor.tenant_id
        self._hashes = stored.Stored()
        place = Leaf.objects.filter(request_id=export_id).first()
        head = selectors.newest_head()
        if (
            place and head and head.size <= place.seq
        ):  # The witness is away: better the newest without its signature.
            head = selectors.newest_head(witnessed=False)
        if place is None or head is None or head.size <= place.seq:
            raise stored.Broken("the export has no place in the log")
        self._head, self._export = head, place
        self._telling: dict[UUID, tuple[Statement, Leaf]] = {}
        self._tombs: dict[tuple[Any, str], list[tuple[statements.Statement, list[bytes], list[int]]]] = {}

    def write(self, file: IO[bytes], leaves: list[Leaf], left_out: list[UUID]) -> Manifest:
        hashes: dict[str, dict[str, Any]] = {}
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
            tempfile.TemporaryFile() as sealed,  # Ciphertext alone: nothing readable touches the disk here.
        ):
            self._put(archive, "README.txt", [_README.encode()], hashes)
            self._put(archive, "checkpoint.txt", [self._head.note.encode()], hashes)
            self._put(archive, "records.jsonl", self._records(leaves, sealed), hashes)
            sealed.seek(0)
            pieces = iter(lambda: sealed.read(1 << 20), b"")
            self._put(archive, "sealed.bin", pieces, hashes, zipfile.ZIP_STORED)
            self._put(archive, "statements.jsonl", self._statements(), hashes)
            manifest = self._manifest(len(leaves), left_out, hashes)
            archive.writestr("manifest.json", manifest)
            archive.writestr("manifest.note", _manifest_note(self._tenant_id, manifest))
        digests = {name: entry["sha256"] for name, entry in hashes.items()}
        return Manifest(len(leaves), left_out, self._export.request_id, self._head, digests)

    def _put(
        self,
        archive: zipfile.ZipFile,
        name: str,
        pieces: Iterable[bytes],
        hashes: dict[str, dict[str, Any]],
        compression: int = zipfile.ZIP_DEFLATED,
    ) -> None:
        info = zipfile.ZipInfo(name, clock.now().timetuple()[:6])
        info.compress_type = compression
        digest, size = hashlib.sha256(), 0
        with archive.open(info, "w", force_zip64=True) as entry:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                entry.write(piece)
        hashes[name] = {"bytes": size, "sha256": digest.hexdigest()}

    def _records(self, leaves: list[Leaf], sealed: IO[bytes]) -> Iterator[bytes]:
        for batch in _batches(leaves):
            with tenant_scope(self._tenant_id):
                for line in self._lines(batch, sealed):
                    yield _line(line)

    def _lines(self, leaves: list[Leaf], sealed: IO[bytes]) -> Iterator[dict[str, Any]]:
        days, ids = {row.day for row in leaves}, [row.request_id for row in leaves]
        visible = secrecy.visible(self._actor, AuditRecord.objects.filter(day__in=days, id__in=ids))
        records = {row.id: row for row in visible}
        ended = AuditCompletion.objects.filter(day__in=days, request_id__in=ids)
        completions = {row.request_id: row for row in ended}
        chunks: dict[UUID, list[bytes]] = {}
        for chunk in AuditChunk.objects.filter(day__in=days, request_id__in=ids).order_by("seq"):
            chunks.setdefault(chunk.request_id, []).append(bytes(chunk.sealed))
        for row in leaves:
            live, end = records.get(row.request_id), completions.get(row.request_id)
            kept = None
            if live is not None and end is not None and live.input:
                kept = _live(live, end, chunks.get(row.request_id, []))
            elif _keeper is not None:
                kept = _keeper(self._actor, row.request_id)
            if kept is None and live and end and leaf.digest(live, end) == bytes(row.hash):
                # Erased: what is left is its metadata, as long as that was not changed, too.
                kept = Kept(leaf.metadata(live, end), bytes(end.ciphertext_digest), None, None)
            yield self._described(row, kept, sealed)

    def _described(self, row: Leaf, kept: Kept | None, sealed: IO[bytes]) -> dict[str, Any]:
        proof = merkle.inclusion_proof(self._hashes.subtree, row.seq, self._head.size)
        line: dict[str, Any] = {
            "request_id": str(row.request_id),
            "user_id": None,
            "input": None,
            "output": None,
            "timestamp": None,
            "state": "gone",
            "metadata": None,
            "ciphertext_digest": None,
            "sealed": 0,
            "key": None,
            "leaf": {"sequence": row.seq, "hash": bytes(row.hash).hex(), "proof": _encoded(proof)},
        }
        if kept is not None:
            said = kept.metadata["record"]
            line |= {
                "user_id": said["user_id"],
                "timestamp": said["created"],
                "state": "sealed",
                "metadata": kept.metadata,
                "ciphertext_digest": kept.ciphertext_digest.hex(),
            }
        if kept is not None and kept.sealed is not None:
            for part in kept.sealed:
                sealed.write(len(part).to_bytes(8) + part)
                line["sealed"] += len(part) + 8
            if kept.key is not None and all(part[:1] == ciphers.OF_RECORD for part in kept.sealed):
                line |= _shown(kept.metadata, kept.key, kept.sealed)
        elif (told := self._told(row)) is not None:
            line["told"] = told
            if kept is not None:
                line["state"] = "erased"
        return line

    def _told(self, row: Leaf) -> dict[str, Any] | None:
        """Which tombstone or erasure tells of a record that is gone, and its place there."""
        for said, hashes, places in self._telling_of(row):
            if row.seq in places:
                place = places.index(row.seq)
                proof = merkle.inclusion_proof(merkle.over(hashes), place, len(hashes))
                statement_leaf = Leaf.objects.get(request_id=said.id)
                self._telling[said.id] = (Statement.objects.get(id=said.id), statement_leaf)
                return {"statement": str(said.id), "place": place, "proof": _encoded(proof)}
        return None

    def _telling_of(self, row: Leaf) -> list[tuple[statements.Statement, list[bytes], list[int]]]:
        key = (row.day, row.keeping)
        if key not in self._tombs:
            self._tombs[key] = []
            within = Leaf.objects.filter(keeping=Leaf.STATEMENT, seq__lt=self._head.size)
            rows = Statement.objects.filter(kind__in=statements.TELLING, id__in=within.values("request_id"))
            for each in rows.order_by("created"):
                said = statements.read(each.text)
                if said is None or (said.kind == statements.TOMBSTONE and not _is_of(said.body, row)):
                    continue
                found = list(_told_by(said.body))
                if found:
                    self._tombs[key].append(
                        (said, [value for _seq, value in found], [seq for seq, _ in found])
                    )
        return self._tombs[key]

    def _statements(self) -> Iterator[bytes]:
        with tenant_scope(self._tenant_id):
            for row, place in sorted(self._telling.values(), key=lambda pair: pair[1].seq):
                proof = merkle.inclusion_proof(self._hashes.subtree, place.seq, self._head.size)
                yield _line(
                    {
                        "id": str(row.id),
                        "text": row.text,
                        "signature": row.signature,
                        "leaf": {"sequence": place.seq, "proof": _encoded(proof)},
                    }
                )

    def _manifest(self, records: int, left_out: list[UUID], hashes: dict[str, Any]) -> bytes:
        with tenant_scope(self._tenant_id):
            handle = record.Handle(self._tenant_id, self._export.request_id, record.Keeping.READINGS)
            event = AuditRecord.objects.get(day=handle.day, id=handle.request_id)
            end = AuditCompletion.objects.get(day=handle.day, request_id=handle.request_id)
            proof = merkle.inclusion_proof(self._hashes.subtree, self._export.seq, self._head.size)
        said = {
            "format": FORMAT,
            "origin": signing.origin(self._tenant_id),
            "tenant_id": str(self._tenant_id),
            "created": clock.now().astimezone(UTC).isoformat(timespec="seconds"),
            "records": records,
            "left_out": [str(each) for each in left_out],
            "checkpoint": {"size": self._head.size, "root": base64.b64encode(self._head.root).decode()},
            "witnessed": self._head.witnessed is not None,
            "export": {
                "metadata": leaf.metadata(event, end),
                "ciphertext_digest": bytes(end.ciphertext_digest).hex(),
                "leaf": {"sequence": self._export.seq, "proof": _encoded(proof)},
            },
            "files": hashes,
        }
        return json.dumps(said, indent=1, allow_nan=False).encode() + b"\n"


def _shown(metadata: dict[str, Any], key: bytes, sealed: list[bytes]) -> dict[str, Any]:
    """A record's text and the key that opens it; nothing of one that was altered, which the verifier finds."""
    handle = _handle(metadata)
    try:
        content = opened(handle, key, sealed)
    except envelope.Tampered:
        return {}
    own = {"state": "open", "key": base64.b64encode(key).decode(), "purpose": str(handle.keeping)}
    return {**own, **content}


def opened(handle: record.Handle, key: bytes, sealed: list[bytes]) -> dict[str, Any]:
    """The content of a record from its ciphertexts in the order of the digest, under its own key. Raises Tampered."""
    texts = []
    for name, sequence, part in zip(*_places(sealed, handle, key), sealed, strict=True):
        texts.append((name, _decrypted(handle, key, name, sequence, part)))
    found = {name: text for name, text in texts if name != "output"}
    context = _json(found["context"]) if "context" in found else {}
    parts = output.joined(
        part
        for name, text in texts
        if name == "output"
        for part in output.decode(text.decode(errors="surrogatepass"))
    )
    return {
        "input": _json(found["input"]),
        "output": said(parts),
        "parameters": _json(found["parameters"]),
        "passages": context.get("passages", []),
        "attachments": context.get("attachments", []),
    }


def said(parts: list[output.Part]) -> str | list[dict[str, Any]]:
    """What was answered: the text, or the parts where there is more than the text of one answer."""
    text = "".join(part.text for part in parts)
    if parts == output.joined([output.Part(text)]):
        return text
    return [
        {
            "text": part.text,
            "choice": part.choice,
            "kind": str(part.kind),
            "call": part.call,
            "id": part.id,
            "name": part.name,
        }
        for part in parts
    ]


def _live(row: AuditRecord, end: AuditCompletion, chunks: list[bytes]) -> Kept:
    context = [bytes(row.context)] if row.context is not None else []
    handle = record.handle_of(row)
    try:
        key = envelope.record_key(handle.tenant_id, handle.keeping, handle.day, handle.request_id)
    except envelope.KeyDestroyed:
        key = None
    parts = [*context, bytes(row.input), bytes(row.parameters), *chunks]
    return Kept(leaf.metadata(row, end), bytes(end.ciphertext_digest), key, parts)


def _places(sealed: list[bytes], handle: record.Handle, key: bytes) -> tuple[list[str], list[int]]:
    """The field and number of each ciphertext; a context comes first when there is one."""
    try:
        _decrypted(handle, key, "context", 0, sealed[0])
        names = ["context", "input", "parameters"]
    except envelope.Tampered:
        names = ["input", "parameters"]
    chunks = len(sealed) - len(names)
    return [*names, *["output"] * chunks], [*[0] * len(names), *range(1, chunks + 1)]


def _decrypted(handle: record.Handle, key: bytes, name: str, sequence: int, sealed: bytes) -> bytes:
    bound = envelope.associated_data(
        handle.tenant_id, handle.keeping, record.associated(handle, name, sequence)
    )
    return ciphers.decrypt(key, sealed, bound, form=ciphers.OF_RECORD)


def _handle(metadata: dict[str, Any]) -> record.Handle:
    said = metadata["record"]
    row = AuditRecord(
        tenant_id=UUID(said["tenant_id"]), id=UUID(said["id"]), kind=said["kind"], schema=metadata["schema"]
    )
    return record.handle_of(row)


def _is_of(body: dict[str, Any], row: Leaf) -> bool:
    return (str(body.get("day")), body.get("keeping")) == (row.day.isoformat(), row.keeping)


def _told_by(body: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
    """The leaves that a tombstone or erasure tells of: (sequence, hash)."""
    if "sequences" in body:
        for first, last in body["sequences"]:
            rows = Leaf.objects.filter(seq__gte=first, seq__lte=last).order_by("seq")
            yield from ((seq, bytes(value)) for seq, value in rows.values_list("seq", "hash"))
    else:
        rows = Leaf.objects.filter(day=body["day"], keeping=body["keeping"]).order_by("seq")
        yield from ((seq, bytes(value)) for seq, value in rows.values_list("seq", "hash"))


def _manifest_note(tenant_id: UUID, manifest: bytes) -> str:
    signer = signing.signer(tenant_id)
    digest = base64.b64encode(hashlib.sha256(manifest).digest()).decode()
    # Its first line is no log's name, so it is never taken for a head.
    text = f"custos bundle\n{signer.name}\n{digest}\n"
    return signed(text, [signer.line(text)])


def _json(text: bytes) -> Any:
    # What is no number, as NaN, is null: other readers of JSON know none such.
    return json.loads(text.decode(errors="surrogatepass"), parse_constant=lambda name: None)


def _line(value: dict[str, Any]) -> bytes:
    # ASCII: what people sent may hold lone surrogates, which no encoding has.
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _encoded(proof: list[bytes]) -> list[str]:
    return [base64.b64encode(each).decode() for each in proof]


def _batches(values: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), BATCH):
        yield values[start : start + BATCH]
