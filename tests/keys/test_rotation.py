"""Keys are changed while everything is in use: nothing that was sealed stops opening, wherever it is cut off."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.db import ProgrammingError, connection, connections, transaction

from audit import record
from audit.models import AuditRecord
from console import key_rotation
from console.sign_in import sealing
from tenants import envelope
from tenants.actors import platform_actor, system_actor
from tenants.errors import Refused
from tenants.keyring import data_keys, inspection, providers, retirement, rotation, shards, tenant_keys
from tenants.models import DataKey, TenantKey, User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.keys.conftest import YESTERDAY, days_ago
from tests.keys.test_providers import _begin
from tests.keys.vault import Vault

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "owner"]),
    pytest.mark.usefixtures("every_past_day_may_go"),
]

DAYS = [days_ago(days) for days in range(1, 13)]
LABEL = "tests"


def seal(company: Company, day: date, purpose: str = "audit") -> bytes:
    with tenant_scope(company.tenant.pk):
        return envelope.seal(
            tenant_id=company.tenant.pk, purpose=purpose, day=day, plaintext=b"a secret", aad={"day": day}
        )


def opened(company: Company, day: date, sealed: bytes, purpose: str = "audit") -> bytes:
    with tenant_scope(company.tenant.pk):
        return envelope.open_sealed(
            tenant_id=company.tenant.pk, purpose=purpose, day=day, sealed=sealed, aad={"day": day}
        )


def forget() -> None:
    envelope.cache.clear()
    tenant_keys.cache.clear()


def system(company: Company) -> Any:
    return system_actor(company.tenant, LABEL)


def rotate(company: Company) -> None:
    rotation.rotate_tenant(system(company))
    list(rotation.rewrap_data_keys(company.tenant.pk))


def rotate_master(*, moves: bool = False) -> None:
    if not moves:
        providers.provider().rotate()
    assert not [step for step in key_rotation.go_on(key_rotation.by_system(LABEL), moves=moves) if step.error]


def state_of(company: Company) -> inspection.TenantState:
    key_id = providers.provider().key_id()
    return next(state for state in inspection.states(key_id=key_id) if state.slug == company.tenant.slug)


def retire() -> list[retirement.Retired]:
    return [retirement.retire(tenant, connections["owner"]) for tenant in rotation.tenants()]


def kinds(company: Company) -> list[str]:
    with tenant_scope(company.tenant.pk):
        return list(AuditRecord.objects.order_by("created").values_list("kind", flat=True))


def test_a_tenants_key_changes_and_its_data_keys_stay_the_same(acme: Company, north: Company) -> None:
    sealed = {day: seal(acme, day) for day in DAYS}
    other = seal(north, YESTERDAY)
    shard = shards.read(acme.tenant.pk, "audit", YESTERDAY)
    rotate(acme)
    forget()
    assert {opened(acme, day, sealed[day]) for day in DAYS} == {b"a secret"}
    assert shards.read(acme.tenant.pk, "audit", YESTERDAY) == shard
    state = state_of(acme)
    assert (state.generation, state.to_wrap, state.is_current) == (2, 0, True)
    assert "keys.rotated" in kinds(acme)
    assert state_of(north).generation == 1 and opened(north, YESTERDAY, other) == b"a secret"


def test_the_new_key_alone_opens_everything_when_the_old_rows_are_retired(acme: Company) -> None:
    sealed = {day: seal(acme, day) for day in DAYS}
    rotate(acme)
    rotate_master()
    assert state_of(acme).superseded > len(DAYS)
    assert [found.unclear for found in retire()] == [0]
    assert state_of(acme).superseded == 0
    with tenant_scope(acme.tenant.pk):
        assert set(TenantKey.objects.values_list("generation", flat=True)) == {2}
        assert set(DataKey.objects.values_list("generation", flat=True)) == {2}
    forget()
    assert {opened(acme, day, sealed[day]) for day in DAYS} == {b"a secret"}


def test_the_master_key_is_replaced_when_every_tenant_is_done(
    acme: Company, north: Company, settings: Any
) -> None:
    sealed = [(company, seal(company, YESTERDAY)) for company in (acme, north)]
    before = settings.MASTER_KEY_FILE.read_text()
    rotate_master()
    assert settings.MASTER_KEY_FILE.read_text() != before
    assert {path.name for path in settings.MASTER_KEY_FILE.parent.iterdir()} == {
        "master.key",
        "master.key.previous",
    }
    with pytest.raises(Refused, match="retire"):
        providers.provider().rotate()
    retire()
    assert retirement.drop_previous_master_key()
    assert [path.name for path in settings.MASTER_KEY_FILE.parent.iterdir()] == ["master.key"]
    forget()
    for company, each in sealed:
        assert opened(company, YESTERDAY, each) == b"a secret"
        assert kinds(company).count("keys.rewrapped") == 1
    rotate_master()


def test_seeds_of_second_factors_outlive_the_master_key(acme: Company) -> None:
    row = Authenticator.objects.create(
        user=acme.member, type=Authenticator.Type.TOTP, data={"secret": sealing.seal("JBSWY3DP")}
    )
    codes = Authenticator.objects.create(
        user=acme.member,
        type=Authenticator.Type.RECOVERY_CODES,
        data={"seed": sealing.seal("seed"), "used_mask": 5},
    )
    rotate_master()
    assert retirement.drop_previous_master_key()
    row.refresh_from_db(), codes.refresh_from_db()
    assert sealing.open_sealed(row.data["secret"]) == "JBSWY3DP"
    assert (sealing.open_sealed(codes.data["seed"]), codes.data["used_mask"]) == ("seed", 5)


def test_a_rotation_of_the_master_key_goes_on_where_it_was_cut_off(
    acme: Company, north: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = [(company, seal(company, YESTERDAY)) for company in (acme, north)]
    providers.provider().rotate()
    next(iter(key_rotation.go_on(key_rotation.by_system(LABEL))))  # One of two, then it is cut off.
    assert sorted(state_of(company).to_move for company in (acme, north)) == [0, 1]
    for company, each in sealed:
        forget()
        assert opened(company, YESTERDAY, each) == b"a secret"
    key_rotation.tend()
    assert [state_of(company).to_move for company in (acme, north)] == [0, 0]
    assert not providers.provider().is_rotating
    assert [kinds(company).count("keys.rewrapped") for company in (acme, north)] == [1, 1]


@pytest.mark.parametrize("target", ["vault", "kms"])
def test_moving_to_another_provider_and_back(
    acme: Company, settings: Any, target: str, request: pytest.FixtureRequest
) -> None:
    local = settings.KEYS
    sealed = seal(acme, YESTERDAY)
    request.getfixturevalue(target)
    assert state_of(acme).to_move == 1
    key_rotation.tend()
    assert state_of(acme).to_move == 1, "nothing moves elsewhere by itself"
    assert opened(acme, YESTERDAY, sealed) == b"a secret"
    rotate_master(moves=True)
    retire()
    forget()
    assert opened(acme, YESTERDAY, sealed) == b"a secret"
    assert state_of(acme).provider == settings.KEYS.provider
    settings.KEYS = replace(settings.KEYS, provider=local.provider)
    rotate_master(moves=True)
    settings.KEYS = local
    forget()
    assert opened(acme, YESTERDAY, sealed) == b"a secret"
    assert kinds(acme).count("keys.rewrapped") == 2


def test_a_new_version_of_a_transit_key_is_followed_by_itself(acme: Company, vault: Vault) -> None:
    sealed = seal(acme, YESTERDAY)
    vault.versions.append(os.urandom(32))  # As by Vault's own auto_rotate_period.
    key_rotation.tend()
    assert state_of(acme).provider_key == "custos v2"
    forget()
    assert opened(acme, YESTERDAY, sealed) == b"a secret"


def test_a_provider_that_gives_back_another_key_replaces_nothing(
    acme: Company, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = seal(acme, YESTERDAY)
    vault.versions.append(os.urandom(32))
    wrong = providers.provider().wrap(acme.tenant.pk, bytes(32))
    monkeypatch.setattr(type(providers.provider()), "rewrap", lambda *_arguments: wrong)
    assert [step.error for step in key_rotation.go_on(key_rotation.by_system(LABEL))] != [""]
    forget()
    assert opened(acme, YESTERDAY, sealed) == b"a secret"


# --- While everything is in use ---------------------------------------------------------------


def test_no_read_and_no_write_fails_while_keys_are_rotated(acme: Company, vault: Vault) -> None:
    """Six threads read and write throughout: three rotations of the tenant's key, two of the master key."""
    sealed = {day: seal(acme, day) for day in DAYS}
    actor, stop = acme.actor(acme.member), threading.Event()
    counts, failures = [0] * 6, []

    def use(number: int) -> None:
        try:
            while not stop.is_set():
                forget()
                for day in DAYS:
                    assert opened(acme, day, sealed[day]) == b"a secret"
                handle = _begin(actor)
                assert (
                    record.open_output(handle, seq=1, sealed=record.append(handle, seq=1, text="words"))
                    == "words"
                )
                counts[number] += 1
        except Exception as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=use, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            rotate(acme)
            rotate_master()
            retire()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert min(counts) > 0, "the control: each of them was at it"
    assert state_of(acme).is_current and state_of(acme).generation == 4


