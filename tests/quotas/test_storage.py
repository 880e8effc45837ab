"""Bytes in use: charged with what stores them, never beyond a limit, not even by two at once."""

import threading

import pytest
from django.db import connection

from tenants.actors import Actor
from tenants.errors import Refused
from tenants.quotas.models import StorageUse
from tenants.quotas.services import charge_storage, release_storage
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.quotas.conftest import in_scope, limited


def stored(company: Company) -> int:
    with tenant_scope(company.tenant.pk):
        return sum(StorageUse.objects.values_list("stored", flat=True))


def charge(actor: Actor, size: int) -> None:
    in_scope(actor, charge_storage, actor=actor, size=size)


def test_the_limits_of_the_member_and_the_tenant_both_bind(acme: Company, north: Company) -> None:
    limited(acme, "storage_bytes", 100)
    limited(acme, "storage_bytes", 70, "member")
    member, curator = acme.actor(acme.member), acme.actor(acme.curator)
    charge(member, 70)
    for actor, size in ((member, 1), (curator, 31)):
        with pytest.raises(Refused) as refused:
            charge(actor, size)
        assert refused.value.code == "storage_full"
    charge(curator, 30)
    charge(north.actor(north.member), 1_000)
    assert stored(acme) == 100


def test_what_is_removed_makes_room_and_never_more_than_there_was(acme: Company) -> None:
    limited(acme, "storage_bytes", 100)
    actor = acme.actor(acme.member)
    charge(actor, 100)
    in_scope(actor, release_storage, user_id=actor.user_id, size=40)
    charge(actor, 40)
    in_scope(actor, release_storage, user_id=actor.user_id, size=10_000)
    assert stored(acme) == 0


def test_a_charge_goes_with_the_transaction_that_stores(acme: Company) -> None:
    actor = acme.actor(acme.member)
    with pytest.raises(ZeroDivisionError), tenant_scope(acme.tenant.pk):
        charge_storage(actor=actor, size=10)
        raise ZeroDivisionError
    assert stored(acme) == 0


def test_two_at_once_do_not_both_take_the_last_bytes(acme: Company) -> None:
    limited(acme, "storage_bytes", 100)
    actor = acme.actor(acme.member)
    outcomes: list[str] = []

    def work() -> None:
        try:
            charge(actor, 60)
            outcomes.append("stored")
        except Refused:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused", "refused", "refused", "stored"]
    assert stored(acme) == 60
