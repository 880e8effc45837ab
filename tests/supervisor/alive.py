"""Which processes are alive; one that has ended but was not collected by its parent is not."""

import os
import signal
import time
from pathlib import Path

from console.supervisor.keeper import Server


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def wait_for_end(pids: list[int], seconds: float = 10) -> list[int]:
    """Those of `pids` that are still alive after at most so many seconds."""
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def kill_9(server: Server, pid: int | None) -> None:
    """Kill the server's process and wait until its launcher knows."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while server.running:
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    text = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(word) for word in text.split()]
