"""`manage.py keys`."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tenants import clock
from tenants.keyring import shards
from tenants.models import TenantKey
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.keys.conftest import YESTERDAY
from tests.keys.test_rotation import forget, opened, seal
from tests.keys.vault import Vault

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "owner"]),
    pytest.mark.usefixtures("every_past_day_may_go"),
]


def keys(*arguments: str) -> Any:
    out = StringIO()
    call_command("keys", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_status_tells_of_every_tenant(acme: Company, north: Company) -> None:
    seal(acme, YESTERDAY)
    found = keys("status")
    assert (found["provider"]["name"], found["provider"]["is_well"]) == ("local", True)
    by_slug = {state["slug"]: state for state in found["tenants"]}
    assert by_slug["acme-bank"]["generation"] == by_slug["acme-bank"]["with_shard"] == 1
    assert by_slug["north-fund"]["generation"] == by_slug["north-fund"]["superseded"] == 0
    call_command("keys", "status", stdout=(shown := StringIO()))
    with tenant_scope(acme.tenant.pk):
        wrapped = bytes(TenantKey.objects.get().wrapped)
    assert "acme-bank: key 1" in shown.getvalue() and wrapped.hex() not in shown.getvalue()


def test_check_fails_for_a_lost_key_and_names_it(acme: Company) -> None:
    seal(acme, YESTERDAY)
    assert keys("check") == {"tenants": {"acme-bank": []}, "failed": False}
    shards.path_of(acme.tenant.pk, "audit", YESTERDAY).unlink()
    out = StringIO()
    with pytest.raises(CommandError) as error:
        call_command("keys", "check", "--tenant", "acme-bank", stdout=out)
    assert error.value.returncode == 3
    assert f"lost audit {YESTERDAY}" in out.getvalue()


def test_every_rotation_and_then_the_old_is_retired(acme: Company) -> None:
    sealed = seal(acme, YESTERDAY)
    assert keys("rotate-tenant", "acme-bank") == {"tenant": "acme-bank", "generation": 2, "data_keys": 1}
    assert keys("rotate-master")["failed"] is False
    with pytest.raises(CommandError, match="retire first"):
        keys("rotate-master")
    found = keys("retire")
    assert found["tenants"]["acme-bank"]["unclear"] == 0 and found["previous_master_key_is_gone"]
    assert keys("status")["tenants"][0]["superseded"] == 0
    assert keys("check")["failed"] is False
    forget()
    assert opened(acme, YESTERDAY, sealed) == b"a secret"


def test_moving_to_vault(acme: Company, request: pytest.FixtureRequest) -> None:
    sealed = seal(acme, YESTERDAY)
    vault: Vault = request.getfixturevalue("vault")
    assert keys("migrate-provider")["done"] == 1
    assert keys("status")["tenants"][0]["provider"] == "vault"
    forget()
    assert opened(acme, YESTERDAY, sealed) == b"a secret"
    vault.is_sealed = True
    with pytest.raises(CommandError, match="Vault refuses with 503"):
        keys("rotate-master")


def test_destroy_shows_and_destroys_nothing(acme: Company) -> None:
    sealed = seal(acme, YESTERDAY)
    found = keys("destroy", "--tenant", "acme-bank", "--day", str(YESTERDAY))
    assert found == {"rows": 1, "shard": True, "refusal": ""}
    assert opened(acme, YESTERDAY, sealed) == b"a secret"
    seal(acme, clock.today())
    assert "not due" in keys("destroy", "--tenant", "acme-bank", "--day", str(clock.today()))["refusal"]


def test_a_tenant_that_is_not_there_is_named(acme: Company) -> None:
    with pytest.raises(CommandError, match="no tenant with the slug nobody"):
        keys("rotate-tenant", "nobody")
