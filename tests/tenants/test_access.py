import pytest

from tenants import clock
from tenants.access import (
    NotVisible,
    actor_for_key,
    actor_for_user,
    create_api_key,
    memberships_of,
    require,
)
from tenants.models import ApiKey, Membership, Tenant, User
from tenants.scope import tenant_scope
from tests.conftest import Company


def test_a_member_acts_in_their_tenant_with_the_permissions_of_their_role(acme: Company) -> None:
    actor = actor_for_user(user=acme.member, tenant_slug="acme-bank")
    assert actor.tenant_id == acme.tenant.pk
    assert actor.can("chat.use")
    assert not actor.can("audit.read")


def test_duties_are_separate(acme: Company) -> None:
    assert not acme.actor(acme.administrator).can("audit.read")
    assert not acme.actor(acme.reviewer).can("overview.view")
    with pytest.raises(NotVisible):
        require(acme.actor(acme.administrator), "audit.read")


def test_strangers_and_other_tenants_and_missing_tenants_look_alike(
    acme: Company, north: Company, stranger: User
) -> None:
    for user, slug in [(stranger, "acme-bank"), (north.administrator, "acme-bank"), (acme.member, "no-such")]:
        with pytest.raises(NotVisible):
            actor_for_user(user=user, tenant_slug=slug)


def test_a_platform_administrator_is_no_member(acme: Company, platform_administrator: User) -> None:
    with pytest.raises(NotVisible):
        actor_for_user(user=platform_administrator, tenant_slug="acme-bank")


def test_a_suspended_tenant_is_closed_to_people_and_keys(acme: Company) -> None:
    text = create_api_key(tenant_slug="acme-bank", name="reports")
    Tenant.objects.filter(pk=acme.tenant.pk).update(status=Tenant.Status.SUSPENDED)
    with pytest.raises(NotVisible):
        actor_for_user(user=acme.member, tenant_slug="acme-bank")
    assert actor_for_key(text) is None
    assert memberships_of(acme.member) == []


def test_an_inactive_person_is_nobody(acme: Company) -> None:
    User.objects.filter(pk=acme.member.pk).update(is_active=False)
    with pytest.raises(NotVisible):
        actor_for_user(user=acme.member, tenant_slug="acme-bank")


def test_a_person_of_two_tenants_finds_both(acme: Company, north: Company) -> None:
    with tenant_scope(north.tenant.pk):
        Membership.objects.create(user=acme.member, role="reviewer")
    assert [(m.tenant.slug, m.role) for m in memberships_of(acme.member)] == [
        ("acme-bank", "member"),
        ("north-fund", "reviewer"),
    ]


def test_a_key_leads_to_its_tenant_and_may_use_the_api_alone(acme: Company) -> None:
    actor = actor_for_key(create_api_key(tenant_slug="acme-bank", name="reports"))
    assert actor is not None
    assert (actor.tenant_slug, actor.label, actor.permissions) == ("acme-bank", "reports", {"api.use"})


def test_the_secret_of_a_key_is_not_stored(acme: Company) -> None:
    text = create_api_key(tenant_slug="acme-bank", name="reports")
    secret = text.split("-", 3)[3]
    with tenant_scope(acme.tenant.pk):
        row = ApiKey.objects.values().get()
    assert secret not in repr({k: bytes(v) if isinstance(v, memoryview) else v for k, v in row.items()})


def test_wrong_keys_are_refused(acme: Company, north: Company) -> None:
    text = create_api_key(tenant_slug="acme-bank", name="reports")
    in_other_tenant = text.replace(acme.tenant.pk.hex, north.tenant.pk.hex)
    for wrong in [
        text[:-1] + ("a" if text[-1] != "a" else "b"),
        in_other_tenant,
        "",
        "custos-x-y-z",
        "a-b",
        "é-b-c-d",
    ]:
        assert actor_for_key(wrong) is None
    assert actor_for_key(text) is not None, "the control"


def test_a_revoked_key_is_refused(acme: Company) -> None:
    text = create_api_key(tenant_slug="acme-bank", name="reports")
    with tenant_scope(acme.tenant.pk):
        ApiKey.objects.update(revoked=clock.now())
    assert actor_for_key(text) is None


def test_two_keys_of_one_name_are_refused_with_advice(acme: Company) -> None:
    create_api_key(tenant_slug="acme-bank", name="reports")
    with pytest.raises(ValueError, match="choose another name"):
        create_api_key(tenant_slug="acme-bank", name="reports")
