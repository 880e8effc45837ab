"""Roles of people: who gives which, that nobody changes their own, and that a tenant keeps an owner."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from tenants import clock, keys, lifecycle, people
from tenants.actors import NotVisible, actor_for_key, actor_for_user, memberships_of, platform_actor
from tenants.errors import Refused
from tenants.models import ApiKey, Group, GroupMember, Membership, User
from tenants.roles import Role
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.tenants.conftest import (
    at_once,
    membership_of,
    no_change,
    one_change,
    program,
    refused,
    role_of,
)

WITH_A_DUTY = [Role.OWNER, Role.ADMINISTRATOR, Role.OPERATOR, Role.REVIEWER]
WITHOUT = [Role.CURATOR, Role.MEMBER, Role.AUDITOR]


# --- Who gives which role ----------------------------------------------------------------------


@pytest.mark.parametrize("role", WITHOUT)
def test_administrators_give_the_roles_without_a_duty(acme: Company, role: Role) -> None:
    member = membership_of(acme, acme.member)
    with one_change(acme, "member.role_changed") as found:
        people.change_role(actor=acme.actor(acme.owner), membership_id=member.pk, role="curator")
    assert (found[0].before, found[0].after) == ({"role": "member"}, {"role": "curator"})
    assert (found[0].subject_id, found[0].detail) == (member.pk, {"email": acme.member.email})
    people.change_role(actor=acme.actor(acme.administrator), membership_id=member.pk, role=role)
    assert role_of(acme, acme.member) == role


@pytest.mark.parametrize("role", WITH_A_DUTY)
def test_administrators_neither_give_nor_take_the_roles_with_one(acme: Company, role: Role) -> None:
    administrator = acme.actor(acme.administrator)
    member, holder = membership_of(acme, acme.member), membership_of(acme, getattr(acme, role))
    with no_change(acme):
        with refused("role_not_yours", "role"):
            people.change_role(actor=administrator, membership_id=member.pk, role=role)
        with refused("role_not_yours", "role"):
            people.invite(actor=administrator, email="me@second.example", role=role)
        with refused("role_not_yours", "role"):
            people.add_member(actor=administrator, user=acme.member, role=role)
        if role != Role.ADMINISTRATOR:
            for taking in (people.disable_member, people.remove_member, people.enable_member):
                with refused("role_not_yours", "role"):
                    taking(actor=administrator, membership_id=holder.pk)
            with refused("role_not_yours", "role"):
                people.change_role(actor=administrator, membership_id=holder.pk, role="member")
    assert (role_of(acme, acme.member), role_of(acme, getattr(acme, role))) == ("member", role)


@pytest.mark.parametrize("role", Role.values)
def test_owners_give_and_take_every_role(acme: Company, role: str) -> None:
    curator = membership_of(acme, acme.curator)
    owner = acme.actor(acme.owner)
    people.change_role(actor=owner, membership_id=curator.pk, role=role)
    assert role_of(acme, acme.curator) == role
    people.change_role(actor=owner, membership_id=curator.pk, role="member")
    assert role_of(acme, acme.curator) == "member"


@pytest.mark.parametrize("role", ["emperor", "", "Owner", "owner ", "own\x00er", "x" * 1_000_000])
def test_roles_that_do_not_exist_are_given_to_nobody(acme: Company, role: str) -> None:
    owner, member = acme.actor(acme.owner), membership_of(acme, acme.member)
    with no_change(acme):
        with refused("role_unknown", "role"):
            people.change_role(actor=owner, membership_id=member.pk, role=role)
        with refused("role_unknown", "role"):
            people.invite(actor=owner, email="new@acme-bank.example", role=role)


def test_the_same_role_again_is_no_change(acme: Company) -> None:
    with no_change(acme):
        member = membership_of(acme, acme.member)
        people.change_role(actor=acme.actor(acme.owner), membership_id=member.pk, role="member")


def test_nobody_changes_their_own_rights(acme: Company) -> None:
    for user in (acme.owner, acme.administrator):
        own = membership_of(acme, user).pk
        with no_change(acme):
            for deed in (people.disable_member, people.enable_member, people.remove_member):
                with refused("own_membership"):
                    deed(actor=acme.actor(user), membership_id=own)
            with refused("own_membership"):
                people.change_role(actor=acme.actor(user), membership_id=own, role="member")


def test_nobody_changes_their_own_rights_by_a_program(acme: Company) -> None:
    """The owner's personal key, a program whose key they made, and a program whose key that program made."""
    own = membership_of(acme, acme.owner).pk
    with tenant_scope(acme.tenant.pk):
        Membership.objects.create(user=User.objects.create(email="second@acme-bank.example"), role="owner")
    _key, text = keys.create_key(actor=acme.actor(acme.owner), name="mine", scopes=["management.write"])
    personal = actor_for_key(text)
    first, _account = program(acme, "people.appoint", "people.manage", "keys.manage")
    second_account = keys.create_service_account(actor=first, name="second", role=Role.MEMBER)
    _key, text = keys.create_key(
        actor=first, name="second", service_account_id=second_account.pk, scopes=["management.write"]
    )
    with tenant_scope(acme.tenant.pk):
        assert ApiKey.objects.get(name="second").created_by == acme.owner
    keeper = acme.actor(acme.owner)
    keys.update_service_account(actor=keeper, account_id=second_account.pk, role=Role.OWNER)
    for actor in (personal, first, actor_for_key(text)):
        assert actor is not None and actor.can("people.appoint"), "the control"
        with refused("own_membership"):
            people.change_role(actor=actor, membership_id=own, role="reviewer")
        with refused("own_membership"):
            people.enable_member(actor=actor, membership_id=own)
    assert role_of(acme, acme.owner) == "owner"


