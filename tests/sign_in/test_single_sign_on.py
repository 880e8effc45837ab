"""Signing in through a tenant's identity provider, against a real one in a process of its own."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.socialaccount.models import SocialAccount
from django.core import mail
from django.test import Client

from console.sign_in import services
from console.sign_in.models import IdentityProvider
from tenants.models import CustomRole, Membership, User
from tenants.scope import tenant_scope
from tests.conftest import PASSWORD, Company, make_user
from tests.sign_in.conftest import add_authenticator_app, code_now, recorded, sign_in
from tests.sign_in.issuer import Issuer, path_of

pytestmark = pytest.mark.django_db

START = "/signin/sso/acme-bank/login/"
BACKEND = "django.contrib.auth.backends.ModelBackend"


def add_provider(company: Company, issuer: Issuer, by: User | None = None, **more: Any) -> IdentityProvider:
    values = {
        "slug": "login",
        "name": "Company login",
        "issuer": issuer.url,
        "client_id": "custos",
        "client_secret": "the client's secret",
        "domains": [f"{company.tenant.slug}.example"],
        **more,
    }
    with tenant_scope(company.tenant.pk):
        return services.create_provider(actor=company.actor(by or company.administrator), **values)


@pytest.fixture
def provider(acme: Company, issuer: Issuer) -> IdentityProvider:
    return add_provider(acme, issuer)


def test_a_member_comes_in_and_is_tied(
    provider: IdentityProvider, acme: Company, issuer: Issuer, client: Client
) -> None:
    assert "Company login" in client.get("/signin/sso/acme-bank/").text
    answer = issuer.sign_in(client, "member", f"{START}?next=/t/acme-bank/chat/")
    assert answer.headers["Location"] == "/t/acme-bank/chat/", answer.text
    assert client.get("/t/acme-bank/chat/").status_code == 200
    tied = SocialAccount.objects.get()
    assert (tied.user_id, tied.uid) == (acme.member.pk, "member")
    assert recorded(acme)[1:] == ["account.provider_linked"]
    assert issuer.sign_in(Client(), "member").status_code == 302, "the second time too"
    assert SocialAccount.objects.count() == 1


def test_what_is_sent_to_the_issuer(provider: IdentityProvider, issuer: Issuer, client: Client) -> None:
    sent = {
        name: values[0]
        for name, values in parse_qs(urlsplit(client.get(START).headers["Location"]).query).items()
    }
    assert sent["redirect_uri"] == "http://testserver/signin/sso/acme-bank/login/callback/"
    assert (sent["client_id"], sent["response_type"]) == ("custos", "code")
    assert set(sent["scope"].split()) == {"openid", "profile", "email"}
    assert sent["code_challenge_method"] == "S256" and len(sent["code_challenge"]) == 43
    assert len(sent["nonce"]) >= 32 and len(sent["state"]) >= 16
    again = parse_qs(
        urlsplit(client.get(f"{START}?scope=admin&auth_params=prompt%3Dnone").headers["Location"]).query
    )
    assert again["nonce"] != [sent["nonce"]] and again["state"] != [sent["state"]]
    assert "admin" not in again["scope"][0] and "prompt" not in again


def test_an_answer_to_another_browser_is_refused(
    provider: IdentityProvider, acme: Company, issuer: Issuer, client: Client
) -> None:
    """State: nobody is signed in by following a link that an attacker's browser was sent to."""
    back = path_of(issuer.authorize(client.get(START).headers["Location"], "member"))
    victim = Client()
    assert victim.get(back).status_code == 502
    assert "_auth_user_id" not in victim.session
    assert client.get(back).status_code == 302, "the control"
    assert client.get(back).status_code == 502, "nor is it good twice"


def test_an_id_token_for_another_request_is_refused(
    provider: IdentityProvider, acme: Company, issuer: Issuer, client: Client
) -> None:
    """Nonce: the code that belongs to one request does not answer another of the same browser."""
    location = client.get(START).headers["Location"]
    changed = location.replace("nonce=", "nonce=x")
    assert client.get(path_of(issuer.authorize(changed, "member"))).status_code == 502
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("unverified", "has not verified your e-mail address"),
        ("text verified", "has not verified your e-mail address"),
        ("foreign domain", "may not sign in this way"),
        ("look-alike domain", "may not sign in this way"),
        ("nameless", "gave no e-mail address"),
        ("new", "not a member of this workspace"),
        ("outsider", "not a member of this workspace"),
        ("platform", "not a member of this workspace"),
    ],
)
def test_who_is_not_let_in(
    user: str, words: str, provider: IdentityProvider, acme: Company, north: Company, issuer: Issuer
) -> None:
    outsider = make_user("outsider@acme-bank.example")
    platform = make_user("platform@acme-bank.example", is_platform_administrator=True)
    with tenant_scope(north.tenant.pk):
        Membership.objects.create(user=outsider, role="member")
    with tenant_scope(acme.tenant.pk):
        Membership.objects.create(user=platform, role="member")
    browser = Client()
    people = User.objects.count()
    page = issuer.sign_in(browser, user)
    assert page.status_code == 403
    assert words in page.text
    assert "_auth_user_id" not in browser.session
    assert (SocialAccount.objects.count(), User.objects.count()) == (0, people)


