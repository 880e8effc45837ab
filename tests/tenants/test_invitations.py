"""An invitation brings in the one person it is for, once, while it lasts and while its tenant is open."""

from datetime import timedelta

import pytest

from tenants import clock, groups, lifecycle, people
from tenants.actors import NotVisible, memberships_of, platform_actor
from tenants.errors import Refused
from tenants.models import Group, GroupMember, Invitation, Membership, Tenant, User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.tenants.conftest import at_once, membership_of, no_change, one_change, refused

NEW = "new@acme-bank.example"
SLUG = "acme-bank"


@pytest.fixture
def newcomer(db: None) -> User:
    return User.objects.create_user(NEW)


def change(company: Company, **values: object) -> None:
    with tenant_scope(company.tenant.pk):
        Invitation.objects.update(**values)


def test_an_invitation_leads_in_with_its_role_and_groups(acme: Company, newcomer: User) -> None:
    administrator = acme.actor(acme.administrator)
    top = groups.create_group(actor=administrator, name="Bank")
    risk = groups.create_group(actor=administrator, name="Risk", parent_id=top.pk)
    with one_change(acme, "invitation.made") as found:
        invitation, token = people.invite(
            actor=administrator, email=" NEW@acme-bank.example", role="curator", group_ids=[risk.pk, risk.pk]
        )
    expected = {
        "email": NEW,
        "role": "curator",
        "groups": [str(risk.pk)],
        "expires": invitation.expires.isoformat(),
    }
    assert (found[0].after, found[0].subject_id) == (expected, invitation.pk)
    assert token not in repr(found)
    assert people.find_invitation(tenant_slug=SLUG, token=token).tenant == acme.tenant
    with one_change(acme, "member.joined") as found:
        people.accept_invitation(tenant_slug=SLUG, token=token, user=newcomer, address="192.0.2.1")
    assert (found[0].by, found[0].after) == (NEW, {"role": "curator", "groups": ["Risk"]})
    with tenant_scope(acme.tenant.pk):
        assert {top.pk, risk.pk} < groups.group_ids_of(newcomer.pk)
        row = Invitation.objects.values().get()
    assert token not in repr({key: bytes(v) if isinstance(v, memoryview) else v for key, v in row.items()})


def test_a_link_works_once(acme: Company, newcomer: User) -> None:
    _invitation, token = people.invite(actor=acme.actor(acme.administrator), email=NEW)
    people.accept_invitation(tenant_slug=SLUG, token=token, user=newcomer)
    with no_change(acme):
        with refused("invitation_used"):
            people.accept_invitation(tenant_slug=SLUG, token=token, user=newcomer)
        with refused("invitation_used"):
            people.find_invitation(tenant_slug=SLUG, token=token)


@pytest.mark.django_db(transaction=True)
def test_a_link_followed_twice_at_once_works_once(acme: Company, newcomer: User) -> None:
    _invitation, token = people.invite(actor=acme.actor(acme.administrator), email=NEW)
    results = at_once(*[lambda: people.accept_invitation(tenant_slug=SLUG, token=token, user=newcomer)] * 2)
    assert sorted(type(each) for each in results if not isinstance(each, Membership)) == [Refused]
    assert len(memberships_of(newcomer)) == 1


def test_a_link_runs_out_and_is_renewed(acme: Company, newcomer: User) -> None:
    administrator = acme.actor(acme.administrator)
    invitation, token = people.invite(actor=administrator, email=NEW)
    change(acme, expires=clock.now())
    for follow in (
        lambda: people.find_invitation(tenant_slug=SLUG, token=token),
        lambda: people.accept_invitation(tenant_slug=SLUG, token=token, user=newcomer),
    ):
        with refused("invitation_expired"):
            follow()
    with one_change(acme, "invitation.renewed") as found:
        renewed, fresh = people.renew_invitation(actor=administrator, invitation_id=invitation.pk)
    assert found[0].after == {"expires": renewed.expires.isoformat()}
    with pytest.raises(NotVisible):
        people.find_invitation(tenant_slug=SLUG, token=token)
    people.accept_invitation(tenant_slug=SLUG, token=fresh, user=newcomer)
    with pytest.raises(NotVisible):
        people.renew_invitation(actor=administrator, invitation_id=invitation.pk)


