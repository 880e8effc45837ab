"""The page that an invitation's link leads to."""

from collections.abc import Callable

import pytest
from django.test import Client

from console.sign_in.invitations import join_with_new_password
from tenants import clock, people
from tenants.errors import Refused
from tenants.models import Invitation, Membership, User
from tenants.scope import tenant_scope
from tests.conftest import PASSWORD, Company
from tests.sign_in.conftest import sign_in

pytestmark = pytest.mark.django_db

GOOD = {"name": "New Person", "password": "a long password of mine"}


def invite(company: Company, email: str) -> str:
    with tenant_scope(company.tenant.pk):
        _made, token = people.invite(actor=company.actor(company.owner), email=email, role="curator")
    return f"/invitation/{company.tenant.slug}/{token}/"


def role_of(company: Company, email: str) -> str | None:
    with tenant_scope(company.tenant.pk):
        return Membership.objects.filter(user__email=email).values_list("role", flat=True).first()


def test_somebody_new_gets_an_account_and_is_in(acme: Company, client: Client) -> None:
    link = invite(acme, "new@acme-bank.example")
    page = client.get(link).text
    assert "Join Acme Bank" in page and "new@acme-bank.example" in page
    assert client.post(link, GOOD).headers["Location"] == "/t/acme-bank/"
    assert client.get("/t/acme-bank/chat/").status_code == 200
    assert role_of(acme, "new@acme-bank.example") == "curator"
    assert sign_in(Client(), "new@acme-bank.example", GOOD["password"]).status_code == 302
    assert "used or taken back" in Client().get(link).text, "a link counts once"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "short"}, "at least 12 characters"),
        ({"password": "new@acme-bank.example"}, "too similar"),
        ({"name": ""}, "Enter your name"),
        ({"name": "Ad\u0430"}, "alphabets that look alike"),
    ],
)
def test_what_is_refused_makes_no_account(
    change: dict[str, str], words: str, acme: Company, client: Client
) -> None:
    page = client.post(invite(acme, "new@acme-bank.example"), {**GOOD, **change})
    assert page.status_code == 422
    assert words in page.text
    assert not User.objects.filter(email="new@acme-bank.example").exists()


def test_somebody_with_an_account_signs_in_and_accepts(acme: Company, north: Company, client: Client) -> None:
    link = invite(acme, north.member.email)
    assert f"/signin/?next={link}" in client.get(link).text
    assert client.post(link, GOOD).status_code == 200, "nobody gets in with a new password for it"
    assert sign_in(client, north.member.email, GOOD["password"]).status_code == 200
    sign_in(client, north.member.email, next=link)
    assert role_of(acme, north.member.email) is None, "a look accepts nothing"
    assert client.post(link).headers["Location"] == "/t/acme-bank/"
    assert role_of(acme, north.member.email) == "curator"


def test_an_account_made_meanwhile_keeps_its_password(acme: Company, north: Company) -> None:
    """The service does not rely on what the page looked at before."""
    token = invite(acme, north.member.email).split("/")[3]
    invitation = people.find_invitation(tenant_slug="acme-bank", token=token)
    with pytest.raises(Refused) as refused:
        join_with_new_password(invitation=invitation, token=token, address="", **GOOD)
    assert refused.value.code == "account_exists"
    assert User.objects.get(pk=north.member.pk).check_password(PASSWORD)


def test_nobody_accepts_for_another(
    acme: Company, north: Company, client_of: Callable[[User], Client]
) -> None:
    link = invite(acme, "new@acme-bank.example")
    page = client_of(north.member).post(link)
    assert "Sign out, then open the link again" in page.text
    assert role_of(acme, north.member.email) is None


def test_no_link_sets_a_password_on_an_account_that_exists(
    acme: Company, north: Company, client: Client
) -> None:
    """The takeover: who invites somebody of another company sees the link, and must not become them by it."""
    user = User.objects.create_user("someone@north-fund.example", None)
    with tenant_scope(north.tenant.pk):
        Membership.objects.create(user=user, role="administrator")
    link = invite(acme, user.email)
    page = client.get(link).text
    assert "signs in through its company" in page
    assert f'name="email" value="{user.email}"' in page and 'action="/signin/forgotten/"' in page
    assert client.post(link, GOOD).status_code == 200
    assert not User.objects.get(pk=user.pk).has_usable_password()
    assert "_auth_user_id" not in client.session
    token = link.split("/")[3]
    invitation = people.find_invitation(tenant_slug="acme-bank", token=token)
    with pytest.raises(Refused) as refused:
        join_with_new_password(invitation=invitation, token=token, address="", **GOOD)
    assert refused.value.code == "account_exists"
    assert role_of(acme, user.email) is None


def test_an_account_made_by_a_link_that_inviters_see_is_unproven(acme: Company, client: Client) -> None:
    client.post(invite(acme, "new@acme-bank.example"), GOOD)
    assert User.objects.get(email="new@acme-bank.example").email_verified is None


def test_links_that_lead_nowhere(acme: Company, north: Company, client: Client) -> None:
    link = invite(acme, "new@acme-bank.example")
    assert client.get(link.replace("acme-bank", "north-fund")).status_code == 404
    assert client.get("/invitation/acme-bank/wrong/").status_code == 404
    with tenant_scope(acme.tenant.pk):
        Invitation.objects.update(expires=clock.now())
    page = client.post(link, GOOD)
    assert page.status_code == 410
    assert "has run out" in page.text
    assert not User.objects.filter(email="new@acme-bank.example").exists()


def test_an_account_that_is_switched_off_does_not_come_back(acme: Company, client: Client) -> None:
    User.objects.create_user("off@acme-bank.example", None, is_active=False)
    client.post(invite(acme, "off@acme-bank.example"), GOOD)
    assert not User.objects.get(email="off@acme-bank.example").has_usable_password()
    assert role_of(acme, "off@acme-bank.example") is None