# --- An owner stays ----------------------------------------------------------------------------


def test_the_last_owner_stays(acme: Company) -> None:
    owner = membership_of(acme, acme.owner)
    actor, _account = program(acme, "people.appoint", "people.manage", by=acme.owner)
    with tenant_scope(acme.tenant.pk):
        ApiKey.objects.update(created_by=None)  # Nobody is behind it.
    with no_change(acme):
        with refused("last_owner"):
            people.leave(actor=acme.actor(acme.owner))
        with refused("last_owner"):
            people.change_role(actor=actor, membership_id=owner.pk, role="member")
        for deed in (people.disable_member, people.remove_member):
            with refused("last_owner"):
                deed(actor=actor, membership_id=owner.pk)
    assert membership_of(acme, acme.owner).disabled is None


def test_owners_who_cannot_come_in_do_not_count(acme: Company) -> None:
    people_ = {name: User.objects.create(email=f"{name}@acme-bank.example") for name in ("off", "gone")}
    with tenant_scope(acme.tenant.pk):
        Membership.objects.create(user=people_["off"], role="owner", disabled=clock.now())
        Membership.objects.create(user=people_["gone"], role="owner")
    User.objects.filter(pk=people_["gone"].pk).update(is_active=False)
    with refused("last_owner"):
        people.leave(actor=acme.actor(acme.owner))


def test_whoever_is_not_the_last_owner_leaves_with_their_keys(acme: Company) -> None:
    with tenant_scope(acme.tenant.pk):
        membership = Membership.objects.get(user=acme.curator)
        Membership.objects.filter(pk=membership.pk).update(role="owner")
        GroupMember.objects.create(group=Group.objects.create(name="Risk"), membership=membership)
    actor = acme.actor(acme.curator)
    _key, text = keys.create_key(actor=actor, name="mine")
    with one_change(acme, "member.left") as found:
        people.leave(actor=actor)
    assert found[0].before["role"] == "owner"
    assert memberships_of(acme.curator) == []
    with tenant_scope(acme.tenant.pk):
        Membership.objects.create(user=acme.curator, role="member")
        assert not GroupMember.objects.exists()
    assert actor_for_key(text) is None, "neither when they come back"
    with pytest.raises(NotVisible):
        people.leave(actor=actor)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("by", ["leaving", "demoting each other"])
def test_two_owners_do_not_both_go_at_the_same_moment(acme: Company, by: str) -> None:
    with tenant_scope(acme.tenant.pk):
        Membership.objects.filter(user=acme.member).update(role="owner")
    one, other = acme.actor(acme.owner), acme.actor(acme.member)
    if by == "leaving":
        results = at_once(lambda: people.leave(actor=one), lambda: people.leave(actor=other))
    else:
        results = at_once(
            lambda: people.change_role(actor=one, membership_id=other.membership_id, role="member"),
            lambda: people.change_role(actor=other, membership_id=one.membership_id, role="member"),
        )
    failed = [each for each in results if isinstance(each, Exception)]
    assert len(failed) == 1
    # Whoever came second was the last owner, or no owner any more.
    assert isinstance(failed[0], Refused if by == "leaving" else NotVisible), failed
    with tenant_scope(acme.tenant.pk):
        assert Membership.objects.filter(role="owner", disabled=None).count() == 1


