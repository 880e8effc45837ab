"""PostgreSQL and Valkey for the tests: real ones, fresh for each run, started before Django reads its settings.

Loaded as an early pytest plugin (`-p tests.support.services`). Each run has a folder of its own under `var/test`, so
that several runs go side by side, and removes it at the end. A run begins from a copy of the database as an earlier one
prepared it, when nothing that its schema is made from has changed since.
"""

import os
import shutil
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from console.supervisor import stamps
from console.supervisor.postgres import SETTINGS, PostgresServer
from console.supervisor.valkey import ValkeyServer

REPOSITORY = Path(__file__).resolve().parents[2]
TEST_DIR = REPOSITORY / "var" / "test"
PASSWORD = "test-password-of-no-value"

# Models are big and never change: they are prepared once and shared by all runs.
MODELS_DIR = TEST_DIR / "models"


class HastyPostgres(PostgresServer):
    """Does not wait for the disk: it may lose what a power cut takes, but nothing to the kill of a process."""

    settings = {**SETTINGS, "fsync": "off"}


class Services:
    """The servers of this run and the environment that leads to them."""

    def __init__(self) -> None:
        TEST_DIR.mkdir(parents=True, exist_ok=True)
        self.var_dir = Path(tempfile.mkdtemp(prefix="run-", dir=TEST_DIR))
        # The database runs as an unprivileged account when we are root, and must reach its folder.
        self.var_dir.chmod(0o755)
        self.postgres = HastyPostgres(self.var_dir / "postgres", PASSWORD)
        self.valkey = ValkeyServer(self.var_dir / "valkey", PASSWORD)

    @cached_property
    def _prepared(self) -> Path:
        """Where the prepared database lies. The day counts too: `prepare` makes the partitions of the days around it."""
        sources = [
            file
            for package in ("tenants", "audit", "inference", "console")
            for file in (REPOSITORY / package).rglob("*.py")
            if package == "tenants" or {"models", "models.py", "migrations", "partitions.py"} & {*file.parts}
        ]
        sources += [
            REPOSITORY / name
            for name in (
                "requirements.txt",
                "console/settings.py",
                "console/management/commands/prepare.py",
                "console/supervisor/postgres.py",
                "tests/support/services.py",
            )
        ]
        digest = stamps.digest(REPOSITORY, sources)
        return TEST_DIR / f"prepared-{datetime.now(UTC):%Y%m%d}-{digest[:16]}"

    def keep_prepared(self) -> None:
        """Keep the database as it is now for the runs to come."""
        if self._prepared.exists():
            return
        self.postgres.stop()
        unfinished = self.var_dir / "prepared"
        if _copy(self.var_dir / "postgres", unfinished):
            for old in TEST_DIR.glob("prepared-*"):
                if time.time() - old.stat().st_ctime > 3600:  # Nobody is copying it any more.
                    shutil.rmtree(old, ignore_errors=True)
            try:
                unfinished.rename(self._prepared)
            except OSError:
                pass  # Another run was first.
        self.postgres.start()

    def start(self) -> None:
        state = self.var_dir / "postgres"
        if self._prepared.exists() and not _copy(self._prepared, state):
            shutil.rmtree(state, ignore_errors=True)
        self.postgres.start()
        self.valkey.start()
        os.environ.update(
            CUSTOS_VAR_DIR=str(self.var_dir),
            DATABASE_URL=self.postgres.url,
            CUSTOS_APP_DATABASE_URL=application_url(self.postgres.url),
            REDIS_URL=self.valkey.url,
            # Nothing listens there: a test that needs inference starts it and says so.
            CUSTOS_INFERENCE_URL="http://127.0.0.1:9",
            DJANGO_SETTINGS_MODULE="console.settings",
        )
        own = (
            "CUSTOS_DEMO_PASSWORD",
            "CUSTOS_PORT",
            "CUSTOS_HOST",
            "CUSTOS_DEBUG",
            "CUSTOS_INFERENCE_PRECISION",
        )
        for name in own:
            os.environ.pop(name, None)

    def stop(self) -> None:
        self.valkey.stop()
        self.postgres.stop()
        shutil.rmtree(self.var_dir, ignore_errors=True)


def _copy(folder: Path, to: Path) -> bool:
    """With owners and permissions; whether it is whole."""
    return subprocess.run(["cp", "-a", folder, to], stderr=subprocess.DEVNULL, check=False).returncode == 0


def application_url(owner_url: str) -> str:
    """The address of the same database for the plain role."""
    parts = urlsplit(owner_url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"custos_app:{PASSWORD}@{host}"))


services = Services()
services.start()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    services.stop()
