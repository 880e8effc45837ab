"""Whose an address is: what proves it, what an unproven account is kept from, and how its true owner gets it."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.core import mail
from django.test import Client

from console import throttle
from console.sign_in import services
from console.sign_in.views import join
from console.tasks import answer_request, send_invitations
from tenants import clock, lifecycle, people
from tenants.errors import Refused
from tenants.models import Invitation, Membership, User
from tenants.scope import tenant_scope
from tests.conftest import PASSWORD, Company, make_user
from tests.sign_in.conftest import add_authenticator_app, recorded, sign_in
from tests.sign_in.issuer import Issuer

pytestmark = pytest.mark.django_db

VICTIM = "victim@north-fund.example"
NEW = "another horse, another battery"
GOOD = {"name": "New Person", "password": NEW}


@pytest.fixture
def hijacked(acme: Company) -> User:
    """An account under somebody else's address, made by an inviter through the link that the inviter saw."""
    with tenant_scope(acme.tenant.pk):
        _made, token = people.invite(actor=acme.actor(acme.owner), email=VICTIM)
    form = {"name": "Me, I say", "password": PASSWORD}
    assert Client().post(f"/invitation/acme-bank/{token}/", form).status_code == 302
    return User.objects.get(email=VICTIM)


def member_of(company: Company, user: User) -> Membership | None:
    with tenant_scope(company.tenant.pk):
        return Membership.objects.filter(user=user).first()


def link_in_mail() -> str:
    found = re.search(r"http://testserver(/\S+)", str(mail.outbox[-1].body))
    assert found is not None, mail.outbox[-1].body
    return found[1]


def set_by_mail(client: Client, email: str) -> None:
    """Go through the forgotten-password flow to its end."""
    client.post("/signin/forgotten/", {"email": email})
    assert mail.outbox[-1].to == [email]
    place = client.get(link_in_mail(), follow=True).request["PATH_INFO"]
    assert client.post(place, {"password1": NEW, "password2": NEW}).status_code == 302


class TestTakenBefore:
    """Pre-hijacking: what the account of an address may do before its owner has been seen."""

    def test_a_directory_does_not_link_it(self, hijacked: User, north: Company) -> None:
        with pytest.raises(Refused) as refused:
            people.add_member(actor=north.actor(north.owner), user=hijacked)
        assert refused.value.code == "account_unproven" and "confirm it" in refused.value.message
        assert member_of(north, hijacked) is None

    def test_a_directory_links_who_has_no_password(self, north: Company) -> None:
        provided = User.objects.create_user(VICTIM, None)
        people.add_member(actor=north.actor(north.owner), user=provided)
        assert member_of(north, provided) is not None

    @pytest.mark.parametrize("proven", [False, True])
    def test_a_provider_ties_it_only_when_proven(
        self, proven: bool, acme: Company, issuer: Issuer, client: Client
    ) -> None:
        values: dict[str, Any] = {
            "slug": "login",
            "name": "Company login",
            "issuer": issuer.url,
            "client_id": "custos",
            "client_secret": "the client's secret",
            "domains": ["acme-bank.example"],
        }
        with tenant_scope(acme.tenant.pk):
            services.create_provider(actor=acme.actor(acme.administrator), **values)
        if not proven:
            User.objects.filter(pk=acme.member.pk).update(email_verified=None)
        page = issuer.sign_in(client, "member")
        assert page.status_code == (302 if proven else 403)
        assert proven or "not confirmed yet" in page.text
        assert SocialAccount.objects.exists() == proven == ("_auth_user_id" in client.session)


class TestNewPassword:
    def test_its_owner_gets_it_alone(self, hijacked: User, acme: Company, client: Client) -> None:
        thief = Client()
        sign_in(thief, VICTIM)
        assert thief.get("/t/acme-bank/chat/").status_code == 200
        add_authenticator_app(hijacked)
        set_by_mail(client, VICTIM)
        assert thief.get("/t/acme-bank/chat/").status_code == 302
        assert not Authenticator.objects.filter(user=hijacked).exists()
        assert User.objects.get(pk=hijacked.pk).email_verified is not None
        assert sign_in(Client(), VICTIM, PASSWORD).status_code == 200, "the old password"
        assert sign_in(client, VICTIM, NEW).headers["Location"] == "/"
        assert member_of(acme, hijacked) is not None, "nothing else is untied"
        assert "account.email_confirmed" in recorded(acme)

    def test_an_account_without_a_password_gets_one_and_accepts(self, acme: Company, client: Client) -> None:
        user = User.objects.create_user(VICTIM, None)
        add_authenticator_app(user)
        with tenant_scope(acme.tenant.pk):
            _made, token = people.invite(actor=acme.actor(acme.owner), email=VICTIM)
        set_by_mail(client, VICTIM)
        link = f"/invitation/acme-bank/{token}/"
        assert sign_in(client, VICTIM, NEW, next=link).headers["Location"] == link
        assert client.post(link).headers["Location"] == "/t/acme-bank/"
        assert User.objects.get(pk=user.pk).email_verified is not None

    def test_a_proven_account_keeps_its_second_factor(self, acme: Company, client: Client) -> None:
        add_authenticator_app(acme.member)
        set_by_mail(client, acme.member.email)
        assert Authenticator.objects.filter(user=acme.member).exists()
        assert sign_in(client, acme.member.email, NEW).headers["Location"] == "/signin/second-factor/"

    def test_the_browser_that_is_signed_in_is_signed_out_too(self, hijacked: User) -> None:
        browser = Client()
        sign_in(browser, VICTIM)
        set_by_mail(browser, VICTIM)
        assert browser.get("/account/").status_code == 302


