"""Authenticator apps, recovery codes, and tenants that require a second factor."""

import re
from collections.abc import Callable

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import SECRET_SESSION_KEY
from django.core import mail
from django.core.cache import cache
from django.test import Client

from console.chat.identity import identify
from tenants.actors import NotVisible
from tenants.models import TenantSettings, User
from tenants.scope import tenant_scope
from tests.conftest import PASSWORD, Company
from tests.sign_in.conftest import add_authenticator_app, code_now, gone, recorded, sign_in, sign_in_with_code

pytestmark = pytest.mark.django_db

CHAT = "/t/acme-bank/chat/"


def require_second_factor(company: Company, required: bool = True) -> None:
    with tenant_scope(company.tenant.pk):
        TenantSettings.objects.update(mfa_required=required)


def turn_on(browser: Client) -> list[str]:
    """Set up an authenticator app through the pages; the recovery codes shown."""
    assert "data:image/svg+xml;base64," in browser.get("/account/authenticator/").text
    answer = browser.post("/account/authenticator/", {"code": code_now(browser.session[SECRET_SESSION_KEY])})
    assert answer.headers["Location"] == "/account/recovery-codes/", answer.text
    return re.findall(r"<li>(\d{8})</li>", browser.get("/account/recovery-codes/").text)


@pytest.mark.django_db(transaction=True)  # the mail goes out once it is committed
def test_an_app_is_set_up_with_recovery_codes_that_are_shown_once(acme: Company, client: Client) -> None:
    sign_in(client, acme.member.email)
    codes = turn_on(client)
    assert len(set(codes)) == 10
    assert not re.findall(r"\d{8}</li>", client.get("/account/recovery-codes/").text)
    assert "On" in client.get("/account/").text
    assert recorded(acme) == ["account.second_factor_added", "account.second_factor_added"]
    assert [message.subject for message in mail.outbox] == ["[Custos] An authenticator app was added"]


def test_its_seed_is_sealed_at_rest(acme: Company, client: Client) -> None:
    sign_in(client, acme.member.email)
    client.get("/account/authenticator/")
    seed = client.session[SECRET_SESSION_KEY]
    client.post("/account/authenticator/", {"code": code_now(seed)})
    row = Authenticator.objects.get(type="totp")
    assert seed not in str(row.data)
    cache.clear()
    assert row.wrap().validate_code(code_now(seed)), "the control: it is that seed"


def test_a_session_that_proved_nothing_lately_must_do_so_first(acme: Company, member_browser: Client) -> None:
    asked = member_browser.get("/account/authenticator/")
    assert asked.headers["Location"] == "/account/confirm/?next=%2Faccount%2Fauthenticator%2F"
    assert "This is not your password" in member_browser.post("/account/confirm/", {"password": "wrong"}).text
    confirmed = member_browser.post(asked.headers["Location"], {"password": PASSWORD})
    assert confirmed.headers["Location"] == "/account/authenticator/"
    assert member_browser.get("/account/authenticator/").status_code == 200


def test_the_password_alone_then_does_not_suffice(acme: Company, client: Client) -> None:
    add_authenticator_app(acme.member)
    assert sign_in(client, acme.member.email, next=CHAT).headers["Location"] == "/signin/second-factor/"
    assert client.get(CHAT).status_code == 302
    wrong = client.post("/signin/second-factor/", {"code": "000000"})
    assert "This did not work" in wrong.text
    answer = client.post("/signin/second-factor/", {"code": code_now()})
    assert answer.headers["Location"] == CHAT
    assert client.get(CHAT).status_code == 200


def test_a_code_counts_once(acme: Company, client: Client) -> None:
    add_authenticator_app(acme.member)
    sign_in(client, acme.member.email)
    code = code_now()
    assert client.post("/signin/second-factor/", {"code": code}).status_code == 302
    other = Client()
    sign_in(other, acme.member.email)
    assert "This did not work" in other.post("/signin/second-factor/", {"code": code}).text


def test_a_recovery_code_opens_once(acme: Company, client: Client) -> None:
    sign_in(client, acme.member.email)
    code = turn_on(client)[3]
    for expected in (302, 200):
        browser = Client()
        sign_in(browser, acme.member.email)
        assert browser.post("/signin/second-factor/", {"code": code}).status_code == expected


