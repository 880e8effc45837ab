"""PostgreSQL and Valkey for the tests: real ones, fresh for each run, started before Django reads its settings.

Loaded as an early pytest plugin (`-p tests.support.services`). Each run has a folder of its own under `var/test`, so
that several runs go side by side, and removes it at the end.
"""

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from console.supervisor.postgres import PostgresServer
from console.supervisor.valkey import ValkeyServer

REPOSITORY = Path(__file__).resolve().parents[2]
TEST_DIR = REPOSITORY / "var" / "test"
PASSWORD = "test-password-of-no-value"

# Models are big and never change: they are prepared once and shared by all runs.
MODELS_DIR = TEST_DIR / "models"


class Services:
    """The servers of this run and the environment that leads to them."""

    def __init__(self) -> None:
        TEST_DIR.mkdir(parents=True, exist_ok=True)
        self.var_dir = Path(tempfile.mkdtemp(prefix="run-", dir=TEST_DIR))
        # The database runs as an unprivileged account when we are root, and must reach its folder.
        self.var_dir.chmod(0o755)
        self.postgres = PostgresServer(self.var_dir / "postgres", PASSWORD)
        self.valkey = ValkeyServer(self.var_dir / "valkey", PASSWORD)

    def start(self) -> None:
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
