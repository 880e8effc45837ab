"""Keys do what their scopes and their owner's role both allow, while they last and from where they may."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import pytest

from audit.models import AuditRecord
from audit.record import AuditUnavailable, handle_of, open_json
from tenants import clock, custom_roles, keys, lifecycle, people
from tenants.actors import NotVisible, actor_for_key, permissions_of_keys
from tenants.models import ApiKey, Membership, ServiceAccount, Tenant, User
from tenants.roles import PERMISSIONS, Role, Scope, permissions_in_scopes
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.tenants.conftest import (
    INCIDENTS,
    at_once,
    membership_of,
    no_change,
    one_change,
    program,
    refused,
    undone,
)


def account_of(company: Company, role: str = Role.MEMBER, name: str = "Reports") -> ServiceAccount:
    return keys.create_service_account(actor=company.actor(company.owner), name=name, role=role)


def key_of(company: Company, account: ServiceAccount | None = None, **values: object) -> tuple[ApiKey, str]:
    """A key of the service account, else the member's own."""
    actor = company.actor(company.owner if account else company.member)
    account_id = account.pk if account else None
    return keys.create_key(actor=actor, service_account_id=account_id, **{"name": "key", **values})


# --- What a key can do -------------------------------------------------------------------------


def test_a_key_is_shown_once_and_recorded_without_its_secret(acme: Company) -> None:
    expires = clock.now() + timedelta(days=9)
    with one_change(acme, "service_account.created") as found:
        account = account_of(acme)
    assert found[0].after == {"name": "Reports", "description": "", "role": "member"}
    with one_change(acme, "key.created") as found:
        key, text = key_of(
            acme, account, expires=expires, allowed_routes=["small"], allowed_networks=["10.1.1.1/8"]
        )
    assert found[0].after == {
        "name": "key",
        "owner": "Reports",
        "scopes": ["inference"],
        "expires": expires.isoformat(),
        "allowed_routes": ["small"],
        "networks": ["10.0.0.0/8"],
    }
    _custos, _tenant, _prefix, secret = text.split("-", 3)
    with tenant_scope(acme.tenant.pk):
        row = ApiKey.objects.values().get()
    stored = repr({key: bytes(v) if isinstance(v, memoryview) else v for key, v in row.items()})
    assert secret not in stored and secret not in repr(found)
    actor = actor_for_key(text, "10.2.2.2")
    assert actor is not None
    assert (actor.allowed_routes, actor.service_account_id) == ({"small"}, account.pk)
    assert (actor.user_id, actor.permissions, actor.scopes) == (None, {"api.use"}, {"inference"})
    assert key.is_valid


@pytest.mark.parametrize("role", [Role.OWNER, Role.MEMBER, Role.AUDITOR])
def test_a_key_may_what_its_scopes_and_its_owners_role_both_allow(acme: Company, role: Role) -> None:
    account = account_of(acme, role)
    for number, scopes in enumerate([[each] for each in Scope.values] + list(combinations(Scope.values, 2))):
        _key, text = key_of(acme, account, name=f"key {number}", scopes=scopes)
        actor = actor_for_key(text)
        assert actor is not None
        assert actor.permissions == permissions_in_scopes(PERMISSIONS[role], list(scopes)), scopes


def test_a_key_follows_the_role_of_its_owner(acme: Company) -> None:
    account = account_of(acme, Role.ADMINISTRATOR)
    _key, text = key_of(acme, account, scopes=["management.write"])
    assert "keys.manage" in actor_for_key(text).permissions
    keys.update_service_account(actor=acme.actor(acme.owner), account_id=account.pk, role="member")
    assert actor_for_key(text).permissions == frozenset()
    _key, text = key_of(acme, name="personal")
    assert actor_for_key(text).permissions == {"api.use"}
    people.change_role(
        actor=acme.actor(acme.owner), membership_id=membership_of(acme, acme.member).pk, role="auditor"
    )
    assert actor_for_key(text).permissions == frozenset()


