"""What the tests of the log share: people of two companies, and a witness, which is a process as in production."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from audit.tree import anchors
from console import environment
from tenants.access import Actor
from tests.conftest import Company


class WitnessProcess:
    """A witness that can be killed and started again."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        known = (
            "--log-name",
            settings.AUDIT_LOG_NAME,
            "--log-key",
            environment.log_public_key(settings.VAR_DIR),
        )
        (self.state / "socket").unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "audit.witness", "--state", str(self.state), *known],
            cwd=settings.BASE_DIR,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                anchors.Witness().head("nobody/nothing")
                return
            except anchors.Away:
                time.sleep(0.02)
        raise AssertionError("the witness did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def _one_witness() -> Iterator[WitnessProcess]:
    process = WitnessProcess(Path(settings.WITNESS_DIR))
    process.start()
    yield process
    process.kill()


@pytest.fixture
def witness(_one_witness: WitnessProcess) -> Iterator[WitnessProcess]:
    """One that runs; a test may kill it."""
    if _one_witness._process is None:
        _one_witness.start()
    yield _one_witness


@pytest.fixture
def northerner(north: Company) -> Actor:
    return north.actor(north.member)


@pytest.fixture
def officer(acme: Company) -> Actor:
    return acme.actor(acme.officer)
