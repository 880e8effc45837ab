"""The page of keys for platform administrators, and the one for who reads the audit."""

from collections.abc import Callable
from unittest.mock import ANY

import pytest
from django.test import Client

from console import key_rotation, tasks
from tenants import envelope
from tenants.keyring import inspection, tenant_keys
from tenants.keyring.errors import KeysUnavailable
from tenants.models import TenantKey, User
from tenants.scope import tenant_scope
from tests.conftest import PASSWORD, Company
from tests.keys.conftest import YESTERDAY, days_ago
from tests.keys.test_rotation import retire, rotate, seal, state_of
from tests.keys.vault import Vault

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "owner"]),
    pytest.mark.usefixtures("every_past_day_may_go"),
]

ClientOf = Callable[[User], Client]


def proven(client: Client) -> Client:
    """Somebody who typed their password a moment ago."""
    client.post(client.get("/platform/keys/rotate").url, {"password": PASSWORD})
    return client


def test_keys_of_every_tenant_and_nothing_of_their_bytes(
    acme: Company, north: Company, platform_administrator: User, client_of: ClientOf
) -> None:
    seal(acme, YESTERDAY), seal(acme, days_ago(2))
    rotate(acme)
    page = client_of(platform_administrator).get("/platform/keys/")
    text = page.content.decode()
    assert page.status_code == 200
    assert "Acme Bank" in text and "North Fund" in text and "A file on this machine" in text
    assert "manage.py keys retire" in text and "New key of the tenant" in text
    with tenant_scope(acme.tenant.pk):
        for row in TenantKey.objects.all():
            assert bytes(row.wrapped).hex() not in text
    retire()
    assert (
        "manage.py keys retire"
        not in client_of(platform_administrator).get("/platform/keys/").content.decode()
    )


def test_a_provider_that_is_away_is_told_and_the_page_still_comes(
    acme: Company, vault: Vault, platform_administrator: User, client_of: ClientOf
) -> None:
    seal(acme, YESTERDAY)
    vault.is_sealed = True
    text = client_of(platform_administrator).get("/platform/keys/").content.decode()
    assert "The key provider does not answer" in text and "Vault is sealed" in text
    assert vault.token not in text


def test_a_tenants_key_is_rotated_after_a_question_and_a_fresh_proof(
    acme: Company, platform_administrator: User, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(acme, YESTERDAY)
    sent: list[str] = []
    monkeypatch.setattr(tasks.rotate_keys, "delay_on_commit", sent.append)
    client, url = client_of(platform_administrator), "/platform/keys/acme-bank/rotate"
    refused = client.post(url, {"confirmed": "yes"})
    assert (refused.status_code, refused.url) == (302, ANY) and "/account/confirm" in refused.url
    assert state_of(acme).generation == 1
    proven(client)
    assert "Give Acme Bank a new key?" in client.get(url).content.decode()
    assert state_of(acme).generation == 1, "a question is no answer"
    assert client.post(url, {"confirmed": "yes"}).url == "/platform/keys/"
    assert (state_of(acme).generation, state_of(acme).to_wrap) == (2, 1)
    assert "A rotation is under way" in client.get("/platform/keys/").content.decode()
    tasks.rotate_keys(*sent)
    assert state_of(acme).is_current
    assert "A rotation is under way" not in client.get("/platform/keys/").content.decode()


def test_the_master_key_is_rotated_after_a_fresh_proof(
    acme: Company, platform_administrator: User, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed, before = seal(acme, YESTERDAY), state_of(acme).provider_key
    sent: list[str] = []
    monkeypatch.setattr(tasks.rotate_keys, "delay", sent.append)
    client, url = client_of(platform_administrator), "/platform/keys/rotate"
    assert "/account/confirm" in client.get(url).url
    assert "/account/confirm" in client_of(platform_administrator).post(url, {"confirmed": "yes"}).url
    assert sent == []
    assert proven(client).post(url, {"confirmed": "yes"}).url == "/platform/keys/"
    tasks.rotate_keys(*sent)
    assert state_of(acme).provider_key != before and state_of(acme).is_current
    envelope.cache.clear(), tenant_keys.cache.clear()
    from tests.keys.test_rotation import opened

    assert opened(acme, YESTERDAY, sealed) == b"a secret"
    assert "retire" in client.post(url, {"confirmed": "yes"}, follow=True).content.decode()


def test_a_rotation_whose_administrator_is_none_any_more_waits_for_the_worker(
    acme: Company, platform_administrator: User
) -> None:
    from tenants.actors import NotVisible

    seal(acme, YESTERDAY)
    platform_administrator.is_platform_administrator = False
    platform_administrator.save()
    with pytest.raises(NotVisible):
        tasks.rotate_keys(str(platform_administrator.pk))
    key_rotation.tend()
    assert state_of(acme).is_current


def test_officers_see_which_days_have_keys_and_which_were_destroyed_and_why(
    acme: Company, client_of: ClientOf
) -> None:
    (
        seal(acme, YESTERDAY),
        seal(acme, days_ago(2)),
        seal(acme, YESTERDAY, "case:0:held"),
        seal(acme, YESTERDAY, "chat"),
    )
    with tenant_scope(acme.tenant.pk):
        envelope.destroy(acme.tenant.pk, "audit", days_ago(2), reason="erasure")
    text = client_of(acme.officer).get("/t/acme-bank/audit/keys/").content.decode()
    assert str(YESTERDAY) in text and str(days_ago(2)) in text
    assert "Erased on request" in text
    assert "case:" not in text and text.count('<th scope="row"') == 2


def test_a_page_that_needs_keys_says_that_they_are_away(
    acme: Company, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise KeysUnavailable("the address of the provider")

    monkeypatch.setattr(inspection, "days", refuse)
    page = client_of(acme.officer).get("/t/acme-bank/audit/keys/")
    text = page.content.decode()
    assert page.status_code == 503 and "Nothing is lost" in text and "the address" not in text