NETWORKS: list[tuple[list[str], list[str], str, bool]] = [
    ([], [], "", True),
    ([], [], "11.0.0.1", True),
    (["10.0.0.0/8"], [], "10.0.0.1", True),
    (["10.0.0.0/8"], [], "11.0.0.1", False),
    (["10.0.0.0/8"], [], "", False),
    ([], ["10.0.0.0/8"], "10.0.0.1", True),
    ([], ["10.0.0.0/8"], "11.0.0.1", False),
    (["10.0.0.0/8"], ["10.1.0.0/16"], "10.1.0.1", True),
    (["10.0.0.0/8"], ["10.1.0.0/16"], "10.2.0.1", False),
    (["10.1.0.0/16"], ["10.0.0.0/8"], "10.2.0.1", False),
]


def test_a_key_comes_from_its_networks_and_the_tenants(acme: Company) -> None:
    owner = acme.actor(acme.owner)
    for of_key, of_tenant, address, comes_in in NETWORKS:
        with undone():
            key, text = key_of(acme, allowed_networks=of_key)
            lifecycle.update_settings(actor=owner, networks=of_tenant)
            assert (actor_for_key(text, address) is not None) == comes_in, (of_key, of_tenant, address)
            with tenant_scope(acme.tenant.pk):
                assert ApiKey.objects.filter(last_used=None).exists() != comes_in, "only use is use"
                assert permissions_of_keys([key.pk]), "what runs already is not asked where it came from"


def test_a_key_ends(acme: Company) -> None:
    account = account_of(acme)
    owner = acme.actor(acme.owner)
    _key, text = key_of(acme, account)
    keys.set_service_account_enabled(actor=owner, account_id=account.pk, enabled=False)
    assert actor_for_key(text) is None
    keys.set_service_account_enabled(actor=owner, account_id=account.pk, enabled=True)
    assert actor_for_key(text) is not None
    with tenant_scope(acme.tenant.pk):
        ApiKey.objects.update(expires=clock.now())
    assert actor_for_key(text) is None
    with tenant_scope(acme.tenant.pk):
        ApiKey.objects.update(expires=None)
    for status in ("suspended", "archived", "deleted"):
        Tenant.objects.filter(pk=acme.tenant.pk).update(status=status)
        assert actor_for_key(text) is None, status


def test_a_personal_key_ends_with_its_owner(acme: Company) -> None:
    _key, text = key_of(acme)
    User.objects.filter(pk=acme.member.pk).update(is_active=False)
    assert actor_for_key(text) is None
    User.objects.filter(pk=acme.member.pk).update(is_active=True)
    with tenant_scope(acme.tenant.pk):
        Membership.objects.filter(user=acme.member).update(disabled=clock.now())
    assert actor_for_key(text) is None
    with tenant_scope(acme.tenant.pk):
        Membership.objects.filter(user=acme.member).delete()
    assert actor_for_key(text) is None


def test_what_is_no_key_is_nobody(acme: Company, north: Company) -> None:
    _key, text = key_of(acme)
    custos, tenant, prefix, secret = text.split("-", 3)
    for wrong in (
        f"{custos}-{tenant}-{prefix}-{secret}x",
        f"{custos}-{tenant}-{prefix}-{secret[:-1]}",
        f"{custos}-{tenant}-{prefix}-{'x' * 43}",
        f"{custos}-{tenant}-{prefix}-",
        f"{custos}-{north.tenant.pk.hex}-{prefix}-{secret}",
        f"{custos}-{uuid4().hex}-{prefix}-{secret}",
        f"{custos}-{{{acme.tenant.pk}}}-{prefix}-{secret}",
        f"{custos}-{tenant}-\x00-{secret}",
        f"{custos}-{tenant}-{prefix}-\x00",
        f"{custos}-{tenant}-{prefix}-\ud800",
        f"{custos}-{tenant.upper()}-{prefix}-{secret}",
        text + "\n",
        text * 100_000,
        "",
        "-" * 1_000_000,
    ):
        assert actor_for_key(wrong) is None
    assert actor_for_key(text) is not None, "the control"


# --- Rotation ----------------------------------------------------------------------------------


