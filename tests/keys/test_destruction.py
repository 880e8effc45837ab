"""A data key has two parts, and a day's key that is destroyed stays destroyed, whatever is restored."""

import multiprocessing
import os
import stat
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import DatabaseError, transaction

from tenants import clock, envelope, lifecycle
from tenants.actors import platform_actor
from tenants.keyring import data_keys, shards
from tenants.keyring.errors import KeyDestroyed
from tenants.models import DataKey, DestroyedKey, User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.keys.conftest import YESTERDAY

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("every_past_day_may_go")]


def seal(company: Company, day: date = YESTERDAY, purpose: str = "audit") -> bytes:
    with tenant_scope(company.tenant.pk):
        return envelope.seal(
            tenant_id=company.tenant.pk, purpose=purpose, day=day, plaintext=b"a secret", aad={"at": day}
        )


def opened(company: Company, sealed: bytes, day: date = YESTERDAY, purpose: str = "audit") -> bytes:
    with tenant_scope(company.tenant.pk):
        return envelope.open_sealed(
            tenant_id=company.tenant.pk, purpose=purpose, day=day, sealed=sealed, aad={"at": day}
        )


def destroy(company: Company, day: date = YESTERDAY, purpose: str = "audit") -> None:
    with tenant_scope(company.tenant.pk):
        envelope.destroy(company.tenant.pk, purpose, day)


def shard_of(company: Company, day: date = YESTERDAY, purpose: str = "audit") -> Path:
    return shards.path_of(company.tenant.pk, purpose, day)


def test_the_shard_is_a_closed_file_in_closed_folders(acme: Company, settings: Any) -> None:
    seal(acme)
    path = shard_of(acme)
    assert (len(path.read_bytes()), stat.S_IMODE(path.stat().st_mode)) == (32, 0o600)
    folder = path.parent
    while folder != settings.KEY_SHARDS_DIR.parent:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        folder = folder.parent
    assert [each.name for each in path.parent.iterdir()] == [path.name], "nothing half made is left"


def test_without_its_shard_a_key_opens_nothing_and_with_another_neither(acme: Company) -> None:
    sealed, path = seal(acme), shard_of(acme)
    right = path.read_bytes()
    path.unlink()
    with pytest.raises(KeyDestroyed):
        opened(acme, sealed)
    path.write_bytes(os.urandom(32))
    with pytest.raises(envelope.Tampered):
        opened(acme, sealed)
    path.write_bytes(right)
    assert opened(acme, sealed) == b"a secret"


def test_a_key_of_before_there_were_shards_still_opens(acme: Company) -> None:
    from tenants.keyring import ciphers, tenant_keys

    place = (acme.tenant.pk, "audit", YESTERDAY)
    with tenant_scope(acme.tenant.pk):
        _generation, tenant_key = tenant_keys.current(acme.tenant.pk)
        key = os.urandom(32)
        wrapped = ciphers.encrypt(tenant_key, key, data_keys._aad(place))
        DataKey.objects.create(purpose="audit", day=YESTERDAY, wrapped=wrapped)
        bound = envelope.associated_data(acme.tenant.pk, "audit", {"at": YESTERDAY})
        sealed = ciphers.encrypt(key, b"a secret", bound)
    assert opened(acme, sealed) == b"a secret"
    assert not shard_of(acme).exists()
    destroy(acme)
    with pytest.raises(KeyDestroyed):
        opened(acme, sealed)


def test_a_destroyed_day_is_gone_and_the_others_stay(acme: Company, north: Company) -> None:
    gone, path = seal(acme), shard_of(acme)
    others = [
        (acme, seal(acme, clock.today()), clock.today(), "audit"),
        (acme, seal(acme, purpose="audit.changes"), YESTERDAY, "audit.changes"),
        (north, seal(north), YESTERDAY, "audit"),
    ]
    destroy(acme)
    with pytest.raises(KeyDestroyed):
        opened(acme, gone)
    assert not path.exists()
    with tenant_scope(acme.tenant.pk):
        assert not DataKey.objects.filter(purpose="audit", day=YESTERDAY).exists()
        assert DestroyedKey.objects.get().reason == "retention"
    for company, sealed, day, purpose in others:
        assert opened(company, sealed, day, purpose) == b"a secret"


def test_a_restored_backup_of_the_database_opens_nothing_that_was_destroyed(
    acme: Company, owner: psycopg.Connection
) -> None:
    sealed = seal(acme)
    owner.execute("CREATE TABLE kept AS TABLE tenants_datakey")
    try:
        destroy(acme)
        owner.execute("INSERT INTO tenants_datakey SELECT * FROM kept")
        owner.execute("TRUNCATE tenants_destroyedkey")  # The backup does not know of it.
    finally:
        owner.execute("DROP TABLE kept")
    envelope.cache.clear()
    with tenant_scope(acme.tenant.pk):
        assert DataKey.objects.filter(day=YESTERDAY).exists(), "the control: the row is back"
    with pytest.raises(KeyDestroyed):
        opened(acme, sealed)