def test_guessing_codes_is_stopped_even_when_the_guess_is_right(acme: Company, client: Client) -> None:
    add_authenticator_app(acme.member)
    sign_in(client, acme.member.email)
    for number in range(10):
        client.post("/signin/second-factor/", {"code": f"{number:06}"})
    page = client.post("/signin/second-factor/", {"code": code_now()})
    assert "Too many attempts" in page.text
    assert "_auth_user_id" not in client.session


def test_the_second_step_can_be_left_for_another_person(acme: Company, client: Client) -> None:
    add_authenticator_app(acme.member)
    sign_in(client, acme.member.email)
    assert client.post("/signin/start-again/").headers["Location"] == "/signin/"
    assert client.get("/signin/second-factor/").headers["Location"] == "/signin/"
    assert sign_in(client, acme.curator.email).headers["Location"] == "/"


def test_removing_the_app_takes_the_codes_with_it(acme: Company, client: Client) -> None:
    sign_in(client, acme.member.email)
    turn_on(client)
    client.post("/account/authenticator/remove/")
    assert not Authenticator.objects.exists()
    assert recorded(acme)[2:] == ["account.second_factor_removed", "account.second_factor_removed"]


class TestRequiredByTheTenant:
    def test_a_member_without_one_is_led_to_set_it_up_and_back(self, acme: Company, client: Client) -> None:
        require_second_factor(acme)
        sign_in(client, acme.member.email)
        led = client.get(CHAT)
        assert led.headers["Location"] == "/account/second-factor/?next=%2Ft%2Facme-bank%2Fchat%2F"
        assert "Use an authenticator app" in client.get(led.headers["Location"]).text
        client.get("/account/authenticator/")
        client.post("/account/authenticator/", {"code": code_now(client.session[SECRET_SESSION_KEY])})
        assert f'href="{CHAT}"' in client.get("/account/recovery-codes/").text
        assert client.get(CHAT).status_code == 200

    @pytest.mark.parametrize("path", ["/t/acme-bank/", "/t/acme-bank/palette", CHAT])
    def test_no_page_of_the_tenant_opens_without(
        self, path: str, acme: Company, member_browser: Client
    ) -> None:
        require_second_factor(acme)
        assert member_browser.get(path).headers["Location"].startswith("/account/second-factor/")

    def test_a_session_that_did_not_use_it_is_asked(self, acme: Company, member_browser: Client) -> None:
        require_second_factor(acme)
        add_authenticator_app(acme.member)
        asked = member_browser.get(CHAT).headers["Location"]
        assert asked.startswith("/account/confirm/code/")
        assert member_browser.post(asked, {"code": code_now()}).headers["Location"] == CHAT
        assert member_browser.get(CHAT).status_code == 200

    def test_strangers_learn_nothing_of_it(
        self, acme: Company, north: Company, client_of: Callable[[User], Client]
    ) -> None:
        require_second_factor(acme)
        assert client_of(north.member).get(CHAT).status_code == 404

    def test_other_tenants_ask_for_none(
        self, acme: Company, north: Company, client_of: Callable[[User], Client]
    ) -> None:
        require_second_factor(acme)
        assert client_of(north.member).get("/t/north-fund/chat/").status_code == 200

    def test_the_socket_stays_shut_until_it_was_used(self, acme: Company, client: Client) -> None:
        add_authenticator_app(acme.member)
        require_second_factor(acme)
        weak = Client()
        weak.force_login(acme.member, backend="django.contrib.auth.backends.ModelBackend")
        with pytest.raises(NotVisible):
            identify(session_key=weak.session.session_key, tenant_slug="acme-bank")
        sign_in_with_code(client, acme.member)
        assert identify(session_key=client.session.session_key, tenant_slug="acme-bank").is_strong

    def test_open_sockets_close_when_it_becomes_required(self, acme: Company, client: Client) -> None:
        add_authenticator_app(acme.member)
        sign_in_with_code(client, acme.member)
        weak = Client()
        weak.force_login(acme.member, backend="django.contrib.auth.backends.ModelBackend")
        visitors = [
            identify(session_key=browser.session.session_key, tenant_slug="acme-bank")
            for browser in (client, weak)
        ]
        assert gone(*visitors) == {}
        require_second_factor(acme)
        assert gone(*visitors) == {visitors[1]: NotVisible}
        Authenticator.objects.all().delete()
        assert gone(*visitors) == dict.fromkeys(visitors, NotVisible)
