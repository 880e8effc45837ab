#!/usr/bin/env python3
"""Check a bundle of audit records that Custos exported, without Custos.

    python custos_verify.py BUNDLE --key LOG_KEY [--witness WITNESS_KEY] [--head HEAD] [--continuation FILE] [--not-before TIME]

LOG_KEY and WITNESS_KEY are public keys (name+id+key, or a file that holds one) from a source that you trust: not from
whoever gave you the bundle. HEAD is a file with a head of the log that you know already, as from an earlier bundle;
where the log has grown since, FILE (from the Proof page) shows that it goes on from that head. It needs no trust.

Exit status 0: everything that the bundle says of these records is proven. 1: it is not, and every reason is named.

What is proven: each record's text is what its ciphertext says, the ciphertext and all that is known beside it is what
the leaf in the log covers, the leaf stands in the log at the place given, and the log's head was signed by the log and,
with --witness, by a witness that had seen all earlier heads and no other history.

Needs Python 3.11 and the package `cryptography`, nothing else. Formats: RFC 6962 (trees), C2SP signed-note,
tlog-checkpoint and tlog-cosignature (heads), AES-256-GCM (content).
"""

import argparse
import base64
import binascii
import hashlib
import io
import json
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = "custos.bundle/1"
FILES = ("README.txt", "checkpoint.txt", "records.jsonl", "sealed.bin", "statements.jsonl")
SIGNED = ("manifest.json", "manifest.note")

SMALL_BYTES = 4 << 20
LINE_BYTES = 32 << 20
DIRECTORY_BYTES = 64 << 10
MOST_TOLD = 500  # Findings and remarks; beyond, it is clear.
RATIO = 200  # A file that unpacks to more than this, and 16 MiB, is no bundle.
CLOCKS_APART = timedelta(minutes=10)
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What reading a zip raises that is none, or is damaged.
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)

LOG, WITNESS = 0x01, 0x04
MARK = "— "
PARTS_MARK = "\ufdd0"
ADDED = ("input", "output", "parameters", "passages", "attachments")
OF_LINE = {
    *ADDED,
    *("request_id", "user_id", "timestamp", "state", "metadata", "ciphertext_digest"),
    *("sealed", "key", "purpose", "leaf", "told"),
}


class Bad(ValueError):
    """What was read is not what it must be; the message says how."""


# Trees (RFC 6962, RFC 9162)


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes | None:
    """The root to which a proof leads; None when it is none for that place."""
    if not 0 <= index < size:
        return None
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return None
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return found if last == 0 else None


def goes_on(known: tuple[int, bytes], head: tuple[int, bytes], proof: list[bytes]) -> bool:
    """Whether the later tree begins with the earlier one, both (size, root) (RFC 9162, 2.1.4.2)."""
    (old, old_root), (new, new_root) = known, head
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not 0 < old < new or not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root


# Keys, notes and heads (C2SP)


@dataclass(frozen=True)
class Key:
    """A public key by name; kind: of a log or of a witness."""

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    @classmethod
    def parse(cls, text: str, kind: int) -> "Key":
        name, _, rest = text.strip().partition("+")
        shown, _, encoded = rest.partition("+")
        material = decoded(encoded)
        if not name or len(material) != 33 or material[0] != kind:
            raise Bad(f"this is no public key of a {'log' if kind == LOG else 'witness'} (name+id+key)")
        key = cls(name, kind, material[1:])
        if key.id.hex() != shown:
            raise Bad("the key is not whole: its id does not fit")
        return key

    def signed(self, text: str, lines: str) -> datetime | bool:
        """Whether one of the lines is this key's signature of the text; of a witness, when it was made."""
        for line in lines.splitlines():
            name, _, encoded = line.removeprefix(MARK).partition(" ")
            try:
                value = decoded(encoded)
            except Bad:
                continue
            if not line.startswith(MARK) or name != self.name or value[:4] != self.id:
                continue
            signature, message, time = value[4:], text.encode(errors="replace"), 0
            if self.kind == WITNESS:
                if len(signature) != 72:
                    continue
                time = int.from_bytes(signature[:8], "big")
                message, signature = f"cosignature/v1\ntime {time}\n".encode() + message, signature[8:]
            try:
                Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
                return datetime.fromtimestamp(time, UTC) if self.kind == WITNESS else True
            except (InvalidSignature, ValueError, OverflowError, OSError):
                continue
        return False