class TestConfirming:
    def test_a_link_to_the_address_proves_it(self, hijacked: User, acme: Company, client: Client) -> None:
        sign_in(client, VICTIM)
        assert "Confirm your address" in client.get("/account/").text
        assert VICTIM in client.post("/account/email/proof").text
        assert mail.outbox[-1].to == [VICTIM]
        link = link_in_mail()
        other = Client()
        sign_in(other, acme.member.email)
        assert other.post(link).status_code == 422, "another's browser proves nothing"
        assert "You confirm that" in client.get(link).text
        assert User.objects.get(pk=hijacked.pk).email_verified is None, "a look proves nothing"
        assert client.post(link).headers["Location"] == "/account/"
        assert User.objects.get(pk=hijacked.pk).email_verified is not None
        page = client.get("/account/").text
        assert "Your address is confirmed." in page and "Confirm your address" not in page
        assert client.post(link).status_code == 422, "a link counts once"
        assert client.post("/account/email/proof").status_code == 404, "nothing is left to prove"

    def test_another_address_is_proven_as_it_is_taken(self, hijacked: User, client: Client) -> None:
        sign_in(client, VICTIM)
        client.post("/account/email/", {"email": "mine@elsewhere.example"})
        client.post(link_in_mail())
        user = User.objects.get(pk=hijacked.pk)
        assert user.email == "mine@elsewhere.example" and user.email_verified is not None

    def test_a_look_is_no_request(self, member_browser: Client) -> None:
        assert member_browser.get("/account/email/proof").status_code == 405


# --- By the domain of an address ---------------------------------------------------------------

DOOR = "/join/acme-bank/"


def open_to(company: Company, *domains: str, **more: Any) -> None:
    lifecycle.update_settings(
        actor=company.actor(company.owner), registration="domain", registration_domains=list(domains), **more
    )


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's tasks run where they are asked for."""
    for task in (answer_request, send_invitations):
        monkeypatch.setattr(task, "delay", lambda *args, task=task: task.apply(args=args).get())


@pytest.fixture
def door(acme: Company, at_once: None) -> str:
    open_to(acme, "acme-bank.example")
    return DOOR


def requests_of(company: Company) -> list[Invitation]:
    with tenant_scope(company.tenant.pk):
        return list(Invitation.objects.filter(mailed_only=True, revoked=None))


