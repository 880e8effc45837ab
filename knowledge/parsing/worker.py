"""Reads the file on standard input and prints what stands in it, or why not, as JSON. Run by `process` alone.

The process forbids itself what reading needs no part of. The hook below sees what Python does and nothing that a library
does on its own; the limits hold for both.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from typing import Any

from knowledge.parsing import readers
from knowledge.parsing.parsed import Limits, Refused, as_json

_MB = 1 << 20
_FILES = 128
_FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.kill",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "shutil.",
    "ftplib.",
    "smtplib.",
    "http.",
    "urllib.Request",
    "pty.spawn",
    "ensurepip.",
    "webbrowser.open",
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main(arguments: list[str]) -> int:
    order = json.loads(arguments[0])
    limits = Limits(**order["limits"])
    # What a library prints is no answer of ours.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _confine(limits)
    out.write(json.dumps(_answer(str(order["name"]), limits), ensure_ascii=False))
    out.flush()
    os._exit(0)  # Libraries need not tidy up behind them.


def _answer(name: str, limits: Limits) -> dict[str, Any]:
    try:
        content = sys.stdin.buffer.read(limits.size + 1)
        if len(content) > limits.size:
            raise Refused("too_large")
        return {"parsed": as_json(readers.read(content, name, limits))}
    except Refused as refused:
        return {"refused": refused.code}
    except MemoryError:
        return {"refused": "too_much_memory"}
    except RecursionError as error:
        return {"refused": "corrupt", "at": _place(error)}
    except Exception as error:
        is_memory = "bad_alloc" in str(error) or "Failed to allocate memory" in str(error)
        return {"refused": "too_much_memory" if is_memory else "corrupt", "at": _place(error)}


def _place(error: BaseException) -> str:
    """Where it happened, and nothing of what stands in the file."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {os.path.basename(last.filename)}:{last.lineno}"


def _confine(limits: Limits) -> None:
    for what, most in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(what, most, most)
    # The first is a signal that tells why; the second ends what does not heed it.
    _limit(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 5)
    sys.setrecursionlimit(3_000)
    sys.addaudithook(_forbid)


def _limit(what: int, soft: int, hard: int) -> None:
    """Never more than this process has already been allowed."""
    most = resource.getrlimit(what)[1]
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(what, (soft, hard))


def _forbid(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith(_FORBIDDEN):
        raise PermissionError(event)
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
        raise PermissionError("open for writing")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