class TestJustInTime:
    @pytest.fixture
    def provider(self, acme: Company, issuer: Issuer) -> IdentityProvider:
        return add_provider(acme, issuer, just_in_time=True, default_role="curator")

    def test_a_newcomer_gets_an_account_and_a_place(
        self, provider: IdentityProvider, acme: Company, issuer: Issuer, client: Client
    ) -> None:
        assert issuer.sign_in(client, "new").headers["Location"] == "/t/acme-bank/"
        user = User.objects.get(email="new.person@acme-bank.example")
        assert (user.name, user.has_usable_password()) == ("New Person", False)
        assert acme.actor(user).role == "curator"
        assert recorded(acme)[1:] == ["member.provisioned", "account.provider_linked"]
        assert client.get("/t/acme-bank/chat/").status_code == 200

    def test_somebody_elses_account_is_not_drawn_in(
        self, provider: IdentityProvider, acme: Company, north: Company, issuer: Issuer, client: Client
    ) -> None:
        """The takeover: an issuer that names a person of another tenant gets neither their account nor a member."""
        outsider = make_user("outsider@acme-bank.example")
        with tenant_scope(north.tenant.pk):
            Membership.objects.create(user=outsider, role="administrator")
        assert issuer.sign_in(client, "outsider").status_code == 403
        assert not SocialAccount.objects.exists()

    def test_nobody_is_drawn_into_a_role_that_has_duties_by_now(
        self, provider: IdentityProvider, acme: Company, issuer: Issuer, client: Client
    ) -> None:
        with tenant_scope(acme.tenant.pk):
            CustomRole.objects.create(slug="helper", name="Helper", permissions=["chat.use"])
            services.update_provider(
                actor=acme.actor(acme.owner),
                provider_id=provider.pk,
                just_in_time=True,
                default_role="helper",
            )
            CustomRole.objects.filter(slug="helper").update(permissions=["people.manage"])
        assert issuer.sign_in(client, "new").status_code == 403
        assert not User.objects.filter(email="new.person@acme-bank.example").exists()

    def test_a_removed_member_stays_out(
        self, provider: IdentityProvider, acme: Company, issuer: Issuer, client: Client
    ) -> None:
        issuer.sign_in(client, "new")
        with tenant_scope(acme.tenant.pk):
            Membership.objects.filter(user__email="new.person@acme-bank.example").delete()
        assert issuer.sign_in(Client(), "new").status_code == 403

    def test_an_account_without_a_password_cannot_get_means_beyond_the_provider(
        self, provider: IdentityProvider, acme: Company, issuer: Issuer, client: Client
    ) -> None:
        issuer.sign_in(client, "new")
        for path in ("/account/password/", "/account/email/", "/account/passkeys/add/"):
            assert client.get(path).status_code == 404, path
        client.post("/signin/forgotten/", {"email": "new.person@acme-bank.example"})
        assert [message.subject for message in mail.outbox] == ["[Custos] A new password"], (
            "but by the mailbox"
        )

    def test_a_second_factor_is_set_up_only_soon_after_the_provider_vouched(
        self, provider: IdentityProvider, acme: Company, issuer: Issuer, client: Client
    ) -> None:
        issuer.sign_in(client, "new")
        assert client.get("/account/authenticator/").status_code == 200
        session = client.session
        session[AUTHENTICATION_METHODS_SESSION_KEY][-1]["at"] -= 301
        session.save()
        page = client.get("/account/authenticator/")
        assert page.status_code == 403
        assert "Sign in again first" in page.text


class TestPeopleWithDuties:
    """Whoever administers sign-in chooses the issuer, who could name anybody: a reviewer, an owner."""

    def test_an_administrators_provider_makes_nobody_a_reviewer(
        self, provider: IdentityProvider, issuer: Issuer, client: Client
    ) -> None:
        answer = issuer.sign_in(client, "reviewer")
        assert answer.status_code == 403
        assert "administer or review" in answer.text
        assert not SocialAccount.objects.exists()
        assert client.get("/t/acme-bank/audit/").headers["Location"].startswith("/signin/")

    def test_an_owner_can_trust_a_provider_with_them(
        self, acme: Company, issuer: Issuer, client: Client
    ) -> None:
        add_provider(acme, issuer, by=acme.owner, vouches_for_duties=True)
        assert issuer.sign_in(client, "reviewer").status_code == 302
        assert client.get("/t/acme-bank/audit/").status_code == 200

    def test_a_session_does_not_grow_with_the_role(
        self, provider: IdentityProvider, acme: Company, issuer: Issuer, client: Client
    ) -> None:
        issuer.sign_in(client, "member")
        with tenant_scope(acme.tenant.pk):
            Membership.objects.filter(user=acme.member).update(role="reviewer")
        asked = client.get("/t/acme-bank/audit/")
        assert asked.headers["Location"].startswith("/account/confirm/?next=")
        client.post(asked.headers["Location"], {"password": PASSWORD})
        assert client.get("/t/acme-bank/audit/").status_code == 200, "after their own password"


