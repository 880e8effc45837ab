"""Signed notes, checkpoints and cosignatures as C2SP specifies them (signed-note, tlog-checkpoint, tlog-cosignature).

A checkpoint is three lines, origin, size and root, and below an empty line who signed it:

    custos.bank.example/0192…        origin
    20852163                         leaves
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — custos.bank.example/0192… Az3grlgt…

Imports nothing of Custos but what imports nothing itself, for the witness runs without the server.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.tree.merkle import HASH_BYTES

ED25519 = 0x01
COSIGNATURE = 0x04

_MARK = "— "
_MOST_BYTES = 16 * 1024
_LAST_TIME = 2**63 - 1


class BadNote(ValueError):
    """The text is no note, checkpoint or key of these formats; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key by name. Its text form, the "vkey", is `name+id+key`."""

    name: str
    kind: int
    key: bytes

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.key).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([self.kind]) + self.key).decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises BadNote."""
        # A key in base64 may hold a "+" itself, names may not.
        name, _, rest = text.strip().partition("+")
        shown_id, _, encoded = rest.partition("+")
        material = _decoded(encoded)
        if not name or len(material) != 33 or material[0] not in (ED25519, COSIGNATURE):
            raise BadNote("this is no verifier key of a log or witness: it looks like name+12345678+AbCd…")
        found = cls(name, material[0], material[1:])
        if found.id.hex() != shown_id:
            raise BadNote("the verifier key is not whole: its id does not fit its name and key")
        return found

    def accepts(self, text: str, signature: bytes) -> bool:
        """Whether `signature` (without the key's id) is this key's over a note's text."""
        message = text.encode()
        if self.kind == COSIGNATURE:
            if len(signature) != 72 or (time := int.from_bytes(signature[:8])) > _LAST_TIME:
                return False
            message, signature = _cosigned(text, time), signature[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key by name: of a log (ED25519) or of a witness (COSIGNATURE). `key`: 32 bytes."""

    name: str
    kind: int
    key: bytes

    @property
    def verifier(self) -> Verifier:
        public = Ed25519PrivateKey.from_private_bytes(self.key).public_key().public_bytes_raw()
        return Verifier(self.name, self.kind, public)

    def line(self, text: str, *, time: int = 0) -> str:
        """The line that goes below a note's text. time: seconds since 1970, which only a cosignature tells."""
        private = Ed25519PrivateKey.from_private_bytes(self.key)
        if self.kind == COSIGNATURE:
            signature = time.to_bytes(8) + private.sign(_cosigned(text, time))
        else:
            signature = private.sign(text.encode())
        return f"{_MARK}{self.name} {base64.b64encode(self.verifier.id + signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Signature:
    """A line below a note, not verified yet."""

    name: str
    key_id: bytes
    value: bytes

    @property
    def time(self) -> int:
        """When a cosignature says that it was made, in seconds since 1970."""
        return int.from_bytes(self.value[:8])


@dataclass(frozen=True, slots=True)
class Note:
    """A text, which ends with a line's end, and the signatures below it."""

    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, note: str) -> Self:
        """Raises BadNote."""
        if len(note.encode(errors="replace")) > _MOST_BYTES:
            raise BadNote("the note is too long")
        text, gap, below = note.rpartition("\n\n")
        if not gap or not below.endswith("\n") or any(ord(each) < 32 and each != "\n" for each in note):
            raise BadNote("the note has no signatures below an empty line")
        return cls(text + "\n", tuple(_signature(line) for line in below[:-1].split("\n")))

    def signed_by(self, verifier: Verifier) -> Signature | None:
        """The signature of this key, when there is one and it is right."""
        for each in self.signatures:
            if (each.name, each.key_id) == (verifier.name, verifier.id) and verifier.accepts(
                self.text, each.value
            ):
                return each
        return None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: its origin, how many leaves it has, and their root."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the text of a note. Raises BadNote."""
        lines = text.split("\n")
        if len(lines) < 4 or not lines[0] or lines[-1]:
            raise BadNote("the text is no checkpoint: it has not three lines")
        return cls(lines[0], whole_number(lines[1]), hash_of(lines[2]))


def signed(text: str, lines: Iterable[str]) -> str:
    """A note: its text and the lines of its signers."""
    return text + "\n" + "".join(lines)


def whole_number(text: str) -> int:
    """A number as notes have it: ASCII digits without leading zeroes. Raises BadNote."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or (text[0] == "0" and text != "0"):
        raise BadNote("the size is no whole number")
    return int(text)


def hash_of(text: str) -> bytes:
    """A hash in base64. Raises BadNote."""
    found = _decoded(text)
    if len(found) != HASH_BYTES:
        raise BadNote("a hash has not 32 bytes")
    return found


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_MARK).partition(" ")
    value = _decoded(encoded)
    if not line.startswith(_MARK) or not name or "+" in name or len(value) < 5:
        raise BadNote("a line below the note is no signature")
    return Signature(name, value[:4], value[4:])


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise BadNote("this is not base64") from error
