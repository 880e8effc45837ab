"""No role joins duties, no role is made by whom it would serve, and custom roles hold what they say."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from tenants import custom_roles, people
from tenants.actors import NotVisible, permissions_of
from tenants.models import ApiKey, CustomRole, Membership, ServiceAccount
from tenants.roles import (
    AUDIT_LIST,
    AUDIT_READ,
    CATALOGUE,
    PERMISSIONS,
    Duty,
    Role,
    Scope,
    duties_of,
    permissions_in_scopes,
)
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.tenants.conftest import at_once, membership_of, no_change, one_change, program, refused

ALL = frozenset(permission.code for permission in CATALOGUE)


# --- The catalogue -----------------------------------------------------------------------------


def test_no_built_in_role_joins_duties() -> None:
    for role, held in PERMISSIONS.items():
        assert len(duties_of(held)) <= 1, role
        assert held <= ALL
    assert {role for role, held in PERMISSIONS.items() if AUDIT_READ in held} == {
        Role.REVIEWER,
        Role.OFFICER,
    }
    assert set(PERMISSIONS) == set(Role)


def test_whatever_manages_something_is_a_duty() -> None:
    of = {duty: {each.code for each in CATALOGUE if each.duty == duty} for duty in Duty}
    of_the_audit = {code for code in ALL if code.startswith(("audit.", "review.", "retention."))}
    managing = {code for code in ALL if code.endswith((".manage", ".appoint", ".close", ".operate"))}
    assert of[Duty.ADMINISTER] == managing - of_the_audit
    assert of[Duty.REVIEW] == of_the_audit - {AUDIT_LIST}, "lists hold no content"


def test_no_scope_of_a_key_reads_content() -> None:
    reviewing = {each.code for each in CATALOGUE if each.duty == Duty.REVIEW}
    assert not reviewing & permissions_in_scopes(ALL, Scope.values)
    assert permissions_in_scopes(ALL, []) == permissions_in_scopes(ALL, ["no-such"]) == frozenset()
    for role, held in PERMISSIONS.items():
        allowed = permissions_in_scopes(held, Scope.values) - {"scim.provision"}
        assert allowed <= held, role
        assert ("scim.provision" in permissions_in_scopes(held, [Scope.SCIM])) == ("people.manage" in held)


# --- Roles of a tenant's own -------------------------------------------------------------------


def make(company: Company, *permissions: str, slug: str = "analyst", name: str = "Analyst") -> CustomRole:
    return custom_roles.create_role(
        actor=company.actor(company.owner), slug=slug, name=name, permissions=permissions
    )


def test_no_custom_role_joins_duties(acme: Company) -> None:
    owner, role = acme.actor(acme.owner), make(acme, "chat.use")
    joined = [{AUDIT_READ, each.code} for each in CATALOGUE if each.duty == Duty.ADMINISTER]
    with no_change(acme):
        for permissions in [*joined, ALL]:
            with refused("duties_joined", "permissions"):
                make(acme, *permissions, slug="both", name="Both")
            with refused("duties_joined", "permissions"):
                custom_roles.update_role(actor=owner, role_id=role.pk, permissions=permissions)


def test_custom_roles_grant_what_they_say_from_the_catalogue(acme: Company) -> None:
    with one_change(acme, "role.created") as found:
        role = make(acme, "chat.use", "audit.list", "chat.use")
    assert found[0].after["permissions"] == ["audit.list", "chat.use"]
    membership = membership_of(acme, acme.member)
    people.change_role(actor=acme.actor(acme.administrator), membership_id=membership.pk, role="analyst")
    assert acme.actor(acme.member).permissions == {"chat.use", "audit.list"}
    with one_change(acme, "role.changed") as found:
        custom_roles.update_role(
            actor=acme.actor(acme.owner), role_id=role.pk, permissions=["api.use"], name="Analysts"
        )
    assert found[0].before == {"name": "Analyst", "permissions": ["audit.list", "chat.use"]}
    assert found[0].after == {"name": "Analysts", "permissions": ["api.use"]}
    assert acme.actor(acme.member).permissions == {"api.use"}, "at once"


NO_ROLES: list[tuple[dict[str, Any], str, str]] = [
    ({"permissions": ["chat.use", "everything"]}, "permission_unknown", "permissions"),
    ({"permissions": ["platform.manage"]}, "permission_unknown", "permissions"),
    ({"permissions": ["scim.provision"]}, "permission_unknown", "permissions"),
    ({"permissions": []}, "permissions_missing", "permissions"),
    ({"slug": "owner"}, "name_taken", "slug"),
    ({"slug": "analyst"}, "name_taken", "name"),
    ({"slug": "аnalyst"}, "slug_look_alike", "slug"),
    ({"slug": "An"}, "slug_invalid", "slug"),
    ({"name": "owner"}, "name_taken", "name"),
    ({"name": "Compliance REVIEWER"}, "name_taken", "name"),
    ({"name": "租户管理员"}, "name_taken", "name"),
    ({"name": " aNALYST "}, "name_taken", "name"),
    ({"name": "Ownеr"}, "name_look_alike", "name"),
    ({"name": ""}, "name_missing", "name"),
    ({"description": "\x00"}, "name_invisible", "description"),
]


def test_what_is_no_role(acme: Company) -> None:
    owner, other = acme.actor(acme.owner), make(acme, "chat.use", slug="other", name="Other")
    make(acme, "chat.use")
    with no_change(acme):
        for values, code, field in NO_ROLES:
            fresh = {"slug": "third", "name": "Third", "permissions": ["chat.use"], **values}
            with refused(code, field):
                custom_roles.create_role(actor=owner, **fresh)
            if "slug" not in values:
                with refused(code, field):
                    custom_roles.update_role(actor=owner, role_id=other.pk, **values)


def test_whoever_holds_a_role_does_not_change_it(acme: Company) -> None:
    role = make(acme, "roles.manage", "people.appoint", slug="definer", name="Definer")
    with tenant_scope(acme.tenant.pk):
        Membership.objects.filter(user=acme.member).update(role="definer")
    holder = acme.actor(acme.member)
    with no_change(acme), refused("own_role"):
        custom_roles.update_role(actor=holder, role_id=role.pk, permissions=["tenant.close"])
    with no_change(acme), refused("role_in_use"):
        custom_roles.delete_role(actor=holder, role_id=role.pk)


def test_no_program_changes_its_own_role_nor_that_of_whoever_made_its_key(acme: Company) -> None:
    actor, account = program(acme, "roles.manage", "people.appoint")
    mine = make(acme, "chat.use", slug="mine", name="Mine")
    with tenant_scope(acme.tenant.pk):
        own = CustomRole.objects.get(slug=account.role)
        Membership.objects.filter(user=acme.member).update(role="mine")
        ApiKey.objects.update(created_by=acme.member)
    with no_change(acme):
        for role in (own, mine):
            with refused("own_role"):
                custom_roles.update_role(actor=actor, role_id=role.pk, permissions=["api.use"])


def test_whoever_defines_roles_but_appoints_nobody_defines_none_with_a_duty(acme: Company) -> None:
    make(acme, "roles.manage", slug="definer", name="Definer")
    strong, weak = (
        make(acme, "people.manage", slug="strong", name="Strong"),
        make(acme, "chat.use", slug="weak", name="Weak"),
    )
    with tenant_scope(acme.tenant.pk):
        Membership.objects.filter(user=acme.member).update(role="definer")
    actor = acme.actor(acme.member)
    custom_roles.update_role(actor=actor, role_id=weak.pk, permissions=["chat.use", "audit.list"])
    deeds: list[Callable[[], object]] = [
        lambda: custom_roles.create_role(actor=actor, slug="fresh", name="New", permissions=["audit.read"]),
        lambda: custom_roles.update_role(actor=actor, role_id=weak.pk, permissions=["tenant.close"]),
        lambda: custom_roles.update_role(actor=actor, role_id=strong.pk, permissions=["chat.use"]),
        lambda: custom_roles.update_role(actor=actor, role_id=strong.pk, name="Harmless"),
        lambda: custom_roles.delete_role(actor=actor, role_id=strong.pk),
    ]
    with no_change(acme):
        for deed in deeds:
            with refused("role_not_yours", "permissions"):
                deed()


@pytest.mark.parametrize("role", [each for each in Role.values if each != Role.OWNER])
def test_only_owners_define_roles(acme: Company, role: str) -> None:
    row, actor = make(acme, "chat.use"), acme.actor(getattr(acme, role))
    with no_change(acme):
        for deed in (
            lambda: custom_roles.create_role(actor=actor, slug="new", name="New", permissions=["chat.use"]),
            lambda: custom_roles.update_role(actor=actor, role_id=row.pk, name="New"),
            lambda: custom_roles.delete_role(actor=actor, role_id=row.pk),
        ):
            with pytest.raises(NotVisible):
                deed()


def test_roles_in_use_stay(acme: Company) -> None:
    owner, role = acme.actor(acme.owner), make(acme, "chat.use")

    def is_kept() -> None:
        with no_change(acme), refused("role_in_use"):
            custom_roles.delete_role(actor=owner, role_id=role.pk)

    invitation, _token = people.invite(actor=owner, email="new@acme-bank.example", role="analyst")
    is_kept()
    people.revoke_invitation(actor=owner, invitation_id=invitation.pk)
    with tenant_scope(acme.tenant.pk):
        account = ServiceAccount.objects.create(name="bot", role="analyst")
    is_kept()
    with tenant_scope(acme.tenant.pk):
        account.delete()
        Membership.objects.filter(user=acme.member).update(role="analyst")
    is_kept()
    with tenant_scope(acme.tenant.pk):
        Membership.objects.filter(user=acme.member).update(role="member")
    with one_change(acme, "role.deleted") as found:
        custom_roles.delete_role(actor=owner, role_id=role.pk)
    assert found[0].before["slug"] == "analyst"


@pytest.mark.django_db(transaction=True)
def test_a_role_is_not_deleted_while_it_is_given(acme: Company) -> None:
    role, member = make(acme, "chat.use"), membership_of(acme, acme.member).pk
    owner, administrator = acme.actor(acme.owner), acme.actor(acme.administrator)
    results = at_once(
        lambda: custom_roles.delete_role(actor=owner, role_id=role.pk),
        lambda: people.change_role(actor=administrator, membership_id=member, role="analyst"),
    )
    assert sum(isinstance(each, Exception) for each in results) == 1, results
    with tenant_scope(acme.tenant.pk):
        held = Membership.objects.get(pk=member).role
        assert held == "member" or CustomRole.objects.filter(slug=held).exists()


def test_roles_belong_to_their_tenant(acme: Company, north: Company) -> None:
    role = make(acme, "chat.use")
    theirs = north.actor(north.owner)
    for deed in (
        lambda: custom_roles.update_role(actor=theirs, role_id=role.pk, name="Mine"),
        lambda: custom_roles.delete_role(actor=theirs, role_id=role.pk),
    ):
        with pytest.raises(NotVisible):
            deed()
    with refused("role_unknown", "role"):
        people.invite(actor=theirs, email="new@north-fund.example", role="analyst")
    with tenant_scope(north.tenant.pk):
        Membership.objects.filter(user=north.member).update(role="analyst")
        assert permissions_of(["analyst"]) == {"analyst": frozenset()}
    assert north.actor(north.member).permissions == frozenset(), "a role that does not exist allows nothing"


def test_any_two_permissions_join_or_not_by_their_duties() -> None:
    for one, other in combinations(CATALOGUE, 2):
        joined = duties_of(frozenset({one.code, other.code}))
        assert (len(joined) > 1) == ({one.duty, other.duty} == {Duty.ADMINISTER, Duty.REVIEW})