class TestSessionsOfAProvider:
    """A tenant's issuer vouches for that tenant: it opens no other, and its word ends with it."""

    @pytest.fixture
    def both(self, provider: IdentityProvider, acme: Company, north: Company) -> User:
        """Acme's member, who is north's administrator too."""
        with tenant_scope(north.tenant.pk):
            Membership.objects.create(user=acme.member, role="administrator")
        return acme.member

    def test_it_opens_its_own_tenant_only(self, both: User, issuer: Issuer, client: Client) -> None:
        issuer.sign_in(client, "member")
        assert client.get("/t/acme-bank/chat/").status_code == 200
        asked = client.get("/t/north-fund/overview/")
        assert asked.headers["Location"].startswith("/account/confirm/?next=")
        assert client.post(asked.headers["Location"], {"password": PASSWORD}).status_code == 302
        assert client.get("/t/north-fund/overview/").status_code == 200, "after their own password"

    def test_it_is_asked_for_the_second_factor(self, both: User, issuer: Issuer, client: Client) -> None:
        add_authenticator_app(both)
        assert issuer.sign_in(client, "member").headers["Location"] == "/signin/second-factor/"
        assert client.get("/t/acme-bank/chat/").status_code == 302
        client.post("/signin/second-factor/", {"code": code_now()})
        assert client.get("/t/acme-bank/chat/").status_code == 200
        assert client.get("/t/north-fund/overview/").status_code == 302, "the mark survives the second step"

    @pytest.mark.parametrize("change", ["disable", "delete", "another issuer"])
    def test_it_ends_with_the_provider(
        self,
        change: str,
        both: User,
        provider: IdentityProvider,
        acme: Company,
        issuer: Issuer,
        client: Client,
    ) -> None:
        issuer.sign_in(client, "member")
        own = Client()
        sign_in(own, both.email)
        client.get("/t/acme-bank/chat/")
        actor = acme.actor(acme.administrator)
        with tenant_scope(acme.tenant.pk):
            if change == "disable":
                services.update_provider(actor=actor, provider_id=provider.pk, enabled=False)
            elif change == "delete":
                services.delete_provider(actor=actor, provider_id=provider.pk)
            else:
                services.update_provider(actor=actor, provider_id=provider.pk, issuer="https://other.example")
        assert client.get("/t/acme-bank/chat/").headers["Location"].startswith("/signin/")
        assert own.get("/t/acme-bank/chat/").status_code == 200, "a session by password stays"
        assert SocialAccount.objects.exists() == (change == "disable")
        assert Client().get(START).status_code == (404 if change != "another issuer" else 502)


def test_a_signed_in_person_becomes_who_the_issuer_names(
    provider: IdentityProvider, acme: Company, issuer: Issuer, client_of: Callable[[User], Client]
) -> None:
    browser = client_of(acme.administrator)
    issuer.sign_in(browser, "member")
    assert browser.session["_auth_user_id"] == str(acme.member.pk)


def test_declining_at_the_issuer_changes_nothing(
    provider: IdentityProvider, acme: Company, issuer: Issuer, client: Client
) -> None:
    location = client.get(START).headers["Location"]
    back = httpx.post(location, data={"action": "deny"}).headers["Location"]
    # This provider forgets the state when it is declined, which it must not.
    state = parse_qs(urlsplit(location).query)["state"][0]
    page = client.get(f"{path_of(back)}&state={state}")
    assert page.status_code == 403
    assert "You ended the sign-in" in page.text


def test_a_workspace_without_company_sign_in_looks_like_none(acme: Company, client: Client) -> None:
    pages = [client.get(f"/signin/sso/{slug}/") for slug in ("acme-bank", "never-heard")]
    assert [page.status_code for page in pages] == [200, 200]
    assert all("No company sign-in is set up" in page.text for page in pages)
    assert client.get("/signin/sso/acme-bank/login/").status_code == 404
    assert client.get("/signin/sso/?workspace=acme-bank").headers["Location"] == "/signin/sso/acme-bank/"
    assert "small letters" in client.get("/signin/sso/?workspace=//evil.example").text