def test_an_invitation_is_taken_back(acme: Company, newcomer: User) -> None:
    administrator = acme.actor(acme.administrator)
    invitation, token = people.invite(actor=administrator, email=NEW)
    with one_change(acme, "invitation.revoked") as found:
        people.revoke_invitation(actor=administrator, invitation_id=invitation.pk)
    assert found[0].before == {"email": NEW, "role": "member"}
    with refused("invitation_used"):
        people.accept_invitation(tenant_slug=SLUG, token=token, user=newcomer)
    with pytest.raises(NotVisible):
        people.revoke_invitation(actor=administrator, invitation_id=invitation.pk)
    assert memberships_of(newcomer) == []


def test_a_link_is_for_one_person_and_one_tenant(
    acme: Company, north: Company, newcomer: User, stranger: User
) -> None:
    _invitation, token = people.invite(actor=acme.actor(acme.administrator), email=NEW)
    for user in (stranger, acme.member, User(email=NEW, is_active=False)):
        with refused("invitation_of_another"):
            people.accept_invitation(tenant_slug=SLUG, token=token, user=user)
    for slug, text in (
        ("north-fund", token),
        ("no-such", token),
        (SLUG, token[:-1]),
        (SLUG, ""),
        (SLUG, "\x00"),
        (SLUG, "\ud800"),
        (SLUG, "x" * 1_000_000),
    ):
        with pytest.raises(NotVisible):
            people.find_invitation(tenant_slug=slug, token=text)
        with pytest.raises(NotVisible):
            people.accept_invitation(tenant_slug=slug, token=text, user=newcomer)
    assert memberships_of(stranger) == memberships_of(newcomer) == []


@pytest.mark.parametrize("status", ["suspended", "archived", "deleting", "deleted"])
def test_a_closed_tenant_lets_nobody_in(acme: Company, newcomer: User, status: str) -> None:
    _invitation, token = people.invite(actor=acme.actor(acme.administrator), email=NEW)
    after_a_month = clock.now() + timedelta(days=30)
    Tenant.objects.filter(pk=acme.tenant.pk).update(status=status, delete_after=after_a_month)
    with pytest.raises(NotVisible):
        people.find_invitation(tenant_slug=SLUG, token=token)
    with pytest.raises(NotVisible):
        people.accept_invitation(tenant_slug=SLUG, token=token, user=newcomer)


def test_whoever_came_in_otherwise_keeps_what_they_have(acme: Company, newcomer: User) -> None:
    owner = acme.actor(acme.owner)
    _invitation, token = people.invite(actor=owner, email=NEW, role="administrator")
    people.add_member(actor=owner, user=newcomer)
    with no_change(acme), refused("already_member", "email"):
        people.accept_invitation(tenant_slug=SLUG, token=token, user=newcomer)
    assert membership_of(acme, newcomer).role == "member"


# --- Who is invited ----------------------------------------------------------------------------


def test_nobody_is_invited_twice_and_no_member_once(acme: Company) -> None:
    administrator = acme.actor(acme.administrator)
    first, _token = people.invite(actor=administrator, email=NEW)
    with no_change(acme):
        with refused("already_invited", "email"):
            people.invite(actor=administrator, email=NEW.upper(), role="curator")
        with refused("already_member", "email"):
            people.invite(actor=administrator, email=acme.member.email)
    change(acme, expires=clock.now())
    second, _token = people.invite(actor=administrator, email=NEW)
    with tenant_scope(acme.tenant.pk):
        assert [each.pk for each in people.invitations(administrator)] == [second.pk]
        assert Invitation.objects.get(pk=first.pk).revoked is not None


@pytest.mark.django_db(transaction=True)
def test_nobody_is_invited_twice_at_once(acme: Company) -> None:
    one, other = acme.actor(acme.administrator), acme.actor(acme.owner)
    results = at_once(
        lambda: people.invite(actor=one, email=NEW), lambda: people.invite(actor=other, email=NEW)
    )
    errors = [each.code for each in results if isinstance(each, Refused)]
    assert errors == ["already_invited"], results
    with tenant_scope(acme.tenant.pk):
        assert Invitation.objects.count() == 1


