"""Whoever keeps the master key, tenants' keys go through it alike; and when it is away, nothing is sealed or shown."""

import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from audit import record
from audit.record import AuditUnavailable
from tenants import clock, envelope
from tenants.access import Actor
from tenants.keyring import providers, tenant_keys
from tenants.keyring.errors import KeysUnavailable, Tampered
from tenants.models import TenantKey
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.keys.vault import Vault

pytestmark = pytest.mark.django_db(transaction=True)

KEY = bytes(range(32))


@pytest.fixture(params=["local", "aws-kms", "vault"])
def keys(request: pytest.FixtureRequest) -> providers.KeyProvider:
    if request.param == "aws-kms":
        request.getfixturevalue("kms")
    if request.param == "vault":
        request.getfixturevalue("vault")
    return providers.provider()


def test_what_is_wrapped_comes_back_and_does_not_show_the_key(keys: providers.KeyProvider) -> None:
    tenant_id = uuid4()
    wrapped = keys.wrap(tenant_id, KEY)
    assert KEY not in wrapped
    assert keys.wrap(tenant_id, KEY) != wrapped
    assert keys.unwrap(tenant_id, wrapped) == KEY


def test_a_key_of_one_tenant_does_not_open_for_another(keys: providers.KeyProvider) -> None:
    wrapped = keys.wrap(uuid4(), KEY)
    with pytest.raises(Tampered):
        keys.unwrap(uuid4(), wrapped)
    with pytest.raises(Tampered):
        keys.rewrap(uuid4(), wrapped)


def test_what_was_altered_does_not_open(keys: providers.KeyProvider) -> None:
    tenant_id = uuid4()
    wrapped = bytearray(keys.wrap(tenant_id, KEY))
    wrapped[-3] = ord("A") if wrapped[-3] != ord("A") else ord("B")
    with pytest.raises(Tampered):
        keys.unwrap(tenant_id, bytes(wrapped))


def test_after_a_rotation_old_and_new_open(keys: providers.KeyProvider) -> None:
    tenant_id = uuid4()
    old, before = keys.wrap(tenant_id, KEY), keys.key_id()
    keys.rotate()
    assert keys.key_id() != before
    new = keys.rewrap(tenant_id, old)
    assert new != old
    keys.finish_rotation()
    assert keys.unwrap(tenant_id, old) == keys.unwrap(tenant_id, new) == KEY


def test_it_tells_how_it_does(keys: providers.KeyProvider) -> None:
    health = providers.health()
    assert (health.name, health.is_well, health.key_id) == (keys.name, True, keys.key_id())


def test_a_tenants_key_is_made_and_opened_through_it(keys: providers.KeyProvider, acme: Company) -> None:
    sealed = _seal(acme)
    with tenant_scope(acme.tenant.pk):
        row = TenantKey.objects.get()
    assert (row.provider, row.provider_key) == (keys.name, keys.key_id())
    _forget()
    assert _open(acme, sealed) == b"a secret"


def test_the_kms_is_told_the_tenant_as_the_encryption_context(kms: str, acme: Company) -> None:
    import boto3

    wrapped = providers.provider().wrap(acme.tenant.pk, KEY)
    client = boto3.client(
        "kms", region_name="eu-central-1", endpoint_url=providers.provider()._client.meta.endpoint_url
    )
    context = {"custos:tenant": str(acme.tenant.pk)}
    assert client.decrypt(KeyId=kms, CiphertextBlob=wrapped, EncryptionContext=context)["Plaintext"] == KEY


def test_a_transit_key_that_is_not_derived_is_refused(vault: Vault) -> None:
    vault.is_derived = False
    with pytest.raises(KeysUnavailable, match="derived=true"):
        providers.provider().key_id()


def test_a_renewed_token_is_read_from_its_file(vault: Vault, settings: Any) -> None:
    vault.token = "another"
    with pytest.raises(KeysUnavailable, match="403"):
        providers.provider().key_id()
    with open(settings.KEYS.vault_token_file, "w") as file:
        file.write("another")
    assert providers.provider().key_id() == "custos v1"


def test_no_token_and_no_key_reaches_the_log(
    vault: Vault, acme: Company, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        _seal(acme)
        vault.is_sealed = True
        assert "sealed" in providers.health().detail
    assert vault.token not in caplog.text and vault.token not in str(providers.health())
    assert vault.token not in repr(providers.settings.KEYS)


def test_when_it_is_away_nothing_is_recorded(vault: Vault, acme: Company) -> None:
    actor = acme.actor(acme.member)
    vault.is_sealed = True
    with pytest.raises(AuditUnavailable):
        _begin(actor)
    vault.is_sealed = False
    assert _begin(actor)


def test_a_short_failure_stops_nobody_and_a_long_one_does(
    vault: Vault, acme: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = acme.actor(acme.member)
    _begin(actor)
    vault.is_sealed = True
    now = time.monotonic()
    _later(monkeypatch, now + tenant_keys.FRESH_SECONDS + 1)
    asked = len(vault.calls)
    assert _begin(actor), "the key is asked for, in vain, and the one of before serves"
    assert len(vault.calls) == asked + 1
    envelope.cache.clear()
    assert _begin(actor)
    assert len(vault.calls) == asked + 1, "it is not asked again at once"
    _later(monkeypatch, now + tenant_keys.STALE_SECONDS + 1)
    with pytest.raises(AuditUnavailable):
        _begin(actor)
    vault.is_sealed = False
    assert _begin(actor)


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["aws-kms", "vault"])
def test_one_that_never_answers_holds_nobody(
    name: str, deaf: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    settings.KEYS = replace(
        settings.KEYS,
        provider=name,
        kms_key="arn:aws:kms:eu-central-1:123456789012:key/1",
        kms_region="eu-central-1",
        kms_endpoint=deaf,
        vault_address=deaf,
        vault_key="custos",
        vault_token="x",
    )
    with pytest.raises(KeysUnavailable, match="does not answer"):
        providers.provider().wrap(uuid4(), KEY)


def test_a_provider_without_its_settings_is_named(settings: Any) -> None:
    with pytest.raises(KeysUnavailable, match="settings of the key provider vault are missing"):
        providers.named("vault")


def _later(monkeypatch: pytest.MonkeyPatch, moment: float) -> None:
    """The clock of the caches stands there from now on; data keys that are remembered are forgotten."""
    monkeypatch.setattr(tenant_keys.time, "monotonic", lambda: moment)


def _begin(actor: Actor) -> object:
    return record.begin(
        actor=actor,
        channel="api",
        input="a question",
        model="m",
        model_version="1",
        route="r",
        route_reason="",
        parameters={},
    )


def _seal(company: Company) -> bytes:
    with tenant_scope(company.tenant.pk):
        return envelope.seal(
            tenant_id=company.tenant.pk, purpose="audit", day=clock.today(), plaintext=b"a secret", aad={}
        )


def _open(company: Company, sealed: bytes) -> bytes:
    with tenant_scope(company.tenant.pk):
        return envelope.open_sealed(
            tenant_id=company.tenant.pk, purpose="audit", day=clock.today(), sealed=sealed, aad={}
        )


def _forget() -> None:
    envelope.cache.clear()
    tenant_keys.cache.clear()