def test_a_rotated_key_works_on_for_a_while_beside_its_successor(acme: Company) -> None:
    owner, account = acme.actor(acme.owner), account_of(acme)
    key, text = key_of(
        acme,
        account,
        scopes=["inference", "management.read"],
        allowed_routes=["small"],
        allowed_networks=["10.0.0.0/8"],
        expires=clock.now() + timedelta(days=90),
    )
    with one_change(acme, "key.rotated") as found:
        fresh, fresh_text = keys.rotate_key(actor=owner, key_id=key.pk, overlap=timedelta(hours=1))
    assert found[0].subject_id == key.pk
    assert found[0].before == {"expires": key.expires.isoformat()}
    assert found[0].detail == {"name": "key", "successor": str(fresh.pk)}
    for name in ("name", "scopes", "allowed_routes", "networks", "service_account_id", "user_id"):
        assert getattr(fresh, name) == getattr(key, name), name
    assert fresh.rotates_id == key.pk
    assert fresh.expires - clock.now() > timedelta(days=89), "a whole life of its own"
    assert actor_for_key(text, "10.0.0.1") and actor_for_key(fresh_text, "10.0.0.1")
    with refused("key_rotated"):
        keys.rotate_key(actor=owner, key_id=key.pk)
    with tenant_scope(acme.tenant.pk):
        old = ApiKey.objects.get(pk=key.pk)
        assert timedelta(minutes=59) < old.expires - clock.now() <= timedelta(hours=1)
        ApiKey.objects.filter(pk=key.pk).update(expires=clock.now())
    assert actor_for_key(text, "10.0.0.1") is None
    assert actor_for_key(fresh_text, "10.0.0.1")


def test_an_overlap_does_not_lengthen_a_life(acme: Company) -> None:
    account = account_of(acme)
    soon = clock.now() + timedelta(minutes=5)
    key, text = key_of(acme, account, expires=soon)
    owner = acme.actor(acme.owner)
    fresh, fresh_text = keys.rotate_key(actor=owner, key_id=key.pk, overlap=timedelta(days=1))
    with tenant_scope(acme.tenant.pk):
        assert ApiKey.objects.get(pk=key.pk).expires == soon
    keys.rotate_key(actor=owner, key_id=fresh.pk, overlap=timedelta(0))
    assert actor_for_key(fresh_text) is None and actor_for_key(text) is not None


def test_what_is_not_rotated(acme: Company) -> None:
    owner, account = acme.actor(acme.owner), account_of(acme)
    key, _text = key_of(acme, account)
    with no_change(acme):
        for overlap in (timedelta(seconds=-1), timedelta(days=31)):
            with refused("overlap_invalid", "overlap"):
                keys.rotate_key(actor=owner, key_id=key.pk, overlap=overlap)
    keys.revoke_key(actor=owner, key_id=key.pk)
    with no_change(acme), refused("key_ended"):
        keys.rotate_key(actor=owner, key_id=key.pk)


@pytest.mark.django_db(transaction=True)
def test_a_key_rotated_twice_at_once_has_one_successor(acme: Company) -> None:
    key, _text = key_of(acme, account_of(acme))
    owner = acme.actor(acme.owner)
    results = at_once(*[lambda: keys.rotate_key(actor=owner, key_id=key.pk)] * 2)
    assert [each.code for each in results if isinstance(each, Exception)] == ["key_rotated"], results
    with tenant_scope(acme.tenant.pk):
        assert ApiKey.objects.count() == 2


# --- Nobody gets more by a key than they have --------------------------------------------------


def test_nobody_is_shown_a_key_that_acts_for_another(acme: Company) -> None:
    """Rotating shows a key, so administrators and owners take personal keys away and never rotate them."""
    key, text = key_of(acme)
    for user in (acme.owner, acme.administrator):
        with no_change(acme), refused("key_of_another"):
            keys.rotate_key(actor=acme.actor(user), key_id=key.pk)
    _fresh, fresh = keys.rotate_key(actor=acme.actor(acme.member), key_id=key.pk)
    assert actor_for_key(fresh).user_id == acme.member.pk
    with one_change(acme, "key.revoked"):
        keys.revoke_key(actor=acme.actor(acme.administrator), key_id=key.pk)
    assert actor_for_key(text) is None


