"""What a witness answers to a head that is laid before it (C2SP tlog-witness, `add-checkpoint`)."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from audit.tree import merkle
from audit.tree.notes import (
    ED25519,
    BadNote,
    Checkpoint,
    Note,
    Signer,
    Verifier,
    hash_of,
    signed,
    whole_number,
)
from audit.witness.heads import Heads

MOST_PROOF_LINES = 63


class Answer(NamedTuple):
    status: int
    text: str
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Logs:
    """The logs that a witness serves: those of one installation, which sign with one key. key: 32 bytes, public."""

    name: str
    key: bytes

    def verifier(self, origin: str) -> Verifier | None:
        """The key of a log; None for a log of somebody else."""
        name, _, tenant = origin.rpartition("/")
        return Verifier(origin, ED25519, self.key) if name == self.name and tenant else None


class Witness:
    """Signs heads that continue the last one. For several threads at once."""

    def __init__(
        self, signer: Signer, logs: Logs, heads: Heads, clock: Callable[[], float] = time.time
    ) -> None:
        self._signer = signer
        self._logs = logs
        self._heads = heads
        self._clock = clock
        self._lock = threading.Lock()

    def add_checkpoint(self, body: bytes) -> Answer:
        """200 with the cosignature, or the status that the protocol has for what is wrong."""
        try:
            old, proof, text = _parsed(body)
            note = Note.parse(text)
            head = Checkpoint.parse(note.text)
        except (BadNote, UnicodeDecodeError) as error:
            return Answer(400, f"{error}\n")
        verifier = self._logs.verifier(head.origin)
        if verifier is None:
            return Answer(404, "this log is not known here\n")
        if note.signed_by(verifier) is None:
            return Answer(403, "no key that is known here has signed this\n")
        if old > head.size:
            return Answer(400, "the old size is above the new one\n")
        with self._lock:
            return self._continued(old, proof, head, note.text, text)

    def checkpoint(self, log: str) -> Answer:
        """The last head of a log, with the log's and our own signature; for those who compare."""
        note = self._heads.note(log)
        return Answer(404, "there is no head of this log\n") if note is None else Answer(200, note)

    def _continued(self, old: int, proof: list[bytes], head: Checkpoint, text: str, note: str) -> Answer:
        last = self._heads.last(head.origin) or Checkpoint(head.origin, 0, merkle.EMPTY_ROOT)
        if old != last.size:
            return Answer(409, f"{last.size}\n", "text/x.tlog.size")
        if old == head.size and head.root != last.root:
            return Answer(409, "there was another head of this size\n")
        if not merkle.verify_consistency(old, head.size, last.root, head.root, proof):
            return Answer(422, "this does not continue the last head\n")
        line = self._signer.line(text, time=int(self._clock()))
        own = [each for each in _lines_of(note) if each.startswith(f"— {head.origin} ")]
        self._heads.keep(head.origin, signed(text, [*own, line]))
        return Answer(200, line)


def _parsed(body: bytes) -> tuple[int, list[bytes], str]:
    """(old size, proof, note). Raises BadNote, UnicodeDecodeError."""
    above, gap, note = body.decode().partition("\n\n")
    first, *lines = above.split("\n")
    if not gap or not first.startswith("old ") or len(lines) > MOST_PROOF_LINES:
        raise BadNote("the request is not: old size, proof, empty line, checkpoint")
    return whole_number(first.removeprefix("old ")), [hash_of(line) for line in lines], note


def _lines_of(note: str) -> list[str]:
    return note.rpartition("\n\n")[2].splitlines(keepends=True)
