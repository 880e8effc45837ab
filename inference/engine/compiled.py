"""The folder of what was compiled here: takes away what nobody uses any more. Knows no torch.

A file's name holds everything that it was made for, so each new version of the code, of torch or another CPU
leaves the old ones behind. Whoever uses a file marks it; what nobody marked for long goes.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("custos.inference.engine")

UNFINISHED = ".compiling-"  # What the names of a compiler's temporary folders begin with.
KEPT_DAYS = 14.0
_UNFINISHED_DAYS = 1.0  # No compiler works that long: it was killed.
_FILES = ("graph-*.so", "graph-*.log", "kernels-*.so")


def mark_used(path: Path) -> None:
    """`path` is in use now; its time of change says so. In a folder that cannot be written nothing goes anyway."""
    with suppress(OSError):
        os.utime(path)


def clean_up(folder: Path) -> None:
    """Remove what was last used `KEPT_DAYS` ago, and what compilers that were killed left. Never raises.

    A file that another process has loaded stays with that process; its next start compiles it anew.
    """
    now = time.time()
    with suppress(OSError):
        for path in [path for pattern in _FILES for path in folder.glob(pattern)]:
            if _days_since(path, now) > KEPT_DAYS:
                logger.info("%s has not been used for %d days; it is removed.", path, KEPT_DAYS)
                path.unlink(missing_ok=True)
        for path in folder.glob(f"{UNFINISHED}*"):
            if _days_since(path, now) > _UNFINISHED_DAYS:
                shutil.rmtree(path, ignore_errors=True)


def _days_since(path: Path, now: float) -> float:
    return (now - path.stat().st_mtime) / 86_400
