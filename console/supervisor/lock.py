"""One supervisor a folder: a lock that the kernel releases when its holder dies, however it dies."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from console.supervisor.errors import SupervisorError


class AlreadyRunning(SupervisorError):
    """Another supervisor holds this folder."""


class FolderLock:
    """The lock `<run_dir>/lock`; its text says who holds it."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Hold the lock until `release` or the end of this process. Raises AlreadyRunning."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AlreadyRunning(_who_runs(self.holder())) from None
        os.ftruncate(descriptor, 0)
        self._descriptor = descriptor

    def describe(self, *, address: str) -> None:
        """Write down, for whoever finds the lock held, where the product is."""
        assert self._descriptor is not None
        os.pwrite(self._descriptor, json.dumps({"pid": os.getpid(), "address": address}).encode(), 0)

    def release(self) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> dict[str, Any] | None:
        """{"pid": int, "address": str} of the running supervisor, None when none runs here."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _read(file.read())
            return None


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
        return {"pid": int(found["pid"]), "address": str(found["address"])}
    except (ValueError, KeyError, TypeError):  # its holder has only just taken it
        return {"pid": 0, "address": ""}


def _who_runs(holder: dict[str, Any] | None) -> str:
    if not holder or not holder["pid"]:
        return "Custos is being started in this folder by another command; nothing was done."
    return (
        f"Custos already runs in this folder: {holder['address']} (process {holder['pid']}). "
        f"Stop it with Ctrl-C where it runs, or with: kill {holder['pid']}"
    )
