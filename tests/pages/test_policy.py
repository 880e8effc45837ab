"""What every page must keep to: the content policy, nothing inline, nothing from elsewhere, designed errors."""

import re
from collections.abc import Callable

import pytest
from django.test import Client, RequestFactory

from console.pages import errors
from tenants.models import User
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pages(
    recorded: str, acme: Company, platform_administrator: User, client_of: Callable[[User], Client]
) -> dict[str, str]:
    reviewer = client_of(acme.reviewer)
    opened = reviewer.post(f"/t/acme-bank/audit/{recorded}/", {"reason": "Routine sample"})
    return {
        "sign-in": Client().get("/signin/").text,
        "chat": client_of(acme.member).get("/t/acme-bank/chat/").text,
        "overview": client_of(acme.administrator).get("/t/acme-bank/overview/").text,
        "audit": reviewer.get("/t/acme-bank/audit/").text,
        "record": opened.text,
        "platform": client_of(platform_administrator).get("/platform/").text,
        "keys": client_of(acme.member).get("/t/acme-bank/administration/keys/new/").text,
        "quotas": client_of(acme.owner).get("/t/acme-bank/administration/quotas/").text,
        "usage": client_of(acme.owner).get("/t/acme-bank/administration/usage/").text,
        "settings": client_of(acme.owner).get("/t/acme-bank/administration/settings/").text,
        "tenants": client_of(platform_administrator).get("/platform/tenants/").text,
        "tenant": client_of(platform_administrator).get("/platform/tenants/acme-bank/").text,
        "missing": Client().get("/nowhere/").text,
    }


def test_no_page_has_anything_inline(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        assert not re.search(r"<[^>]+\s(style|on\w+)\s*=", page), name
        assert "<style" not in page, name
        for script in re.findall(r"<script[^>]*>", page):
            assert "application/json" in script or ("nonce=" in script and "src=" in script), (name, script)


def test_no_page_loads_anything_from_elsewhere(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        for address in re.findall(r'\s(?:src|href|action)="([^"]*)"', page):
            assert re.match(r"(/(?!/)|\?|#)", address), (name, address)


def test_every_page_says_its_language_title_and_heading(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        assert re.search(r'<html lang="[\w-]+"', page), name
        assert len(re.findall(r"<h1[ >]", page)) == 1, name
        assert re.search(r"<title>[^<]*\S[^<]*</title>", page), name


@pytest.mark.parametrize(
    ("view", "status", "words"),
    [
        (errors.bad_request, 400, "makes no sense"),
        (errors.forbidden, 403, "not allowed"),
        (errors.not_found, 404, "not here"),
    ],
)
def test_errors_say_what_to_do(view: Callable, status: int, words: str) -> None:  # type: ignore[type-arg]
    page = view(RequestFactory().get("/nowhere/"), Exception("secret detail"))
    assert page.status_code == status
    assert words in page.text
    assert "secret detail" not in page.text


def test_the_page_for_our_own_errors_needs_no_database(django_assert_num_queries: Callable) -> None:  # type: ignore[type-arg]
    with django_assert_num_queries(0):
        page = errors.server_error(RequestFactory().get("/"))
    assert page.status_code == 500
    assert "went wrong on our side" in page.text