def test_no_new_key_takes_the_place_of_a_destroyed_one(acme: Company) -> None:
    seal(acme)
    destroy(acme)
    with pytest.raises(KeyDestroyed):
        seal(acme)
    assert not shard_of(acme).exists()


def test_another_process_stops_at_once_though_it_remembers_the_key(acme: Company) -> None:
    sealed = seal(acme)
    place = (acme.tenant.pk, "audit", YESTERDAY)
    key, shard = data_keys.cache.get(place), shard_of(acme)
    destroy(acme)
    assert key is not None
    data_keys.cache.put(place, key, shard)  # As another process has it.
    with pytest.raises(KeyDestroyed):
        opened(acme, sealed)


def test_again_destroys_nothing_more_and_fails_nothing(acme: Company) -> None:
    seal(acme)
    destroy(acme)
    destroy(acme)
    with tenant_scope(acme.tenant.pk):
        assert DestroyedKey.objects.count() == 1


@pytest.mark.parametrize("mend", ["again", "sweep"])
def test_a_crash_between_the_two_parts_is_mended(
    acme: Company, monkeypatch: pytest.MonkeyPatch, mend: str
) -> None:
    seal(acme)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards, "remove", _raise)
        destroy(acme)
    assert shard_of(acme).exists(), "the control: it was cut off in the middle"
    if mend == "again":
        destroy(acme)
    else:
        assert data_keys.sweep(acme.tenant.pk) == 1
    assert not shard_of(acme).exists()


def test_a_destruction_that_is_undone_leaves_both_parts(acme: Company) -> None:
    sealed = seal(acme)
    with tenant_scope(acme.tenant.pk):
        envelope.destroy(acme.tenant.pk, "audit", YESTERDAY)
        transaction.set_rollback(True)
    assert opened(acme, sealed) == b"a secret"


@pytest.mark.parametrize(
    ("purpose", "day"),
    [
        ("audit", clock.today()),
        ("audit", clock.today() + timedelta(days=1)),
        ("chat", YESTERDAY),
        ("sign_in", YESTERDAY),
    ],
)
def test_the_database_lets_neither_today_nor_other_purposes_go(
    acme: Company, purpose: str, day: date
) -> None:
    sealed = seal(acme, day, purpose)
    with pytest.raises(DatabaseError):
        destroy(acme, day, purpose)
    assert opened(acme, sealed, day, purpose) == b"a secret"


def test_nobody_writes_that_a_key_was_destroyed(acme: Company) -> None:
    with tenant_scope(acme.tenant.pk), pytest.raises(DatabaseError, match="permission denied"):
        DestroyedKey.objects.create(purpose="audit", day=YESTERDAY, reason="retention")


def test_a_tenant_that_is_deleted_leaves_no_shard(
    acme: Company, north: Company, platform_administrator: User, owner: psycopg.Connection
) -> None:
    seal(acme), seal(acme, clock.today(), "chat"), seal(north)
    actor = platform_actor(user=platform_administrator, tenant=acme.tenant)
    lifecycle.request_deletion(actor=actor, confirm_slug="acme-bank")
    owner.execute("UPDATE tenants_tenant SET delete_after = now() WHERE id = %s", [acme.tenant.pk])
    assert lifecycle.destroy_due() == 1
    assert list(shards.places(acme.tenant.pk)) == [] and shard_of(north).exists()


def _make(arguments: tuple[UUID, str]) -> bytes:
    tenant_id, folder = arguments
    from django.conf import settings

    settings.KEY_SHARDS_DIR = folder
    return shards.make(tenant_id, "audit", YESTERDAY)


def test_of_many_processes_that_make_a_shard_at_once_all_get_the_same(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        for _ in range(10):
            made = set(pool.map(_make, [(uuid4(), str(tmp_path))] * 1))
            tenant_id = uuid4()
            made = set(pool.map(_make, [(tenant_id, str(tmp_path))] * 16, chunksize=1))
            assert len(made) == 1


def test_a_removed_shard_was_overwritten_first(acme: Company, tmp_path: Path) -> None:
    seal(acme)
    other_name = tmp_path / "other name of the same file"
    os.link(shard_of(acme), other_name)
    destroy(acme)
    assert other_name.read_bytes() == bytes(32)


def _raise(*_arguments: object) -> None:
    raise KeyboardInterrupt
