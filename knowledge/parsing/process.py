"""One file, one process that may do little: no secrets in its environment, little memory, little time, no network.

What this keeps out is a file that takes the worker with it. It is no wall against somebody who runs code inside a library
that reads the file: such code has the rights of the worker's account (docs/decisions/0027-parsing.md).
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO

from knowledge.parsing.parsed import CODES, Limits, Parsed, Refused, from_json

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[2]
# How it looks for its libraries, and nothing of the parent's: that environment holds keys.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TZ")
_MOST_SAID = 2_000  # Of what it says about an error.
_PIECE = 1 << 20
_ASK_EVERY_S = 10.0
_BYTES_A_CHARACTER = 12  # As JSON, with the blocks.


class ReaderBroken(Exception):
    """The process could not do its work, whatever the file: something is missing, or an error of ours."""


class Stopped(Exception):
    """Nobody wants it any more."""


def parse_file(path: Path, *, name: str, limits: Limits = Limits()) -> Parsed:  # noqa: B008 — it is frozen
    """What stands in a file. name: as it was called where it came from. Blocks.

    Raises Refused; OSError, and ReaderBroken when it is not for the file.
    """
    with path.open("rb") as file:
        return _parse(file, name, limits, lambda: True)


def parse_content(
    content: bytes,
    *,
    name: str,
    limits: Limits = Limits(),  # noqa: B008 — it is frozen
    go_on: Callable[[], bool] = lambda: True,
) -> Parsed:
    """The same of what is in memory, and stays there: what is sealed elsewhere does not come to a disk in the clear.

    go_on: asked every ten seconds; Stopped is raised when it says no.
    """
    with _in_memory() as file:
        file.write(content)
        file.seek(0)
        return _parse(file, name, limits, go_on)


def _in_memory() -> IO[bytes]:
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("file", os.MFD_CLOEXEC), "w+b")
    return tempfile.TemporaryFile()  # Without a name, gone with the process.


def _parse(file: IO[bytes], name: str, limits: Limits, go_on: Callable[[], bool]) -> Parsed:
    if os.fstat(file.fileno()).st_size > limits.size:
        raise Refused("too_large")
    order = json.dumps({"name": name, "limits": asdict(limits)})
    process = subprocess.Popen(
        [sys.executable, "-B", "-X", "utf8", "-m", "knowledge.parsing.worker", order],
        stdin=file,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=_ROOT,
        env=_environment(),
        start_new_session=True,
    )
    try:
        answer, errors = _hear(process, limits, go_on)
    except BaseException:
        _end(process)
        raise
    return _understood(answer, errors, process.returncode)


def _environment() -> dict[str, str]:
    kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
    # One thread: what is measured is processor time, and another has the second core. Arenas cost address space.
    return {
        **kept,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def _hear(process: subprocess.Popen[bytes], limits: Limits, go_on: Callable[[], bool]) -> tuple[bytes, bytes]:
    """What it wrote on its two pipes, until it ended. Raises Stopped, and Refused when it takes too long or says too much."""
    assert process.stdout is not None and process.stderr is not None
    until = time.monotonic() + limits.wall_s
    answer, errors = bytearray(), bytearray()
    most = limits.characters * _BYTES_A_CHARACTER + _PIECE
    with selectors.DefaultSelector() as selector, process.stdout, process.stderr:
        selector.register(process.stdout, selectors.EVENT_READ, answer)
        selector.register(process.stderr, selectors.EVENT_READ, errors)
        while selector.get_map():
            ready = selector.select(min(max(until - time.monotonic(), 0), _ASK_EVERY_S))
            if time.monotonic() >= until:
                raise Refused("took_too_long")
            if not ready and not go_on():
                raise Stopped
            for key, _events in ready:
                piece = os.read(key.fd, _PIECE)
                key.data.extend(piece)
                if not piece:
                    selector.unregister(key.fileobj)
            del errors[:-_MOST_SAID]
            if len(answer) > most:
                raise Refused("too_large")
        try:
            process.wait(max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            raise Refused("took_too_long") from None
    return bytes(answer), bytes(errors)


def _end(process: subprocess.Popen[bytes]) -> None:
    """With whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _understood(answer: bytes, errors: bytes, status: int) -> Parsed:
    if status > 0:
        raise ReaderBroken(errors.decode("utf-8", "replace"))
    if status < 0:
        code = _code_of(status, errors)
        logger.warning("a file was given up: %s (status %d)", code, status)
        raise Refused(code)
    try:
        said = json.loads(answer)
        code = said.get("refused")
        if code is None:
            return from_json(said["parsed"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused("corrupt") from None
    if said.get("at"):
        logger.warning("a file could not be read: %s", str(said["at"])[:200])
    raise Refused(code if code in CODES else "corrupt")


def _code_of(status: int, errors: bytes) -> str:
    """Why a process ended that did not say so itself."""
    if status == -signal.SIGXCPU:
        return "took_too_long"
    # The system's answer to too much memory, and what libraries say before they abort.
    if (
        status == -signal.SIGKILL
        or b"bad_alloc" in errors
        or b"MemoryError" in errors
        or b"out of memory" in errors
    ):
        return "too_much_memory"
    return "corrupt"
