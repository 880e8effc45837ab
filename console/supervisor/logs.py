"""Log files: opened for appending, kept to a bounded size."""

import os
from collections import deque
from pathlib import Path
from typing import IO

ROTATE_BYTES = 10 * 1024 * 1024
KEPT = 3


def open_log(path: Path) -> IO[bytes]:
    """Open `path` (0600, unbuffered) for appending; a file that grew large moves aside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > ROTATE_BYTES:
        _rotate(path)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0)


def _rotate(path: Path) -> None:
    """name.log → name.log.1 → name.log.2 → name.log.3 → gone."""
    for number in range(KEPT - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    path.replace(path.with_name(f"{path.name}.1"))


class LogFile:
    """A log that rotates while it is written. A full disk loses lines, never the process that wrote them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_log(path)

    def write(self, line: str) -> None:
        try:
            self._file.write(line.encode(errors="replace") + b"\n")
            if self._file.tell() > ROTATE_BYTES:
                self._file.close()
                self._file = open_log(self.path)
        except OSError:
            pass

    def close(self) -> None:
        self._file.close()


def last_lines(path: Path, count: int = 15) -> str:
    """The last `count` lines of a log, indented; empty when there is no log."""
    try:
        with path.open(errors="replace") as file:
            return "".join(f"    {line}" for line in deque(file, maxlen=count)).rstrip()
    except FileNotFoundError:
        return ""
