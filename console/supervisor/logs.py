"""Log files: opened for appending, kept to a bounded size."""

import os
from collections import deque
from pathlib import Path
from typing import IO

ROTATE_BYTES = 10 * 1024 * 1024


def open_log(path: Path) -> IO[bytes]:
    """Open `path` (0600) for appending; a file that grew large moves aside as `<name>.1` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > ROTATE_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0)


def last_lines(path: Path, count: int = 15) -> str:
    """The last `count` lines of a log, indented; empty when there is no log."""
    try:
        with path.open(errors="replace") as file:
            return "".join(f"    {line}" for line in deque(file, maxlen=count)).rstrip()
    except FileNotFoundError:
        return ""