def test_rights_that_were_lost_on_the_way_do_nothing(acme: Company, platform_administrator: User) -> None:
    """Between the request's start and its turn: each actor was found while they still had their rights."""
    owner, member = acme.actor(acme.owner), membership_of(acme, acme.member).pk
    administrator, platform = (
        acme.actor(acme.administrator),
        platform_actor(user=platform_administrator, tenant=acme.tenant),
    )
    robot, account = program(acme, "people.manage")
    people.change_role(actor=owner, membership_id=administrator.membership_id or member, role="curator")
    keys.set_service_account_enabled(actor=owner, account_id=account.pk, enabled=False)
    User.objects.filter(pk=platform_administrator.pk).update(is_platform_administrator=False)
    with no_change(acme):
        for stale in (administrator, robot):
            with pytest.raises(NotVisible):
                people.change_role(actor=stale, membership_id=member, role="curator")
        with pytest.raises(NotVisible):
            lifecycle.suspend(actor=platform)


# --- Disabled, enabled, removed, added ---------------------------------------------------------


def test_a_disabled_member_is_out_with_their_keys_and_comes_back_with_them(acme: Company) -> None:
    administrator, member = acme.actor(acme.administrator), membership_of(acme, acme.member)
    _key, text = keys.create_key(actor=acme.actor(acme.member), name="mine")
    with one_change(acme, "member.disabled") as found:
        people.disable_member(actor=administrator, membership_id=member.pk)
    assert (found[0].before, found[0].after) == ({"active": True}, {"active": False})
    with no_change(acme):
        people.disable_member(actor=administrator, membership_id=member.pk)
    assert actor_for_key(text) is None
    assert memberships_of(acme.member) == []
    with pytest.raises(NotVisible):
        actor_for_user(user=acme.member, tenant_slug="acme-bank")
    with one_change(acme, "member.enabled"):
        people.enable_member(actor=administrator, membership_id=member.pk)
    assert actor_for_key(text) is not None
    assert [each.pk for each in memberships_of(acme.member)] == [member.pk]


def test_a_removed_member_is_gone_and_stays_elsewhere(acme: Company, north: Company) -> None:
    with tenant_scope(north.tenant.pk):
        Membership.objects.create(user=acme.member, role="member")
    _key, text = keys.create_key(actor=north.actor(acme.member), name="mine")
    with one_change(acme, "member.removed") as found:
        people.remove_member(
            actor=acme.actor(acme.administrator), membership_id=membership_of(acme, acme.member).pk
        )
    assert found[0].detail == {"email": acme.member.email}
    assert [each.tenant for each in memberships_of(acme.member)] == [north.tenant]
    assert actor_for_key(text) is not None


def test_a_directory_shuts_out_whoever_left_and_appoints_nobody(acme: Company) -> None:
    directory, _account = program(acme, "people.manage", scopes=["scim"])
    administrator = membership_of(acme, acme.administrator)
    with refused("role_not_yours", "role"):
        people.change_role(actor=directory, membership_id=administrator.pk, role="member")
    people.disable_member(actor=directory, membership_id=administrator.pk)
    with refused("role_not_yours", "role"):
        people.enable_member(actor=directory, membership_id=administrator.pk)
    people.remove_member(actor=directory, membership_id=administrator.pk)
    with refused("last_owner"):
        people.disable_member(actor=directory, membership_id=membership_of(acme, acme.owner).pk)


def test_a_personal_key_for_a_directory_shuts_out_nobody_with_a_duty(acme: Company) -> None:
    _key, text = keys.create_key(actor=acme.actor(acme.administrator), name="mine", scopes=["scim"])
    actor = actor_for_key(text)
    assert actor is not None and actor.permissions == {"scim.provision"}
    with refused("role_not_yours", "role"):
        people.disable_member(actor=actor, membership_id=membership_of(acme, acme.owner).pk)


def test_a_directory_adds_people_once(acme: Company, stranger: User) -> None:
    directory, _account = program(acme, "people.manage", scopes=["scim"])
    with one_change(acme, "member.added") as found:
        people.add_member(actor=directory, user=stranger, external_id="00u1")
    assert found[0].after == {"role": "member", "external_id": "00u1"}
    with no_change(acme):
        with refused("already_member", "email"):
            people.add_member(actor=directory, user=stranger)
        for bad in ("\x00", "\ud800"):
            with refused("name_invisible", "external_id"):
                people.add_member(actor=directory, user=acme.member, external_id=bad)
        with refused("too_long", "external_id"):
            people.add_member(actor=directory, user=acme.member, external_id="x" * 201)