@dataclass(frozen=True)
class Head:
    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> "Head":
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not lines[0]:
            raise Bad("the head of the log has not the form of one")
        return cls(lines[0], number(lines[1]), hash_from(lines[2]))


def note_from(text: str) -> tuple[str, str]:
    """(text, signatures) of a signed note."""
    above, gap, below = text.rpartition("\n\n")
    if not gap or not below:
        raise Bad("it has no signature")
    return above + "\n", below


def number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or (text != "0" and text[0] == "0"):
        raise Bad("a size is no number")
    return int(text)


def decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError, AttributeError, ValueError) as error:
        raise Bad("something is not base64") from error


def hash_from(text: Any) -> bytes:
    found = decoded(text)
    if len(found) != 32:
        raise Bad("a hash has not 32 bytes")
    return found


def hash_from_hex(text: Any) -> bytes:
    try:
        found = bytes.fromhex(text)
    except (TypeError, ValueError) as error:
        raise Bad("something is not hexadecimal") from error
    if len(found) != 32:
        raise Bad("a hash has not 32 bytes")
    return found


def proof_from(value: Any) -> list[bytes]:
    if not isinstance(value, list) or len(value) > 64:
        raise Bad("a path through the tree is none")
    return [hash_from(each) for each in value]


# JSON


def json_from(data: bytes) -> Any:
    try:
        return json.loads(data, parse_constant=lambda name: None, object_pairs_hook=members)
    except Bad:
        raise
    except (ValueError, RecursionError) as error:
        raise Bad("something is not JSON") from error


def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, where no name stands twice: readers differ in which of the two they show."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Bad("a name stands twice in one object")
    return found


def canonical(value: Any) -> bytes:
    """JSON as leaves have it."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise Bad("something cannot be written as JSON") from error


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: 1 is not true, and not 1.0."""
    try:
        return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    except (ValueError, TypeError, RecursionError):
        return False


