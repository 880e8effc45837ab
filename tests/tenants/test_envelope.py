from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date, timedelta

import psycopg
import pytest
from django.db import ProgrammingError, transaction
from django.db.models import Model

from tenants import envelope
from tenants.envelope import KeyDestroyed, Tampered, open_sealed, seal
from tenants.models import DataKey, TenantKey
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.support.services import Services

DAY = date(2026, 3, 1)
AAD = {"record": "r1", "field": "input"}


def _seal(company: Company, plaintext: bytes = b"a secret", **changes: object) -> bytes:
    where = {"purpose": "audit", "day": DAY, "aad": AAD} | changes
    return seal(tenant_id=company.tenant.pk, plaintext=plaintext, **where)


def _open(company: Company, sealed: bytes, **changes: object) -> bytes:
    where = {"purpose": "audit", "day": DAY, "aad": AAD} | changes
    return open_sealed(tenant_id=company.tenant.pk, sealed=sealed, **where)


def test_what_is_sealed_opens_again_and_does_not_show_the_text(acme: Company) -> None:
    with tenant_scope(acme.tenant.pk):
        sealed = _seal(acme)
        assert b"secret" not in sealed
        assert _open(acme, sealed) == b"a secret"


def test_the_same_text_never_seals_to_the_same_bytes(acme: Company) -> None:
    with tenant_scope(acme.tenant.pk):
        assert _seal(acme) != _seal(acme)


@pytest.mark.parametrize(
    "changes", [{"aad": {"record": "r2", "field": "input"}}, {"aad": AAD | {"field": "output"}}]
)
def test_a_ciphertext_moved_to_another_row_or_field_does_not_open(acme: Company, changes: dict) -> None:
    with tenant_scope(acme.tenant.pk):
        sealed = _seal(acme)
        with pytest.raises(Tampered):
            _open(acme, sealed, **changes)


@pytest.mark.parametrize("position", [0, 5, -1])
def test_a_changed_byte_does_not_open(acme: Company, position: int) -> None:
    with tenant_scope(acme.tenant.pk):
        sealed = bytearray(_seal(acme))
        sealed[position] ^= 1
        with pytest.raises(Tampered):
            _open(acme, bytes(sealed))


@pytest.mark.parametrize("changes", [{"purpose": "chat"}, {"day": DAY + timedelta(days=1)}])
def test_days_and_purposes_have_keys_of_their_own(acme: Company, changes: dict) -> None:
    with tenant_scope(acme.tenant.pk):
        sealed = _seal(acme)
        _seal(acme, **changes)
        assert DataKey.objects.count() == 2
        with pytest.raises(Tampered):
            _open(acme, sealed, **changes)


def test_a_ciphertext_of_another_tenant_does_not_open(acme: Company, north: Company) -> None:
    with tenant_scope(acme.tenant.pk):
        sealed = _seal(acme)
    with tenant_scope(north.tenant.pk):
        _seal(north)
        with pytest.raises(Tampered):
            _open(north, sealed)


@pytest.mark.django_db(transaction=True)
def test_destroying_the_key_of_a_day_destroys_its_content(acme: Company, services: Services) -> None:
    with tenant_scope(acme.tenant.pk):
        sealed = _seal(acme)
    with psycopg.connect(services.postgres.url, autocommit=True) as owner:
        owner.execute("DELETE FROM tenants_datakey WHERE day = %s", [DAY])
    envelope.cache.clear()
    with tenant_scope(acme.tenant.pk), pytest.raises(KeyDestroyed):
        _open(acme, sealed)


@pytest.mark.parametrize("model", [TenantKey, DataKey])
def test_the_application_can_neither_destroy_nor_replace_a_key(acme: Company, model: type[Model]) -> None:
    with tenant_scope(acme.tenant.pk):
        _seal(acme)
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            model._default_manager.all().delete()
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            model._default_manager.update(wrapped=b"")


@pytest.mark.django_db(transaction=True)
def test_a_key_made_in_a_transaction_that_failed_is_not_remembered(acme: Company) -> None:
    with pytest.raises(RuntimeError), tenant_scope(acme.tenant.pk):
        _seal(acme)
        raise RuntimeError
    with tenant_scope(acme.tenant.pk):
        sealed = _seal(acme)
    envelope.cache.clear()
    with tenant_scope(acme.tenant.pk):
        assert _open(acme, sealed) == b"a secret"


def test_wrapped_keys_do_not_hold_the_keys(acme: Company) -> None:
    with tenant_scope(acme.tenant.pk):
        _seal(acme)
        row = TenantKey.objects.get()
        assert envelope.provider().unwrap(acme.tenant.pk, bytes(row.wrapped)) not in bytes(row.wrapped)


@pytest.mark.django_db(transaction=True)
def test_an_existing_key_is_read_once_for_a_page_of_texts(
    acme: Company, django_assert_num_queries: Callable[[int], AbstractContextManager[None]]
) -> None:
    with tenant_scope(acme.tenant.pk):
        sealed = [_seal(acme) for _ in range(5)]
    envelope.cache.clear()
    with tenant_scope(acme.tenant.pk), django_assert_num_queries(2):
        assert {_open(acme, each) for each in sealed} == {b"a secret"}