# --- Who is nobody here ------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["operator", "curator", "member", "reviewer", "auditor"])
def test_whoever_manages_nobody_changes_nothing(acme: Company, role: str) -> None:
    actor, other = acme.actor(getattr(acme, role)), membership_of(acme, acme.administrator).pk
    deeds: list[Callable[[], object]] = [
        lambda: people.change_role(actor=actor, membership_id=other, role="member"),
        lambda: people.disable_member(actor=actor, membership_id=other),
        lambda: people.enable_member(actor=actor, membership_id=other),
        lambda: people.remove_member(actor=actor, membership_id=other),
        lambda: people.invite(actor=actor, email="new@acme-bank.example"),
        lambda: people.import_members(actor=actor, rows=[{"email": "new@acme-bank.example"}]),
        lambda: people.add_member(actor=actor, user=acme.member),
        lambda: people.renew_invitation(actor=actor, invitation_id=other),
        lambda: people.revoke_invitation(actor=actor, invitation_id=other),
    ]
    with no_change(acme):
        for deed in deeds:
            with pytest.raises(NotVisible):
                deed()
    with tenant_scope(acme.tenant.pk):
        if role == "auditor":
            assert people.members(actor).count() == 8
        else:
            for look in (people.members, people.invitations):
                with pytest.raises(NotVisible):
                    look(actor)


def test_members_of_another_tenant_do_not_exist(acme: Company, north: Company) -> None:
    owner, theirs = acme.actor(acme.owner), membership_of(north, north.member)
    with no_change(north):
        for deed in (people.disable_member, people.enable_member, people.remove_member):
            with pytest.raises(NotVisible):
                deed(actor=owner, membership_id=theirs.pk)
        with pytest.raises(NotVisible):
            people.change_role(actor=owner, membership_id=theirs.pk, role="member")
    assert membership_of(north, north.member).disabled is None


def test_members_are_found_by_words_and_roles(acme: Company) -> None:
    User.objects.filter(pk=acme.curator.pk).update(name="Ada Lovelace")
    actor = acme.actor(acme.administrator)
    with tenant_scope(acme.tenant.pk):

        def found(**query: str) -> list[str]:
            return [each.user.email.partition("@")[0] for each in people.members(actor, **query)]

        assert found(search="lovelace ADA") == ["curator"]
        assert found(search="cur bank.example") == ["curator"]
        assert found(role="auditor") == ["auditor"]
        assert found(role="no-such") == found(role="\x00") == found(search="100%_") == []
        assert len(found(search=" \x00 ")) == 8
        assert found(search="a " * 100_000 + "x") != [], "the first words alone"


# --- By the domain of an address ---------------------------------------------------------------


def open_to(company: Company, *domains: str, **more: object) -> None:
    lifecycle.update_settings(
        actor=company.actor(company.owner), registration="domain", registration_domains=list(domains), **more
    )


def test_people_of_an_open_domain_get_a_link_to_their_mailbox(acme: Company, stranger: User) -> None:
    open_to(acme, "elsewhere.example")
    with one_change(acme, "invitation.requested") as found:
        request = people.ask_to_join(tenant_slug="acme-bank", email=stranger.email)
    assert request is not None
    assert (request.role, request.mailed_only) == ("member", True)
    assert found[0].after["email"] == stranger.email


@pytest.mark.parametrize(
    "obstacle",
    [
        "invitation only",
        "other domain",
        "subdomain",
        "no tenant",
        "suspended",
        "inactive",
        "disabled",
        "network",
    ],
)
def test_elsewhere_there_is_no_way_in(acme: Company, stranger: User, obstacle: str) -> None:
    slug, address = "acme-bank", "10.0.0.1"
    open_to(acme, "elsewhere.example", networks=["10.0.0.0/8"])
    if obstacle == "invitation only":
        lifecycle.update_settings(
            actor=actor_for_user(user=acme.owner, tenant_slug="acme-bank", address="10.0.0.1"),
            registration="invitation",
        )
    elif obstacle in ("other domain", "subdomain"):
        stranger.email = {"other domain": "eve@notelsewhere.example", "subdomain": "eve@a.elsewhere.example"}[
            obstacle
        ]
    elif obstacle == "no tenant":
        slug = "no-such"
    elif obstacle == "suspended":
        type(acme.tenant).objects.filter(pk=acme.tenant.pk).update(status="suspended")
    elif obstacle == "inactive":
        stranger.is_active = False
    elif obstacle == "disabled":
        with tenant_scope(acme.tenant.pk):
            Membership.objects.create(user=stranger, role="member", disabled=clock.now())
    else:
        address = "11.0.0.1"
    stranger.save()
    with no_change(acme), suppress(NotVisible):
        assert people.ask_to_join(tenant_slug=slug, email=stranger.email, address=address) is None
    assert memberships_of(stranger) == []
