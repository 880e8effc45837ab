"""Signing in and out, and the language."""

from collections.abc import Callable

import pytest
from django.test import Client
from redis.exceptions import ConnectionError as RedisConnectionError

from console import throttle
from tenants.models import User
from tests.conftest import Company
from tests.sign_in.conftest import sign_in

pytestmark = pytest.mark.django_db


def test_the_right_password_opens_the_door(acme: Company, client: Client) -> None:
    answer = sign_in(client, " Member@Acme-Bank.example ")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    assert client.get("/t/acme-bank/chat/").status_code == 200


def test_signing_in_gives_a_new_session(acme: Company, client: Client) -> None:
    client.get("/signin/")
    client.session.save()
    before = client.session.session_key
    sign_in(client, acme.member.email)
    assert client.session.session_key != before


@pytest.mark.parametrize("email", ["member@acme-bank.example", "nobody@acme-bank.example"])
def test_a_wrong_password_and_an_unknown_address_look_the_same(
    email: str, acme: Company, client: Client
) -> None:
    page = sign_in(client, email, "wrong")
    assert page.status_code == 200
    assert "Address and password do not belong together" in page.text
    assert 'value="wrong"' not in page.text
    assert "_auth_user_id" not in client.session


def test_an_inactive_account_cannot_sign_in(acme: Company, client: Client) -> None:
    User.objects.filter(pk=acme.member.pk).update(is_active=False)
    assert "do not belong together" in sign_in(client, acme.member.email).text


def test_what_is_missing_is_said_at_its_field(acme: Company, client: Client) -> None:
    page = sign_in(client, "not an address", "").text
    assert "Enter a whole e-mail address" in page
    assert "Enter your password" in page
    assert page.count('aria-invalid="true"') == 2


def test_guessing_is_stopped_even_when_the_guess_is_right(acme: Company, client: Client) -> None:
    for _ in range(throttle.FAILURES_PER_ACCOUNT):
        throttle.admits(email=acme.member.email, address="192.0.2.1")
    page = sign_in(client, acme.member.email)
    assert page.status_code == 429
    assert "Too many attempts" in page.text
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"]
)
def test_signing_in_leads_nowhere_else(target: str, acme: Company, client: Client) -> None:
    assert sign_in(client, acme.member.email, next=target).headers["Location"] == "/"


def test_signing_in_leads_back_to_the_page_asked_for(acme: Company, client: Client) -> None:
    assert (
        sign_in(client, acme.member.email, next="/t/acme-bank/chat/").headers["Location"]
        == "/t/acme-bank/chat/"
    )


def test_signing_out_ends_the_session_and_says_so(member_browser: Client) -> None:
    assert member_browser.get("/signout/").status_code == 405
    page = member_browser.post("/signout/", follow=True)
    assert "You are signed out" in page.text
    assert member_browser.get("/t/acme-bank/chat/").status_code == 302


def test_a_form_without_its_token_is_refused_with_a_page_that_helps(acme: Company) -> None:
    page = Client(enforce_csrf_checks=True).post("/signin/", {"email": "a@b.example", "password": "x"})
    assert page.status_code == 403
    assert "This form is too old" in page.text


def test_the_language_is_kept_and_leads_back(member_browser: Client) -> None:
    answer = member_browser.post("/language/", {"language": "zh-hans", "next": "/t/acme-bank/chat/"})
    assert answer.headers["Location"] == "/t/acme-bank/chat/"
    assert '<html lang="zh-CN"' in member_browser.get("/t/acme-bank/chat/").text
    member_browser.post("/language/", {"language": "en"})
    assert '<html lang="en"' in member_browser.get("/t/acme-bank/chat/").text


@pytest.mark.parametrize(
    ("cookie", "shown"), [("dark", 'data-theme="dark"'), ("light", 'data-theme="light"')]
)
def test_the_first_frame_has_the_chosen_theme(cookie: str, shown: str, client: Client) -> None:
    client.cookies["custos_theme"] = cookie
    assert shown in client.get("/signin/").text


def test_an_unknown_theme_is_not_repeated(client: Client) -> None:
    client.cookies["custos_theme"] = 'x" onload="alert(1)'
    assert "data-theme=" not in client.get("/signin/").text


@pytest.mark.parametrize("language", ["en", "zh-hans"])
@pytest.mark.parametrize("role", ["administrator", "member", "reviewer"])
def test_start_pages_render_in_both_languages(
    language: str, role: str, acme: Company, client_of: Callable[[User], Client]
) -> None:
    browser = client_of(getattr(acme, role))
    browser.cookies["custos_language"] = language
    page = browser.get("/", follow=True)
    assert page.status_code == 200
    assert page.headers["Content-Language"] == language


def test_without_a_count_of_attempts_nobody_gets_in(
    acme: Company, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise RedisConnectionError("the cache is away")

    monkeypatch.setattr(throttle.cache, "add", gone, raising=False)
    page = sign_in(client, acme.member.email)
    assert page.status_code == 503
    assert "not possible at the moment" in page.text
    assert "_auth_user_id" not in client.session


def test_addresses_of_allauth_that_are_not_used_are_not_there(client: Client) -> None:
    for path in (
        "signup/",
        "account/signup/",
        "accounts/login/",
        "signin/code/",
        "account/login/",
        "account/2fa/",
    ):
        assert client.get(f"/{path}").status_code == 404, path