def field(value: Any, *names: str, kind: type = object) -> Any:
    """A member of JSON objects within each other, of a kind."""
    for name in names:
        if not isinstance(value, dict) or name not in value:
            raise Bad(f"“{'.'.join(names)}” is missing")
        value = value[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Bad(f"“{'.'.join(names)}” is not what it must be")
    return value


# The bundle


class Bundle:
    """The files of a zip, read piece by piece and never believed in their sizes."""

    def __init__(self, path: Path) -> None:
        if directory_bytes(path) > DIRECTORY_BYTES:
            raise Bad("it has far more files than a bundle")
        try:
            self.zip = zipfile.ZipFile(path)
        except (*UNREADABLE, NotImplementedError) as error:
            raise Bad(f"it is no zip file ({error})") from error
        if any(info.compress_type not in COMPRESSIONS for info in self.zip.infolist()):
            raise Bad("its files are packed in a way that bundles are not")
        self.names = [info.filename for info in self.zip.infolist()]
        self.most = path.stat().st_size * RATIO + (16 << 20)
        self.found: dict[str, tuple[int, str]] = {}

    def open(self, name: str) -> "Reader":
        try:
            return Reader(self.zip.open(name), self.most)
        except (*UNREADABLE, KeyError, NotImplementedError) as error:
            raise Bad(f"{name} cannot be read") from error

    def small(self, name: str) -> bytes:
        data = self.open(name).read(SMALL_BYTES + 1)
        if len(data) > SMALL_BYTES:
            raise Bad(f"{name} is far too long")
        return data


class Reader:
    """A file of the zip: pieces and lines of bounded length, and at the end its size and digest."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self.file, self.most = file, most
        self.size, self.digest = 0, hashlib.sha256()

    def read(self, length: int) -> bytes:
        return self._seen(self._try(lambda: self.file.read(length)))

    def exactly(self, length: int) -> bytes:
        data = self.read(length)
        if len(data) != length:
            raise Bad("the ciphertexts end too early")
        return data

    def lines(self) -> Iterator[bytes]:
        while line := self._seen(self._try(lambda: self.file.readline(LINE_BYTES))):
            if len(line) == LINE_BYTES:
                raise Bad("a line is far too long")
            yield line

    def rest(self) -> int:
        """Read what is left; how much that was."""
        count = 0
        while piece := self.read(1 << 20):
            count += len(piece)
        return count

    def _seen(self, data: bytes) -> bytes:
        self.size += len(data)
        if self.size > self.most:
            raise Bad("it unpacks to far more than a bundle of its size can hold")
        self.digest.update(data)
        return data

    def _try(self, read: Any) -> bytes:
        try:
            return read()
        except UNREADABLE as error:
            raise Bad("a file of the bundle is damaged") from error


def directory_bytes(path: Path) -> int:
    """How long the zip's table of contents says it is: read before it is loaded."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 66_000))
        tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) < place + 22:
        raise Bad("it is no zip file")
    size = int(struct.unpack("<L", tail[place + 12 : place + 16])[0])
    # Where a wide form of it stands before it, that one is read, whatever the narrow one says.
    before = tail[max(0, place - 76) : place]
    if before[:4] == b"PK\x06\x06" and before[56:60] == b"PK\x06\x07":
        return max(int(struct.unpack("<Q", before[40:48])[0]), size if size != 0xFFFFFFFF else 0)
    if size == 0xFFFFFFFF:
        raise Bad("it is no zip file")
    return size


class Told(list[str]):
    """Sentences, up to a number of them."""

    def append(self, sentence: str) -> None:
        if len(self) < MOST_TOLD:
            super().append(sentence)
        elif len(self) == MOST_TOLD:
            super().append("… and more, which are not told one by one.")