def test_a_personal_key_gets_at_no_other_key_of_its_owner(acme: Company) -> None:
    owner = acme.actor(acme.owner)
    _weak, weak_text = keys.create_key(actor=owner, name="weak", scopes=["inference"])
    strong, strong_text = keys.create_key(actor=owner, name="strong", scopes=["management.write"])
    weak_actor, strong_actor = actor_for_key(weak_text), actor_for_key(strong_text)
    with no_change(acme):
        for deed in (keys.rotate_key, keys.revoke_key):
            with pytest.raises(NotVisible):
                deed(actor=weak_actor, key_id=strong.pk)
        with refused("key_of_another"):
            keys.rotate_key(actor=strong_actor, key_id=strong.pk)
        for actor, error in ((weak_actor, "key_makes_no_key"),):
            with refused(error):
                keys.create_key(actor=actor, name="more", scopes=["management.write"])
        with pytest.raises(NotVisible):
            keys.create_key(actor=strong_actor, name="more")
    with tenant_scope(acme.tenant.pk):
        assert keys.keys(weak_actor).count() == 2


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMINISTRATOR, Role.OPERATOR])
def test_administrators_make_no_programs_with_a_duty_and_see_none_of_their_keys(
    acme: Company, role: Role
) -> None:
    administrator = acme.actor(acme.administrator)
    strong, weak = account_of(acme, role), account_of(acme, name="Weak")
    key, _text = key_of(acme, strong)
    deeds: list[Callable[[], object]] = [
        lambda: keys.create_service_account(actor=administrator, name="Mine", role=role),
        lambda: keys.update_service_account(actor=administrator, account_id=weak.pk, role=role),
        lambda: keys.update_service_account(actor=administrator, account_id=strong.pk, role="member"),
        lambda: keys.update_service_account(actor=administrator, account_id=strong.pk, description="x"),
        lambda: keys.create_key(actor=administrator, name="mine", service_account_id=strong.pk),
        lambda: keys.rotate_key(actor=administrator, key_id=key.pk),
    ]
    with no_change(acme):
        for deed in deeds:
            with refused("role_not_yours", "role"):
                deed()
    keys.set_service_account_enabled(actor=administrator, account_id=strong.pk, enabled=False)
    with no_change(acme), refused("role_not_yours", "role"):
        keys.set_service_account_enabled(actor=administrator, account_id=strong.pk, enabled=True)
    keys.revoke_key(actor=administrator, key_id=key.pk)


def test_no_program_reads_content_whoever_makes_it(acme: Company) -> None:
    owner, weak = acme.actor(acme.owner), account_of(acme)
    custom_roles.create_role(
        actor=owner, slug="reader", name="Reader", permissions=["audit.read", "chat.use"]
    )
    with no_change(acme):
        for role in ("reviewer", "reader"):
            with refused("role_reads_content", "role"):
                keys.create_service_account(actor=owner, name="Spy", role=role)
            with refused("role_reads_content", "role"):
                keys.update_service_account(actor=owner, account_id=weak.pk, role=role)


def test_no_program_changes_itself(acme: Company) -> None:
    actor, account = program(acme, "keys.manage", "people.appoint", "api.use")
    with tenant_scope(acme.tenant.pk):
        key = ApiKey.objects.get()
    deeds: list[Callable[[], object]] = [
        lambda: keys.update_service_account(actor=actor, account_id=account.pk, role="owner"),
        lambda: keys.create_key(actor=actor, name="wider", service_account_id=account.pk, scopes=["scim"]),
        lambda: keys.set_service_account_enabled(actor=actor, account_id=account.pk, enabled=True),
        lambda: keys.rotate_key(actor=actor, key_id=key.pk),
    ]
    with no_change(acme):
        for deed in deeds:
            with refused("own_account"):
                deed()


