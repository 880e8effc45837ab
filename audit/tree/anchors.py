"""Where heads are laid down out of the reach of whoever writes the database.

An `Anchor` takes a head for good and refuses one that does not continue the last. The witness is one: a process with a
key and memory of its own (audit.witness), spoken to as C2SP's tlog-witness says. A store whose objects cannot be
overwritten would be another.
"""

import base64
import hashlib
import http.client
import os
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from django.conf import settings

from audit.tree import merkle
from audit.tree.notes import BadNote, Checkpoint, Note, Verifier, signed

WITNESS = "witness"
TIMEOUT_S = 5.0
_MOST_BYTES = 16 * 1024
_LONGEST_SOCKET_PATH = 100


class Away(Exception):
    """The anchor does not answer; what was to be laid down waits."""


class Refusal(StrEnum):
    """Why an anchor does not accept a head."""

    UNKNOWN_KEY = "unknown_key"
    UNKNOWN_LOG = "unknown_log"
    REPLACED = "replaced"  # It has seen another head of this size.
    ALTERED = "altered"  # What it has seen is not the beginning of this log.
    CUT = "cut"  # It has seen more than there is.
    OTHER_SIGNER = "other_signer"  # Its answer is not signed with its key.
    OTHER = "other"


class Refused(Exception):
    """The anchor does not accept this head. Somebody must look."""

    def __init__(self, why: Refusal, detail: str = "") -> None:
        super().__init__(f"{why} {detail}".strip())
        self.why = why


class Anchor(Protocol):
    """Keeps the last head of every log."""

    @property
    def name(self) -> str: ...

    def lay_down(self, note: str, *, last: int, subtree: merkle.Subtree) -> str:
        """Lay down a signed head; the line that proves it. last: the size of the head that went before, as we know it.

        Raises Away, Refused.
        """
        ...

    def head(self, origin: str) -> str | None:
        """The last head that was laid down, with the anchor's line; None when there is none. Raises Away."""
        ...


def configured() -> Sequence[Anchor]:
    """The anchors of this installation."""
    return [Witness()]


def witness_verifier() -> Verifier | None:
    """The witness's public key; None when there was none yet."""
    try:
        text = settings.WITNESS_KEY or (Path(settings.WITNESS_DIR) / "witness.pub").read_text()
        return Verifier.parse(text)
    except (OSError, BadNote):
        return None


@dataclass(frozen=True, slots=True)
class Witness:
    """The witness, at a socket in its own folder or wherever CUSTOS_WITNESS_URL says."""

    name: str = WITNESS

    def lay_down(self, note: str, *, last: int, subtree: merkle.Subtree) -> str:
        head = Checkpoint.parse(Note.parse(note).text)
        status, answer = self._add(note, head.size, min(last, head.size), subtree)
        if status == 409 and answer.strip().isdecimal():
            # The witness has seen another head last than we know of, as after an answer that got lost.
            theirs = int(answer)
            if theirs > head.size:
                raise Refused(Refusal.CUT, f"{theirs} seen, {head.size} there")
            status, answer = self._add(note, head.size, theirs, subtree)
        if status == 200:
            return self._own_line(note, answer)
        if status >= 500:
            raise Away(f"the witness answers {status}")
        raise Refused(_REASONS.get(status, Refusal.OTHER), str(status))

    def head(self, origin: str) -> str | None:
        status, answer = self._ask("GET", f"/{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint")
        if status == 404:
            return None
        if status != 200:
            raise Away(f"the witness answers {status}")
        return answer

    def _add(self, note: str, size: int, last: int, subtree: merkle.Subtree) -> tuple[int, str]:
        proof = merkle.consistency_proof(subtree, last, size)
        lines = [f"old {last}", *(base64.b64encode(each).decode() for each in proof)]
        return self._ask("POST", "/add-checkpoint", "\n".join(lines) + "\n\n" + note)

    def _own_line(self, note: str, answer: str) -> str:
        verifier = witness_verifier()
        for line in answer.splitlines(keepends=True):
            try:
                cosigned = Note.parse(signed(Note.parse(note).text, [line]))
            except BadNote:
                continue
            if verifier is not None and cosigned.signed_by(verifier):
                return line
        raise Refused(Refusal.OTHER_SIGNER)

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        try:
            with closing(_connection()) as connection:
                connection.request(method, path, None if body is None else body.encode())
                response = connection.getresponse()
                return response.status, response.read(_MOST_BYTES).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise Away(f"the witness does not answer ({error})") from error


def _connection() -> http.client.HTTPConnection:
    if not settings.WITNESS_URL:
        return _SocketConnection(Path(settings.WITNESS_DIR) / "socket")
    parts = urlsplit(settings.WITNESS_URL)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a socket in a folder."""

    def __init__(self, path: Path) -> None:
        super().__init__("witness", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        if len(os.fsencode(self._path)) <= _LONGEST_SOCKET_PATH:
            self.sock.connect(str(self._path))
            return
        # The kernel takes no longer paths for sockets: go by the folder.
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


_REASONS = {
    403: Refusal.UNKNOWN_KEY,
    404: Refusal.UNKNOWN_LOG,
    409: Refusal.REPLACED,
    422: Refusal.ALTERED,
}