def test_an_invitation_says_nothing_about_people_of_elsewhere(acme: Company, north: Company) -> None:
    """An address with an account in another tenant is invited just as one that nobody has."""
    administrator = acme.actor(acme.administrator)
    for email in (north.member.email, "nobody@nowhere.example"):
        invitation, _token = people.invite(actor=administrator, email=email)
        assert invitation.email == email


def test_groups_of_another_tenant_and_everyones_are_unknown(acme: Company, north: Company) -> None:
    administrator = acme.actor(acme.administrator)
    theirs = groups.create_group(actor=north.actor(north.administrator), name="Risk")
    with tenant_scope(acme.tenant.pk):
        everyone = Group.objects.get(is_everyone=True)
    for group in (theirs, everyone):
        with no_change(acme), refused("group_unknown", "groups"):
            people.invite(actor=administrator, email=NEW, group_ids=[group.pk])


def test_a_group_that_was_deleted_meanwhile_is_left_out(acme: Company, newcomer: User) -> None:
    administrator = acme.actor(acme.administrator)
    group = groups.create_group(actor=administrator, name="Risk")
    _invitation, token = people.invite(actor=administrator, email=NEW, group_ids=[group.pk])
    groups.delete_group(actor=administrator, group_id=group.pk)
    people.accept_invitation(tenant_slug=SLUG, token=token, user=newcomer)
    with tenant_scope(acme.tenant.pk):
        assert not GroupMember.objects.exists()


def test_invitations_to_duties_are_the_owners_alone(acme: Company) -> None:
    administrator = acme.actor(acme.administrator)
    invitation, _token = people.invite(actor=acme.actor(acme.owner), email=NEW, role="reviewer")
    with no_change(acme):
        with refused("role_not_yours", "role"):
            people.renew_invitation(actor=administrator, invitation_id=invitation.pk)
        with refused("role_not_yours", "role"):
            people.revoke_invitation(actor=administrator, invitation_id=invitation.pk)


def test_invitations_of_another_tenant_do_not_exist(acme: Company, north: Company) -> None:
    invitation, _token = people.invite(actor=north.actor(north.owner), email=NEW)
    for deed in (people.renew_invitation, people.revoke_invitation):
        with pytest.raises(NotVisible):
            deed(actor=acme.actor(acme.owner), invitation_id=invitation.pk)


# --- The first owner ---------------------------------------------------------------------------


def test_a_platform_administrator_invites_the_first_owner_and_nobody_after(
    platform_administrator: User, newcomer: User
) -> None:
    tenant = lifecycle.create_tenant(user=platform_administrator, slug="south-bank", name="South Bank")
    platform = platform_actor(user=platform_administrator, tenant=tenant)
    for role in ("member", "reviewer", "administrator"):
        with pytest.raises(NotVisible):
            people.invite(actor=platform, email=platform_administrator.email, role=role)
    invitation, _token = people.invite(actor=platform, email="typo@acme-bank.example", role="owner")
    with refused("has_owner"):
        people.invite(actor=platform, email=NEW, role="owner")
    people.revoke_invitation(actor=platform, invitation_id=invitation.pk)
    _invitation, token = people.invite(actor=platform, email=NEW, role="owner")
    people.accept_invitation(tenant_slug="south-bank", token=token, user=newcomer)
    with refused("has_owner"):
        people.invite(actor=platform, email=platform_administrator.email, role="owner")


def test_a_platform_administrator_touches_no_people_of_a_tenant(
    acme: Company, platform_administrator: User
) -> None:
    platform = platform_actor(user=platform_administrator, tenant=acme.tenant)
    invitations = [
        people.invite(actor=acme.actor(acme.owner), email=f"{role}@new.example", role=role)[0]
        for role in ("member", "owner")
    ]
    member = membership_of(acme, acme.member).pk
    with no_change(acme):
        for deed in (people.disable_member, people.enable_member, people.remove_member):
            with pytest.raises(NotVisible):
                deed(actor=platform, membership_id=member)
        for invitation in invitations:
            for deed in (people.renew_invitation, people.revoke_invitation):
                with pytest.raises(NotVisible):
                    deed(actor=platform, invitation_id=invitation.pk)
        with pytest.raises(NotVisible):
            people.change_role(actor=platform, membership_id=member, role="curator")
        with pytest.raises(NotVisible):
            people.leave(actor=platform)
        with tenant_scope(acme.tenant.pk), pytest.raises(NotVisible):
            people.members(platform)