class Check:
    """One verification: what it found wrong, and what it says of the rest."""

    def __init__(
        self,
        bundle: Bundle,
        key: Key,
        witness: Key | None,
        known: Head | None,
        not_before: datetime | None,
        continuation: list[bytes] | None,
    ) -> None:
        self.bundle, self.key, self.witness = bundle, key, witness
        self.known, self.not_before, self.continuation = known, not_before, continuation
        self.findings = Told()
        self.account = Told()
        self.manifest: dict[str, Any] = {}
        self.head = Head("", 0, b"")
        self.told: list[tuple[str, int, bytes, dict[str, Any], UUID]] = []

    def run(self) -> None:
        self.files()
        self.signed_manifest()
        self.signed_head()
        self.export()
        count = self.records()
        self.statements()
        if count != self.manifest.get("records"):
            self.findings.append(f"There are {count} records instead of {self.manifest.get('records')}.")
        self.compare_files()

    def files(self) -> None:
        wanted = {*FILES, *SIGNED}
        for name in sorted(set(self.bundle.names) - wanted):
            self.findings.append(f"The file {name[:80]!r} does not belong into a bundle.")
        for name in sorted(wanted):
            if self.bundle.names.count(name) != 1:
                raise Bad(f"{name} is there {self.bundle.names.count(name)} times instead of once")

    def signed_manifest(self) -> None:
        data = self.bundle.small("manifest.json")
        text, lines = note_from(utf8(self.bundle.small("manifest.note")))
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        if text != f"custos bundle\n{self.key.name}\n{digest}\n":
            raise Bad("the manifest is not the one that was signed, or is of another log")
        if not self.key.signed(text, lines):
            raise Bad("the manifest is not signed with the log's key")
        self.manifest = field({"manifest": json_from(data)}, "manifest", kind=dict)
        if self.manifest.get("format") != FORMAT or self.manifest.get("origin") != self.key.name:
            raise Bad("the manifest is of another format or log")
        tenant = field(self.manifest, "tenant_id", kind=str)
        if self.key.name.rpartition("/")[2] != tenant:
            raise Bad("the manifest names another tenant than the log")

    def signed_head(self) -> None:
        text, lines = note_from(utf8(self.bundle.small("checkpoint.txt")))
        head = Head.parse(text)
        if head.origin != self.key.name or not self.key.signed(text, lines):
            raise Bad("the log's head is not signed with the log's key, or is of another log")
        stated = field(self.manifest, "checkpoint", kind=dict)
        if (head.size, head.root) != (field(stated, "size", kind=int), hash_from(field(stated, "root"))):
            raise Bad(
                "the log's head is not the one that the bundle was made under (an older one, or another)"
            )
        self.head = head
        self.account.append(
            f"The log {head.origin} had {head.size} entries; its head is signed with the key that you gave."
        )
        seen = self.witness.signed(text, lines) if self.witness else None
        if self.witness and isinstance(seen, datetime):
            self.account.append(
                f"The witness {self.witness.name} signed this head at {seen:%Y-%m-%d %H:%M:%S} UTC."
            )
        elif self.witness:
            self.findings.append("The witness that you named has not signed this head.")
        else:
            self.account.append(
                "NOT CHECKED: the witness. Whoever holds the log's key could have two histories."
            )
        if self.known is not None:
            self.compare_known(self.known)
        self.seen = seen if isinstance(seen, datetime) else None

    def compare_known(self, known: Head) -> None:
        if known.origin != self.head.origin:
            self.findings.append("The head that you know is of another log.")
        elif known.size > self.head.size:
            self.findings.append(
                f"The head is older than the one that you know: {self.head.size} entries instead of {known.size}."
            )
        elif known.size < self.head.size:
            self.compare_older(known)
        elif known.size == self.head.size and known.root != self.head.root:
            self.findings.append(
                "The head that you know has the same size and another root: there are two histories."
            )

    def compare_older(self, known: Head) -> None:
        sizes = f"{known.size} and {self.head.size} entries"
        if self.continuation is None:
            self.account.append(
                "NOT CHECKED: whether the log goes on from the head that you know; the witness vouches for that. To check "
                f"it, get the continuation of {sizes} from the Proof page and give it with --continuation."
            )
        elif goes_on((known.size, known.root), (self.head.size, self.head.root), self.continuation):
            self.account.append(f"The log goes on from the head that you know ({sizes}).")
        else:
            self.findings.append(
                f"The continuation does not lead from the head that you know to this one ({sizes}): it is another, or there "
                "are two histories."
            )

    def export(self) -> None:
        """The export itself is in the log under this head, so the head is no older than the bundle."""
        event = field(self.manifest, "export", kind=dict)
        metadata = field(event, "metadata", kind=dict)
        leaf = leaf_hash(canonical(metadata) + hash_from_hex(field(event, "ciphertext_digest")))
        sequence = field(event, "leaf", "sequence", kind=int)
        proof = proof_from(field(event, "leaf", "proof"))
        said = field(metadata, "record", kind=dict)
        if said.get("kind") != "audit.export" or said.get("tenant_id") != self.manifest.get("tenant_id"):
            raise Bad("the bundle's export is no export of this tenant")
        if root_of(leaf, sequence, self.head.size, proof) != self.head.root:
            raise Bad("the bundle's export is not in the log under this head")
        exported = time_from(field(said, "created", kind=str))
        self.account.append(
            f"The export is entry {sequence} of the log itself: by {said.get('user_label')!r} at {exported:%Y-%m-%d %H:%M:%S} UTC."
        )
        if self.seen is not None and self.seen < exported - CLOCKS_APART:
            self.findings.append("The witness signed this head long before the export that it covers.")
        if self.not_before is not None and exported < self.not_before:
            self.findings.append(
                f"The bundle was made at {exported:%Y-%m-%d %H:%M:%S} UTC, before the time you named."
            )

    # Records

    def records(self) -> int:
        lines, sealed = self.bundle.open("records.jsonl"), self.bundle.open("sealed.bin")
        before, count = -1, 0
        for count, data in enumerate(lines.lines(), 1):
            name = f"record {count}"
            try:
                line = field({"line": json_from(data)}, "line", kind=dict)
                name = f"record {count} ({str(line.get('request_id'))[:36]!r})"
                sequence = field(line, "leaf", "sequence", kind=int)
                if sequence <= before:
                    self.findings.append(f"The {name} is out of order, or there twice.")
                before = sequence
                self.record(name, line, sealed)
            except Bad as error:
                self.findings.append(f"The {name}: {error}.")
        if sealed.rest():
            self.findings.append("There are ciphertexts that belong to no record.")
        for file_name, reader in (("records.jsonl", lines), ("sealed.bin", sealed)):
            self.bundle.found[file_name] = (reader.size, reader.digest.hexdigest())
        if left_out := field(self.manifest, "left_out", kind=list):
            self.account.append(
                f"{len(left_out)} more were asked for and are not here: they were not in the log yet."
            )
        if count:
            self.account.append(f"{count} records were looked at, each against its place in the log.")
        return count

    def record(self, name: str, line: dict[str, Any], sealed: Reader) -> None:
        if set(line) - OF_LINE:
            self.findings.append(f"The {name} says more than a record does, and nothing proves it.")
        request_id = uuid_from(field(line, "request_id"))
        leaf = hash_from_hex(field(line, "leaf", "hash"))
        parts, digest = self.ciphertexts(field(line, "sealed", kind=int), sealed)
        sequence = field(line, "leaf", "sequence", kind=int)
        proof = proof_from(field(line, "leaf", "proof"))
        if root_of(leaf, sequence, self.head.size, proof) != self.head.root:
            self.findings.append(f"The {name} is not in the log at the place it names.")
        if line.get("metadata") is None:
            said = (line.get(each) for each in ("user_id", "timestamp", "ciphertext_digest"))
            if line.get("state") != "gone" or any(each is not None for each in said):
                self.findings.append(
                    f"The {name} is gone, and nothing proves what is said of it beside that."
                )
            self.gone(name, line, leaf, request_id)
            return
        metadata, stated = field(line, "metadata", kind=dict), hash_from_hex(field(line, "ciphertext_digest"))
        if leaf_hash(canonical(metadata) + stated) != leaf:
            self.findings.append(f"The {name}: who, when or what beside the text is not what was recorded.")
        self.core(name, line, field(metadata, "record", kind=dict))
        state = field(line, "state", kind=str)
        if state == "erased":
            self.gone(name, line, leaf, request_id)
            return
        if digest != stated:
            self.findings.append(f"The {name}: a ciphertext was altered, added or removed.")
        chunks = field(metadata, "completion", "chunk_count", kind=int)
        if not 2 <= len(parts) - chunks <= 3:
            self.findings.append(f"The {name} has another number of ciphertexts than was recorded.")
        elif state == "open":
            self.text(name, line, metadata, parts, chunks)
        elif state == "sealed":
            if any(line.get(each) is not None for each in ADDED):
                self.findings.append(f"The {name} shows text without the key that would prove it.")
            self.account.append(
                f"NOT CHECKED: the text of {name}, which is sealed under a key that opens more than it."
            )
        else:
            self.findings.append(f"The {name} is in a state that there is not.")

    def ciphertexts(self, length: int, sealed: Reader) -> tuple[list[bytes], bytes]:
        parts, digest = [], hashlib.sha256()
        if not 0 <= length <= LINE_BYTES:
            raise Bad("its ciphertexts have an impossible length")
        while length > 0:
            size = sealed.exactly(8)
            count = int.from_bytes(size, "big")
            if count > length - 8:
                sealed.exactly(max(0, length - 8))
                raise Bad("its ciphertexts are not what was recorded")
            part = sealed.exactly(count)
            digest.update(size + part)
            parts.append(part)
            length -= 8 + count
        return parts, digest.digest()

    def core(self, name: str, line: dict[str, Any], said: dict[str, Any]) -> None:
        pairs = {"request_id": "id", "user_id": "user_id", "timestamp": "created"}
        for mine, theirs in pairs.items():
            if not same(line.get(mine), said.get(theirs)):
                self.findings.append(f"The {name}: its {mine} is not what was recorded.")
        if said.get("tenant_id") != self.manifest.get("tenant_id"):
            self.findings.append(f"The {name} is another tenant's.")

    def text(
        self, name: str, line: dict[str, Any], metadata: dict[str, Any], parts: list[bytes], chunks: int
    ) -> None:
        """What is shown is what the ciphertexts hold."""
        key = decoded(field(line, "key"))
        if len(key) != 32:
            raise Bad("its key has not 32 bytes")
        names = ["context"] * (len(parts) - chunks - 2) + ["input", "parameters"]
        places = [(each, 0) for each in names] + [("output", place) for place in range(1, chunks + 1)]
        found: dict[str, bytes] = {}
        answer = []
        for (which, place), part in zip(places, parts, strict=True):
            bound = {
                "tenant": metadata["record"].get("tenant_id"),
                "purpose": line.get("purpose"),
                "request": metadata["record"].get("id"),
                "field": which,
                "sequence": str(place),
                "schema": "1",
            }
            aad = json.dumps(bound, sort_keys=True, separators=(",", ":")).encode()
            try:
                if part[:1] != b"\x02":
                    raise InvalidTag
                plain = AESGCM(key).decrypt(part[1:13], part[13:], aad)
            except (InvalidTag, ValueError):
                self.findings.append(f"The {name}: its key does not open its {which}.")
                return
            if which == "output":
                answer.append(plain.decode("utf-8", "surrogatepass"))
            else:
                found[which] = plain
        context = json_from_sealed(found["context"]) if "context" in found else {}
        shown = {
            "input": json_from_sealed(found["input"]),
            "parameters": json_from_sealed(found["parameters"]),
            "passages": context.get("passages", []) if isinstance(context, dict) else None,
            "attachments": context.get("attachments", []) if isinstance(context, dict) else None,
            "output": answered(answer),
        }
        for which, value in shown.items():
            if not same(value, line.get(which)):
                self.findings.append(f"The {name}: the {which} shown is not the one that was recorded.")

    def gone(self, name: str, line: dict[str, Any], leaf: bytes, request_id: UUID) -> None:
        if any(line.get(each) is not None for each in (*ADDED, "key")) or line.get("sealed"):
            self.findings.append(f"The {name} is said to be gone, but shows text.")
        told = line.get("told")
        if told is None:
            self.findings.append(f"The {name} is gone, and nothing tells why.")
            return
        statement = str(uuid_from(field(told, "statement")))
        self.told.append((name, field(line, "leaf", "sequence", kind=int), leaf, told, request_id))
        self.account.append(f"The {name} is gone; statement {statement} tells of it.")

    # Statements

    def statements(self) -> None:
        reader = self.bundle.open("statements.jsonl")
        said: dict[str, dict[str, Any]] = {}
        for place, data in enumerate(reader.lines(), 1):
            try:
                line = field({"line": json_from(data)}, "line", kind=dict)
                text = field(line, "text", kind=str)
                self.statement(f"statement {place}", line, text)
                body = field(json_from(text.encode(errors="surrogatepass")), "statement", kind=dict)
                said[field(body, "id", kind=str)] = body
            except Bad as error:
                self.findings.append(f"The statement {place}: {error}.")
        self.bundle.found["statements.jsonl"] = (reader.size, reader.digest.hexdigest())
        for name, sequence, leaf, told, request_id in self.told:
            try:
                self.tells(name, said, sequence, leaf, told, request_id)
            except Bad as error:
                self.findings.append(f"The {name}: {error}.")

    def statement(self, name: str, line: dict[str, Any], text: str) -> None:
        data = text.encode(errors="surrogatepass")
        leaf, sequence = leaf_hash(data), field(line, "leaf", "sequence", kind=int)
        if (
            root_of(leaf, sequence, self.head.size, proof_from(field(line, "leaf", "proof")))
            != self.head.root
        ):
            self.findings.append(f"The {name} is not in the log as it stands here.")
        if not self.key.signed(f"custos statement\n{text}\n", field(line, "signature", kind=str)):
            self.findings.append(f"The {name} is not signed with the log's key.")
        if field(json_from(data), "statement", "tenant_id") != self.manifest.get("tenant_id"):
            self.findings.append(f"The {name} is another tenant's.")

    def tells(
        self,
        name: str,
        said: dict[str, dict[str, Any]],
        sequence: int,
        leaf: bytes,
        told: dict[str, Any],
        request_id: UUID,
    ) -> None:
        statement = said.get(str(told.get("statement")))
        if statement is None or statement.get("kind") not in ("tombstone", "erasure"):
            raise Bad("what tells that it is gone is not in the bundle")
        body = field(statement, "body", kind=dict)
        count, root = field(body, "count", kind=int), hash_from_hex(field(body, "root"))
        place, proof = field(told, "place", kind=int), proof_from(field(told, "proof"))
        if root_of(leaf, place, count, proof) != root:
            raise Bad("the statement that it is gone does not tell of it")
        if "sequences" in body:
            ranges = field(body, "sequences", kind=list)
            is_within = any(
                isinstance(each, list)
                and len(each) == 2
                and all(type(end) is int for end in each)
                and each[0] <= sequence <= each[1]
                for each in ranges
            )
        else:
            is_within = field(body, "first", kind=int) <= sequence <= field(body, "last", kind=int)
        if not is_within:
            raise Bad("the statement that it is gone tells of other places")
        if statement.get("kind") == "tombstone" and body.get("day") != day_of(request_id):
            raise Bad("the tombstone is of another day")

    def compare_files(self) -> None:
        stated = field(self.manifest, "files", kind=dict)
        for name in FILES:
            size, digest = self.bundle.found.get(name) or measured(self.bundle, name)
            entry = stated.get(name)
            if not isinstance(entry, dict) or (entry.get("bytes"), entry.get("sha256")) != (size, digest):
                self.findings.append(f"{name} is not the file that the manifest was signed with.")
        if set(stated) != set(FILES):
            self.findings.append("The manifest names other files than there are.")


