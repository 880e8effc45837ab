"""Each page for each role: the right people see it, for everybody else it is not there."""

from collections.abc import Callable

import pytest
from django.test import Client

from tenants.models import User
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

# Page → the roles that may open it. Everything else is 404 for them.
PAGES = {
    "/t/acme-bank/overview/": {"administrator"},
    "/t/acme-bank/overview/data": {"administrator"},
    "/t/acme-bank/audit/": {"reviewer"},
    "/t/acme-bank/chat/": {"administrator", "member"},
    "/t/acme-bank/palette": {"administrator", "member"},
    "/platform/": {"platform"},
    "/platform/data": {"platform"},
}


@pytest.fixture
def people(acme: Company, north: Company, platform_administrator: User, stranger: User) -> dict[str, User]:
    return {
        "administrator": acme.administrator,
        "member": acme.member,
        "reviewer": acme.reviewer,
        "platform": platform_administrator,
        "neighbour": north.administrator,
        "stranger": stranger,
    }


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_for_its_roles_and_is_missing_for_others(
    page: str, people: dict[str, User], client_of: Callable[[User], Client]
) -> None:
    statuses = {name: client_of(person).get(page).status_code for name, person in people.items()}
    assert statuses == {name: 200 if name in PAGES[page] else 404 for name in people}


@pytest.mark.parametrize("page", [*PAGES, "/", "/t/acme-bank/"])
def test_a_visitor_is_asked_to_sign_in_and_comes_back(page: str, acme: Company, client: Client) -> None:
    answer = client.get(page)
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/signin/?next={page}"


@pytest.mark.parametrize(
    ("role", "start"),
    [
        ("administrator", "/t/acme-bank/overview/"),
        ("member", "/t/acme-bank/chat/"),
        ("reviewer", "/t/acme-bank/audit/"),
        ("platform", "/platform/"),
    ],
)
def test_everybody_lands_where_their_work_is(
    role: str, start: str, people: dict[str, User], client_of: Callable[[User], Client]
) -> None:
    assert client_of(people[role]).get("/", follow=True).redirect_chain[-1][0] == start


def test_somebody_without_a_workspace_is_told_whom_to_ask(
    stranger: User, client_of: Callable[[User], Client]
) -> None:
    page = client_of(stranger).get("/")
    assert page.status_code == 200
    assert "stranger@elsewhere.example" in page.text


@pytest.mark.parametrize("role", ["administrator", "member", "reviewer", "platform"])
def test_the_sidebar_offers_exactly_what_opens(
    role: str, people: dict[str, User], client_of: Callable[[User], Client]
) -> None:
    browser = client_of(people[role])
    page = browser.get("/", follow=True).text
    for area in ("/t/acme-bank/overview/", "/t/acme-bank/audit/", "/platform/"):
        assert (f'href="{area}"' in page) == (role in PAGES[area])


def test_the_switcher_lists_only_ones_own_workspaces(
    acme: Company, north: Company, client_of: Callable[[User], Client]
) -> None:
    from tenants.models import Membership
    from tenants.scope import tenant_scope

    assert "north-fund" not in client_of(acme.member).get("/t/acme-bank/chat/").text
    with tenant_scope(north.tenant.pk):
        Membership.objects.create(user=acme.member, role="reviewer")
    page = client_of(acme.member).get("/t/acme-bank/chat/").text
    assert 'href="/t/north-fund/"' in page