KILLED = """
import os, sys, signal
import django
django.setup()
from django.conf import settings
from pathlib import Path
settings.MASTER_KEY_FILE, settings.KEY_SHARDS_DIR = Path(sys.argv[1]), Path(sys.argv[2])
from tenants.keyring import rotation
from tenants.models import Tenant
from tenants.actors import system_actor
tenant = Tenant.objects.get(slug=sys.argv[3])
rotation.BATCH = 2
rotation.rotate_tenant(system_actor(tenant, "killed"))
real, count = rotation.data_keys.add_version, 0
def counted(*arguments, **options):
    global count
    count += 1
    if count == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)
rotation.data_keys.add_version = counted
list(rotation.rewrap_data_keys(tenant.pk))
"""


@pytest.mark.parametrize("moment", [1, 4, 12])
def test_a_process_that_is_killed_in_the_middle_leaves_nothing_that_does_not_open(
    acme: Company, settings: Any, moment: int
) -> None:
    sealed = {day: seal(acme, day) for day in DAYS}
    killed = subprocess.run(
        [
            *(sys.executable, "-c", KILLED, str(settings.MASTER_KEY_FILE), str(settings.KEY_SHARDS_DIR)),
            *(acme.tenant.slug, str(moment)),
        ],
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    left = state_of(acme).to_wrap
    assert 0 < left <= len(DAYS) and (moment < 4 or left < len(DAYS))
    forget()
    assert {opened(acme, day, sealed[day]) for day in DAYS} == {b"a secret"}
    key_rotation.tend()
    assert state_of(acme).to_wrap == 0
    retire()
    forget()
    assert {opened(acme, day, sealed[day]) for day in DAYS} == {b"a secret"}


# --- What nobody can do with it -----------------------------------------------------------------


def test_a_destroyed_key_does_not_come_back_with_a_rotation(acme: Company) -> None:
    sealed = seal(acme, YESTERDAY)
    kept = seal(acme, DAYS[1])
    rotation.rotate_tenant(system(acme))
    with tenant_scope(acme.tenant.pk):
        envelope.destroy(acme.tenant.pk, "audit", YESTERDAY)
    list(rotation.rewrap_data_keys(acme.tenant.pk))
    with pytest.raises(envelope.KeyDestroyed):
        opened(acme, YESTERDAY, sealed)
    assert opened(acme, DAYS[1], kept) == b"a secret"


def test_destroying_waits_for_the_wrapping_of_that_key(acme: Company) -> None:
    """Else the row that is just being added would outlive the ones that are deleted."""
    seal(acme, YESTERDAY)
    place, done = (acme.tenant.pk, "audit", YESTERDAY), threading.Event()

    def destroy() -> None:
        with tenant_scope(acme.tenant.pk):
            envelope.destroy(*place)
        done.set()
        connection.close()

    thread = threading.Thread(target=destroy)
    with tenant_scope(acme.tenant.pk):
        data_keys.lock(place)
        thread.start()
        assert not done.wait(0.5)
        row = data_keys.rows(place)[0]
        key, _shard = data_keys.open_row(place, row)
        _generation, tenant_key = tenant_keys.current(acme.tenant.pk)
        data_keys.add_version(place, key, version=2, generation=1, tenant_key=tenant_key)
    thread.join()
    with tenant_scope(acme.tenant.pk):
        assert data_keys.rows(place) == []


def test_rows_that_are_smuggled_in_stop_nobody_and_are_found(acme: Company) -> None:
    """Whoever takes over the application can add rows; they open under no key and count for nothing."""
    sealed = seal(acme, YESTERDAY)
    with tenant_scope(acme.tenant.pk):
        TenantKey.objects.create(generation=9, wrapping=1, provider="local", wrapped=os.urandom(61))
        TenantKey.objects.create(generation=1, wrapping=9, provider="local", wrapped=os.urandom(61))
        DataKey.objects.create(
            purpose="audit", day=YESTERDAY, version=9, generation=9, wrapped=b"\x03" + os.urandom(60)
        )
    forget()
    assert opened(acme, YESTERDAY, sealed) == b"a secret"
    assert opened(acme, DAYS[1], seal(acme, DAYS[1])) == b"a secret"
    assert [found.kind for found in inspection.check(acme.tenant)].count("altered") == 2
    retire()
    forget()
    assert opened(acme, YESTERDAY, sealed) == b"a secret", "and nothing real is retired for them"
    assert [found.kind for found in inspection.check(acme.tenant)] == ["altered"], (
        "but what has another in its place"
    )


def test_a_row_that_lies_about_its_master_key_does_not_cost_the_key(acme: Company) -> None:
    """Whoever takes over the application says that a tenant is wrapped anew already; the old master key must stay."""
    sealed = seal(acme, YESTERDAY)
    providers.provider().rotate()
    with tenant_scope(acme.tenant.pk):
        key_id = providers.provider().key_id()
        smuggled = {"provider": "local", "provider_key": key_id, "wrapped": os.urandom(61)}
        TenantKey.objects.create(generation=1, wrapping=9, **smuggled)
    assert list(key_rotation.go_on(key_rotation.by_system(LABEL)))
    assert not retirement.drop_previous_master_key()
    forget()
    assert opened(acme, YESTERDAY, sealed) == b"a secret"
    retire()  # The lie goes; then the worker sees what is left to do.
    key_rotation.tend()
    assert retirement.drop_previous_master_key()
    forget()
    assert opened(acme, YESTERDAY, sealed) == b"a secret"


def test_retiring_waits_for_whoever_makes_a_key_below_the_old_one(acme: Company) -> None:
    """Else that key would be committed under one that is gone, and with it what it has sealed."""
    seal(acme, DAYS[1])
    is_made, may_commit, sealed = threading.Event(), threading.Event(), []

    def make() -> None:
        with tenant_scope(acme.tenant.pk):
            sealed.append(
                envelope.seal(
                    tenant_id=acme.tenant.pk,
                    purpose="audit",
                    day=YESTERDAY,
                    plaintext=b"a secret",
                    aad={"day": YESTERDAY},
                )
            )
            is_made.set()
            may_commit.wait(20)
        connections.close_all()

    maker = threading.Thread(target=make)
    maker.start()
    assert is_made.wait(20)
    rotate(acme)
    retiring = threading.Thread(target=lambda: (retire(), connections.close_all()))
    retiring.start()
    retiring.join(0.5)
    assert retiring.is_alive()
    may_commit.set()
    maker.join(), retiring.join()
    forget()
    assert opened(acme, YESTERDAY, sealed[0]) == b"a secret"


def test_the_application_still_changes_and_deletes_no_key(acme: Company) -> None:
    seal(acme, YESTERDAY)
    rotate(acme)
    with tenant_scope(acme.tenant.pk):
        for model in (TenantKey, DataKey):
            with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
                model.objects.filter(generation=1).delete()


def test_who_asked_for_it_is_in_the_tenants_audit(
    acme: Company, north: Company, platform_administrator: User
) -> None:
    seal(acme, YESTERDAY), seal(north, YESTERDAY)
    rotation.rotate_tenant(platform_actor(user=platform_administrator, tenant=acme.tenant))
    providers.provider().rotate()
    list(key_rotation.go_on(key_rotation.by_administrator(platform_administrator.pk)))
    for company, kind in ((acme, "keys.rotated"), (acme, "keys.rewrapped"), (north, "keys.rewrapped")):
        with tenant_scope(company.tenant.pk):
            assert AuditRecord.objects.get(kind=kind).user_label == platform_administrator.email


def test_a_lost_shard_is_told_apart_from_a_destroyed_key(acme: Company) -> None:
    seal(acme, YESTERDAY), seal(acme, DAYS[1])
    with tenant_scope(acme.tenant.pk):
        envelope.destroy(acme.tenant.pk, "audit", DAYS[1])
    assert list(inspection.check(acme.tenant)) == []
    shards.path_of(acme.tenant.pk, "audit", YESTERDAY).unlink()
    assert [(found.kind, found.day) for found in inspection.check(acme.tenant)] == [("lost", YESTERDAY)]


def test_shards_of_another_database_are_left_alone(acme: Company, settings: Any) -> None:
    seal(acme, YESTERDAY)
    strange = settings.KEY_SHARDS_DIR / "00000000-0000-7000-8000-000000000000" / "audit"
    strange.mkdir(parents=True)
    (strange / "2026-01-01.shard").write_bytes(bytes(32))
    key_rotation.tend()
    assert (strange / "2026-01-01.shard").exists()