def test_a_programs_key_without_rights_lists_and_ends_nothing(acme: Company) -> None:
    key, text = key_of(acme, account_of(acme))
    actor = actor_for_key(text)
    with tenant_scope(acme.tenant.pk):
        assert list(keys.keys(actor)) == [], "not those of all programs"
        with pytest.raises(NotVisible):
            keys.service_accounts(actor)
    with no_change(acme):
        for deed in (keys.rotate_key, keys.revoke_key):
            with pytest.raises(NotVisible):
                deed(actor=actor, key_id=key.pk)


# --- Who may -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["operator", "curator", "member", "reviewer", "auditor"])
def test_whoever_manages_no_keys_has_their_own_alone(acme: Company, role: str) -> None:
    actor, account = acme.actor(getattr(acme, role)), account_of(acme)
    key, _text = key_of(acme, account)
    deeds: list[Callable[[], object]] = [
        lambda: keys.create_service_account(actor=actor, name="Mine"),
        lambda: keys.update_service_account(actor=actor, account_id=account.pk, description="x"),
        lambda: keys.set_service_account_enabled(actor=actor, account_id=account.pk, enabled=False),
        lambda: keys.create_key(actor=actor, name="mine", service_account_id=account.pk),
        lambda: keys.rotate_key(actor=actor, key_id=key.pk),
        lambda: keys.revoke_key(actor=actor, key_id=key.pk),
    ]
    with no_change(acme):
        for deed in deeds:
            with pytest.raises(NotVisible):
                deed()
    if role in ("reviewer", "auditor"):
        with pytest.raises(NotVisible):
            keys.create_key(actor=actor, name="mine")
        return
    keys.create_key(actor=actor, name="mine")
    with tenant_scope(acme.tenant.pk):
        assert [each.name for each in keys.keys(actor)] == ["mine"]
        assert keys.keys(acme.actor(acme.auditor)).count() == 2


def test_keys_and_programs_of_another_tenant_do_not_exist(acme: Company, north: Company) -> None:
    account = account_of(north)
    key, _text = key_of(north, account)
    owner = acme.actor(acme.owner)
    deeds: list[Callable[[], object]] = [
        lambda: keys.update_service_account(actor=owner, account_id=account.pk, role="owner"),
        lambda: keys.set_service_account_enabled(actor=owner, account_id=account.pk, enabled=False),
        lambda: keys.create_key(actor=owner, name="mine", service_account_id=account.pk),
        lambda: keys.rotate_key(actor=owner, key_id=key.pk),
        lambda: keys.revoke_key(actor=owner, key_id=key.pk),
    ]
    with no_change(acme), no_change(north):
        for deed in deeds:
            with pytest.raises(NotVisible):
                deed()


# --- Bad input ---------------------------------------------------------------------------------


NO_KEYS: list[tuple[dict[str, Any], str, str]] = [
    ({"name": ""}, "name_missing", "name"),
    ({"name": "\x00"}, "name_invisible", "name"),
    ({"name": "taken"}, "name_taken", "name"),
    ({"scopes": []}, "scope_unknown", "scopes"),
    ({"scopes": ["inference", "root"]}, "scope_unknown", "scopes"),
    ({"expires": datetime(2030, 1, 1)}, "expiry_invalid", "expires"),
    ({"expires": clock.now() - timedelta(seconds=1)}, "expiry_invalid", "expires"),
    ({"expires": clock.now() + timedelta(days=4000)}, "expiry_invalid", "expires"),
    ({"allowed_routes": ["a\x00"]}, "name_invisible", "allowed_routes"),
    ({"allowed_routes": ["x" * 101]}, "too_long", "allowed_routes"),
    ({"allowed_routes": [f"m{number}" for number in range(101)]}, "too_many_routes", "allowed_routes"),
    ({"allowed_networks": ["home"]}, "network_invalid", "networks"),
    ({"allowed_networks": ["10.0.0.1"] * 101}, "too_many_networks", "networks"),
]


def test_what_is_no_key_to_make(acme: Company) -> None:
    key_of(acme, name="taken")
    with no_change(acme):
        for values, code, field in NO_KEYS:
            with refused(code, field):
                key_of(acme, **values)


