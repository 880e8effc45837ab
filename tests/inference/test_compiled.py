"""What was compiled for code of the past is taken away, and never what is in use."""

from __future__ import annotations

import os
import time
from pathlib import Path

from inference.engine import compiled
from inference.engine.compiled import KEPT_DAYS, clean_up, mark_used


def aged(path: Path, days: float) -> Path:
    """`path`, made if it is not there, last changed so many days ago."""
    if not path.exists():
        path.write_text("x")
    then = time.time() - days * 86_400
    os.utime(path, (then, then))
    return path


def test_what_nobody_used_for_long_goes_and_all_else_stays(tmp_path: Path) -> None:
    old = [aged(tmp_path / name, KEPT_DAYS + 1) for name in ("graph-a.so", "graph-a.log", "kernels-a.so")]
    recent = [aged(tmp_path / name, KEPT_DAYS - 1) for name in ("graph-b.so", "graph-b.log", "kernels-b.so")]
    used = aged(tmp_path / "graph-c.so", KEPT_DAYS + 1)
    mark_used(used)
    others = [aged(tmp_path / name, 99) for name in ("kernels.lock", "manifest.json")]
    clean_up(tmp_path)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in [*recent, used, *others])


def test_what_a_killed_compiler_left_goes_and_a_running_one_is_left_alone(tmp_path: Path) -> None:
    left, running = (tmp_path / f"{compiled.UNFINISHED}{name}" for name in "ab")
    for folder in (left, running):
        folder.mkdir()
        (folder / "part.o").write_text("x")
    aged(left, 2)
    clean_up(tmp_path)
    assert not left.exists()
    assert (running / "part.o").exists()


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    clean_up(tmp_path / "nothing")
    mark_used(tmp_path / "nothing" / "graph-a.so")
