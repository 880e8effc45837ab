"""What the tests of keys share: retention that lets every past day go, a KMS server, a Vault."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tenants import clock
from tenants.keyring import tenant_keys
from tests.keys.vault import Vault
from tests.support.services import Services

YESTERDAY = clock.today() - timedelta(days=1)


@pytest.fixture(autouse=True)
def forget_tenant_keys() -> None:
    tenant_keys.cache.clear()


@pytest.fixture(autouse=True)
def own_files(settings: Any, tmp_path: Path) -> None:
    """A master key and shards of the test's own."""
    from console.environment import master_key

    settings.MASTER_KEY_FILE = tmp_path / "secrets" / "master.key"
    settings.MASTER_KEY_FILE.parent.mkdir(mode=0o700)
    settings.MASTER_KEY_FILE.write_text(master_key())
    settings.MASTER_KEY_FILE.chmod(0o600)
    settings.KEY_SHARDS_DIR = tmp_path / "keys"


@pytest.fixture
def owner(services: Services) -> Iterator[psycopg.Connection]:
    with psycopg.connect(services.postgres.url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def every_past_day_may_go(owner: psycopg.Connection) -> Iterator[None]:
    """Retention decides which keys may be destroyed; here it lets all of the past go."""
    found = owner.execute(
        "SELECT pg_get_functiondef(to_regprocedure('public.audit_may_destroy_key(text, date)'))"
    ).fetchone()
    before = found[0] if found else None
    if before is None:
        yield
        return
    owner.execute(
        "CREATE OR REPLACE FUNCTION audit_may_destroy_key(wanted_purpose text, wanted_day date) RETURNS boolean "
        "LANGUAGE sql AS $$ SELECT wanted_day < (now() AT TIME ZONE 'utc')::date $$"
    )
    yield
    owner.execute(before)


@pytest.fixture(scope="session")
def kms_address() -> Iterator[str]:
    """A server that speaks AWS KMS's protocol and really encrypts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address)
        yield address
    finally:
        server.kill()
        server.wait()


def _wait_for(address: str) -> None:
    for _ in range(600):
        try:
            httpx.get(f"{address}/moto-api/", trust_env=False)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("the KMS server does not start")


@pytest.fixture
def kms(kms_address: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The settings lead to a fresh key of the KMS server; the key's ARN."""
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-of-no-value")
    client = boto3.client("kms", region_name="eu-central-1", endpoint_url=kms_address)
    key = client.create_key()["KeyMetadata"]["Arn"]
    settings.KEYS = replace(
        settings.KEYS, provider="aws-kms", kms_key=key, kms_region="eu-central-1", kms_endpoint=kms_address
    )
    return key


@pytest.fixture
def vault(settings: Any, tmp_path: Path) -> Iterator[Vault]:
    """The settings lead to a Vault with a derived transit key named custos."""
    with running_vault() as found:
        token = tmp_path / "vault-token"
        token.write_text(f"{found.token}\n")
        settings.KEYS = replace(
            settings.KEYS,
            provider="vault",
            vault_address=found.address,
            vault_key="custos",
            vault_token_file=str(token),
        )
        yield found


@contextmanager
def running_vault() -> Iterator[Vault]:
    found = Vault()
    found.start()
    try:
        yield found
    finally:
        found.stop()


def days_ago(days: int) -> date:
    return clock.today() - timedelta(days=days)