def test_programs_have_names_of_their_own(acme: Company) -> None:
    account_of(acme)
    with no_change(acme):
        with refused("name_taken", "name"):
            account_of(acme)
        with refused("role_unknown", "role"):
            account_of(acme, "emperor", name="Other")
        with refused("name_invisible", "description"):
            keys.create_service_account(actor=acme.actor(acme.owner), name="Other", description="\x00")


def test_a_program_is_changed_and_stopped_on_the_record(acme: Company) -> None:
    owner, account = acme.actor(acme.owner), account_of(acme)
    with one_change(acme, "service_account.changed") as found:
        keys.update_service_account(actor=owner, account_id=account.pk, description="New", role="curator")
    assert found[0].before == {"description": "", "role": "member"}
    assert found[0].after == {"description": "New", "role": "curator"}
    with one_change(acme, "service_account.disabled"):
        keys.set_service_account_enabled(actor=owner, account_id=account.pk, enabled=False)
    with no_change(acme):
        keys.update_service_account(actor=owner, account_id=account.pk, description="New")
        keys.set_service_account_enabled(actor=owner, account_id=account.pk, enabled=False)
    with one_change(acme, "service_account.enabled"):
        keys.set_service_account_enabled(actor=owner, account_id=account.pk, enabled=True)


def test_there_are_not_endlessly_many_keys(acme: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "KEYS_PER_OWNER", 2)
    first, _text = key_of(acme, name="1")
    key_of(acme, name="2")
    with no_change(acme):
        with refused("too_many_keys"):
            key_of(acme, name="3")
        with refused("too_many_keys"):
            keys.rotate_key(actor=acme.actor(acme.member), key_id=first.pk)
    keys.revoke_key(actor=acme.actor(acme.member), key_id=first.pk)
    with no_change(acme):
        keys.revoke_key(actor=acme.actor(acme.member), key_id=first.pk)
    key_of(acme, name="3")


# --- What is recorded of a key's use -----------------------------------------------------------


def incidents(company: Company) -> list[tuple[str, UUID | None, dict[str, Any]]]:
    with tenant_scope(company.tenant.pk):
        rows = AuditRecord.objects.filter(kind__in=INCIDENTS).order_by("id")
        return [
            (row.kind, row.subject_id, open_json(handle_of(row), field="input", sealed=row.input))
            for row in rows
        ]


def test_the_first_use_of_a_key_is_recorded_once(acme: Company) -> None:
    key, text = key_of(acme)
    assert [actor_for_key(text) is not None for _ in range(3)] == [True] * 3
    assert incidents(acme) == [("key.first_used", key.pk, {})]


def test_a_key_whose_first_use_cannot_be_recorded_opens_nothing(acme: Company) -> None:
    _key, text = key_of(acme)
    with patch("tenants.incidents._sink", side_effect=AuditUnavailable), pytest.raises(AuditUnavailable):
        actor_for_key(text)
    with tenant_scope(acme.tenant.pk):
        assert ApiKey.objects.get().last_used is None


def test_a_refused_key_is_recorded_with_why_and_a_flood_makes_few_records(acme: Company) -> None:
    owner = acme.actor(acme.owner)
    key, text = key_of(acme)
    now = clock.now()
    with patch("tenants.clock.now", return_value=now):
        assert [actor_for_key(text[:-1] + ("a" if text[-1] != "a" else "b")) for _ in range(20)] == [
            None
        ] * 20
        keys.revoke_key(actor=owner, key_id=key.pk)
        assert actor_for_key(text) is None
    assert [(kind, detail["why"], detail["count"]) for kind, _subject, detail in incidents(acme)] == [
        *(("key.refused", "wrong secret", count) for count in (1, 2, 4, 8, 16)),
        ("key.refused", "not valid here and now", 1),
    ]
    assert {subject for _kind, subject, _detail in incidents(acme)} == {key.pk}
    assert text.rpartition("-")[2] not in str(incidents(acme))