def measured(bundle: Bundle, name: str) -> tuple[int, str]:
    reader = bundle.open(name)
    reader.rest()
    return reader.size, reader.digest.hexdigest()


def json_from_sealed(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8", "surrogatepass"), parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        raise Bad("what was sealed is not JSON") from error


def answered(pieces: list[str]) -> Any:
    """What was answered: text, or parts where there is more than the text of one answer (audit/output.py)."""
    parts: list[dict[str, Any]] = []
    for piece in pieces:
        if not piece.startswith(PARTS_MARK):
            parts += [part(text=piece)] if piece else []
            continue
        listed = json_from(piece[1:].encode(errors="surrogatepass"))
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise Bad("an answer has not the form of one")
        parts += [part(**{str(name): value for name, value in each.items()}) for each in listed]
    together = joined(parts)
    text = "".join(str(each["text"]) for each in together)
    return text if together == joined([part(text=text)]) else together


def part(
    text: Any = "", choice: Any = 0, kind: Any = "text", call: Any = 0, id: Any = "", name: Any = "", **_: Any
) -> dict[str, Any]:
    strings = all(isinstance(each, str) for each in (text, kind, id, name))
    if not strings or not isinstance(choice, int) or not isinstance(call, int):
        raise Bad("an answer has not the form of one")
    return {"text": text, "choice": choice, "kind": kind, "call": call, "id": id, "name": name}


def joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answer by answer; neighbours of one answer, kind and call are one."""
    some = sorted(
        (each for each in parts if each["text"] or each["name"] or each["id"]),
        key=lambda each: each["choice"],
    )
    found: list[dict[str, Any]] = []
    for each in some:
        last = found[-1] if found else None
        if last and (last["choice"], last["kind"], last["call"]) == (
            each["choice"],
            each["kind"],
            each["call"],
        ):
            last["text"] += each["text"]
            last["name"] += each["name"]
            last["id"] = last["id"] or each["id"]
        else:
            found.append(dict(each))
    return found


def uuid_from(text: Any) -> UUID:
    try:
        return UUID(text)
    except (TypeError, ValueError, AttributeError) as error:
        raise Bad("an id is none") from error


def day_of(identifier: UUID) -> str:
    try:
        return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return ""


def time_from(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Bad("a time is none") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Bad("a note is not text") from error


def key_from(text: str, kind: int) -> Key:
    """From the key itself or a file that holds it."""
    if "+" not in text:
        try:
            text = Path(text).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Bad(f"{text} cannot be read") from error
    return Key.parse(text, kind)


def verify(
    path: Path,
    key: Key,
    witness: Key | None = None,
    known: Head | None = None,
    not_before: datetime | None = None,
    continuation: list[bytes] | None = None,
) -> tuple[list[str], list[str]]:
    """(findings, account) of a bundle; it is sound when there are no findings. Never raises for what a bundle holds."""
    try:
        check = Check(Bundle(path), key, witness, known, not_before, continuation)
    except (Bad, OSError) as error:
        return [f"This is no bundle: {error}."], []
    try:
        check.run()
    except (Bad, OSError) as error:
        check.findings.append(f"The bundle is not what was exported: {error}.")
    except (
        RecursionError,
        MemoryError,
        OverflowError,
        TypeError,
        ValueError,
        KeyError,
        AttributeError,
    ) as error:
        check.findings.append(f"The bundle is malformed ({type(error).__name__}).")
    finally:
        check.bundle.zip.close()
    return check.findings, check.account


def main() -> int:
    parser = argparse.ArgumentParser(description="Check a bundle of audit records that Custos exported.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", required=True, help="the log's public key, or a file with it")
    parser.add_argument("--witness", help="the witness's public key, or a file with it")
    parser.add_argument("--head", type=Path, help="a file with a head of the log that you know")
    parser.add_argument("--continuation", type=Path, help="a file that leads from that head to the bundle's")
    parser.add_argument("--not-before", help="the bundle must not be older than this time (ISO 8601)")
    options = parser.parse_args()
    try:
        key = key_from(options.key, LOG)
        witness = key_from(options.witness, WITNESS) if options.witness else None
        known = Head.parse(note_from(options.head.read_text())[0]) if options.head else None
        not_before = time_from(options.not_before) if options.not_before else None
        file = options.continuation
        continuation = proof_from(field(json_from(file.read_bytes()), "proof")) if file else None
    except (Bad, OSError, UnicodeDecodeError) as error:
        parser.error(str(error))
    for stream in (sys.stdout, sys.stderr):  # No name in a bundle is one that a console cannot show.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    findings, account = verify(options.bundle, key, witness, known, not_before, continuation)
    for line in account:
        print(line)
    for finding in findings:
        print(f"FINDING: {finding}")
    print("NOT PROVEN: see the findings." if findings else "PROVEN: nothing was altered, removed or added.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