class TestDoor:
    def test_somebody_new_comes_in_by_mail_and_is_proven(
        self, door: str, acme: Company, client: Client
    ) -> None:
        assert "Join a workspace" in client.get(door).text
        page = client.post(door, {"email": "New@Acme-Bank.example"})
        link = link_in_mail()
        assert mail.outbox[-1].to == ["new@acme-bank.example"] and link not in page.text
        assert client.post(link, GOOD).headers["Location"] == "/t/acme-bank/"
        user = User.objects.get(email="new@acme-bank.example")
        member = member_of(acme, user)
        assert member is not None and member.role == "member"
        assert user.email_verified is not None
        assert recorded(acme)[-2:] == ["invitation.requested", "member.joined"]

    def test_somebody_with_an_account_signs_in_first(self, door: str, acme: Company, client: Client) -> None:
        user = make_user("other@acme-bank.example", email_verified=None)
        client.post(door, {"email": user.email})
        link = link_in_mail()
        assert client.post(link, GOOD).status_code == 200
        assert User.objects.get(pk=user.pk).check_password(PASSWORD), "no link sets a password on an account"
        sign_in(client, user.email, next=link)
        assert member_of(acme, user) is None
        client.post(link)
        assert member_of(acme, user) is not None
        assert User.objects.get(pk=user.pk).email_verified is not None

    def test_the_answer_is_always_the_same(self, door: str, acme: Company) -> None:
        User.objects.create_user("off@acme-bank.example", None, is_active=False)
        with tenant_scope(acme.tenant.pk):
            Membership.objects.filter(user=acme.curator).update(disabled=clock.now())
        emails = [
            "new@acme-bank.example",
            acme.member.email,
            acme.curator.email,
            "off@acme-bank.example",
            "eve@notacme-bank.example",
            "eve@a.acme-bank.example",
        ]
        pages = [Client().post(door, {"email": email}) for email in emails]
        assert {page.status_code for page in pages} == {200}
        assert len({re.sub(r'(value|nonce)="[\w+/=]{20,}"', "", page.text) for page in pages}) == 1
        assert [message.to for message in mail.outbox] == [["new@acme-bank.example"]]

    def test_closed_doors_look_like_none(self, acme: Company, north: Company, client: Client) -> None:
        open_to(north, "north-fund.example")
        assert client.get("/join/north-fund/").status_code == 200
        open_to(acme, "acme-bank.example", networks=["10.0.0.0/8", "127.0.0.1/32"])
        assert client.get(DOOR).status_code == 200
        for address in ("/join/no-such/", DOOR):
            assert client.get(address, REMOTE_ADDR="11.0.0.1").status_code == 404
        type(north.tenant).objects.filter(pk=north.tenant.pk).update(status="suspended")
        assert client.post("/join/north-fund/", {"email": VICTIM}).status_code == 404
        assert mail.outbox == []

    def test_too_many_requests_wait(self, door: str, client: Client) -> None:
        asked = {"email": "new@acme-bank.example"}
        codes = [client.post(door, asked).status_code for _ in range(throttle.REQUESTS_PER_MAILBOX + 1)]
        assert codes == [200] * throttle.REQUESTS_PER_MAILBOX + [429]
        codes = [
            client.post(door, {"email": f"n{number}@acme-bank.example"}, REMOTE_ADDR="192.0.2.1").status_code
            for number in range(throttle.REQUESTS_PER_ADDRESS + 1)
        ]
        assert codes[-2:] == [200, 429]

    def test_what_is_no_address_is_said(self, door: str, client: Client) -> None:
        page = client.post(door, {"email": "nobody"})
        assert page.status_code == 422 and "Enter a whole e-mail address" in page.text

    def test_without_counters_nothing_is_sent(
        self, door: str, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def gone(**_: object) -> bool:
            raise join.RedisError("away")

        monkeypatch.setattr(throttle, "admits_request", gone)
        page = client.post(door, {"email": "new@acme-bank.example"})
        assert page.status_code == 503 and "not possible at the moment" in page.text
        assert mail.outbox == []

    def test_a_link_dies_with_the_next_one_with_time_and_with_the_door(
        self, door: str, acme: Company, client: Client
    ) -> None:
        client.post(door, {"email": "new@acme-bank.example"})
        first = link_in_mail()
        client.post(door, {"email": "new@acme-bank.example"})
        second = link_in_mail()
        assert client.get(first).status_code == 410
        [request] = requests_of(acme)
        assert request.expires < clock.now() + timedelta(days=1, minutes=1)
        lifecycle.update_settings(actor=acme.actor(acme.owner), registration="invitation")
        page = client.post(second, GOOD)
        assert page.status_code == 422 and "not open to your address any more" in page.text
        assert not User.objects.filter(email="new@acme-bank.example").exists()

    def test_administrators_see_the_request_and_never_its_link(
        self, door: str, acme: Company, client: Client, client_of: Callable[[User], Client]
    ) -> None:
        client.post(door, {"email": "new@acme-bank.example"})
        link, sent = link_in_mail(), len(mail.outbox)
        [request] = requests_of(acme)
        administrator = client_of(acme.administrator)
        place = "/t/acme-bank/administration/invitations/"
        assert "Asked to join" in administrator.get(place).text
        form = {"action": "resend", "selected": str(request.pk), "confirmed": "yes"}
        assert "only they can ask" in administrator.post(f"{place}act", form, follow=True).text
        with pytest.raises(Refused) as refused:
            people.renew_invitation(actor=acme.actor(acme.owner), invitation_id=request.pk)
        assert refused.value.code == "request_not_renewable"
        assert len(mail.outbox) == sent and client.get(link).status_code == 200
        administrator.post(f"{place}act", {**form, "action": "revoke"})
        assert client.get(link).status_code == 410

    def test_who_asked_can_be_invited_as_well(self, door: str, acme: Company, client: Client) -> None:
        client.post(door, {"email": "new@acme-bank.example"})
        people.invite(actor=acme.actor(acme.owner), email="new@acme-bank.example", role="curator")
        client.post(link_in_mail(), GOOD)
        assert User.objects.get(email="new@acme-bank.example").email_verified is not None
