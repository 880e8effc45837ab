"""The access pages: who was granted what, and why; and what the command palette finds."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import translation

from console.chat.models import Conversation
from inference.registry.models import Route, RouteUserGrant
from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants import keys
from tenants.models import Group, Membership, User
from tenants.scope import tenant_scope
from tests.conftest import Company, make_user
from tests.isolation.test_every_address import _conversation

pytestmark = pytest.mark.django_db(transaction=True)

ACCESS = "/t/acme-bank/administration/access/"


@pytest.fixture
def browser(acme: Company, client_of: Callable[[User], Client]) -> Client:
    return client_of(acme.administrator)


@pytest.fixture
def route(acme: Company) -> Route:
    """A model that everybody may use."""
    ensure_default_registry()
    with tenant_scope(acme.tenant.pk):
        ensure_default_route()
        return Route.objects.filter(is_default=True).first()


@pytest.fixture
def conversation(acme: Company) -> Conversation:
    """The member's own."""
    key = _conversation(acme, acme.member)
    with tenant_scope(acme.tenant.pk):
        return Conversation.objects.get(pk=key)


def path(obj: Any, rest: str = "") -> str:
    return f"{ACCESS}{obj._meta.model_name}/{obj.pk}/{rest}"


def everyone(company: Company) -> Group:
    with tenant_scope(company.tenant.pk):
        return Group.objects.get(is_everyone=True)


def steps(page: Any) -> list[tuple[str, str]]:
    """(yes, no or note; the words) of an explanation."""
    listed = page.text.partition('<ol class="path">')[2].partition("</ol>")[0]
    return re.findall(r'<li class="(\w+)">.*?<br>(.*?)</span></li>', listed, re.DOTALL)


def test_the_matrix_names_objects_holders_and_levels_but_no_content(
    browser: Client, route: Route, conversation: Conversation
) -> None:
    page = browser.get(ACCESS).text
    assert route.name in page and "Everyone" in page and '<span class="level viewer">Viewer</span>' in page
    page = browser.get(ACCESS, {"kind": "conversation"}).text
    assert "member@acme-bank.example" in page and "Quarterly figures" not in page
    assert '<span class="level owner">Owner</span>' in page
    assert "Nothing matches" in browser.get(ACCESS, {"kind": "conversation", "q": "nobody"}).text
    assert browser.get(ACCESS, {"kind": "conversation", "page": "9" * 30}).status_code == 200


def test_granting_changing_and_taking_back(browser: Client, acme: Company, route: Route) -> None:
    page = browser.post(
        path(route), {"principal": "Member@acme-bank.example", "level": "editor"}, follow=True
    )
    assert "Granted. It counts from now on." in page.text
    to = f"person/{acme.member.pk}"
    browser.post(path(route, to), {"level": "owner"})
    with tenant_scope(acme.tenant.pk):
        held = RouteUserGrant.objects.filter(content_object=route, user=acme.member)
        assert held.filter(permission__codename="delete_route").exists()
    question = browser.get(path(route, f"{to}/remove/")).text
    assert f"Take “{route.name}” back from member@acme-bank.example?" in question
    with tenant_scope(acme.tenant.pk):
        assert held.exists()
    browser.post(path(route, f"{to}/remove/"), {"confirmed": "yes"})
    with tenant_scope(acme.tenant.pk):
        assert not held.exists()
    assert browser.get(path(route, f"{to}/remove/")).status_code == 404


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"level": "viewer"}, "one of the two"),
        ({"level": "viewer", "principal": "stranger@elsewhere.example"}, "No member of this workspace"),
        ({"level": "emperor", "principal": "member@acme-bank.example"}, "not one of the available choices"),
    ],
)
def test_a_grant_that_makes_no_sense_is_told_at_its_field(
    browser: Client, stranger: User, route: Route, data: dict[str, str], said: str
) -> None:
    page = browser.post(path(route), data)
    assert page.status_code == 422 and said in page.text


def test_no_administrator_grants_themselves_somebodys_conversation(
    browser: Client, acme: Company, conversation: Conversation
) -> None:
    page = browser.get(path(conversation)).text
    assert "only its owners read it and share it" in page and "Take back…" not in page
    assert (
        browser.post(
            path(conversation), {"principal": acme.administrator.email, "level": "viewer"}
        ).status_code
        == 404
    )
    to = f"person/{acme.member.pk}"
    assert browser.post(path(conversation, to), {"level": "viewer"}).status_code == 404
    assert browser.post(path(conversation, f"{to}/remove/"), {"confirmed": "yes"}).status_code == 404


class TestWhy:
    def test_yes_with_the_path(self, browser: Client, acme: Company, route: Route) -> None:
        page = browser.get(path(route), {"person": acme.member.email, "level": "viewer"})
        assert "Yes, they can." in page.text
        found = steps(page)
        assert ("yes", "member@acme-bank.example is a member of the workspace.") in found
        assert ("yes", "Granted to everyone: Viewer.") in found
        assert "no" not in dict(found)

    def test_no_with_what_is_missing(
        self, browser: Client, acme: Company, conversation: Conversation
    ) -> None:
        page = browser.get(path(conversation), {"person": acme.curator.email, "level": "viewer"})
        assert "No, they cannot." in page.text
        assert [word for mark, word in steps(page) if mark == "no"] == [
            "Nothing is granted to them, to their groups or to everyone."
        ]
        assert "Quarterly figures" not in page.text

    def test_about_a_key(self, browser: Client, acme: Company, route: Route) -> None:
        with tenant_scope(acme.tenant.pk):
            key, _text = keys.create_key(actor=acme.actor(acme.member), name="laptop")
        page = browser.get(path(route), {"key": str(key.pk), "level": "viewer"})
        assert ("yes", "The key “laptop” is valid.") in steps(page)

    def test_about_somebody_who_is_not_here(self, browser: Client, stranger: User, route: Route) -> None:
        page = browser.get(path(route), {"person": stranger.email, "level": "viewer"})
        assert page.status_code == 422 and "No member of this workspace has this address." in page.text


def test_who_finds_which_kinds(
    acme: Company, client_of: Callable[[User], Client], route: Route, conversation: Conversation
) -> None:
    auditor, operator = client_of(acme.auditor), client_of(acme.operator)
    page = auditor.get(path(route))
    assert page.status_code == 200
    assert 'method="post"' not in page.text.partition("<main")[2].partition("</main>")[0]
    assert auditor.post(path(route), {"principal": acme.member.email, "level": "viewer"}).status_code == 404
    assert operator.get(path(route)).status_code == 200, "operators share models"
    assert operator.get(path(conversation)).status_code == 404
    assert client_of(acme.member).get(ACCESS).status_code == 404


def test_another_tenants_objects_are_not_there(
    browser: Client, acme: Company, north: Company, route: Route
) -> None:
    with tenant_scope(north.tenant.pk):
        ensure_default_route()
        foreign = Route.objects.filter(is_default=True).first()
    assert browser.get(path(foreign)).status_code == 404
    assert browser.get(path(route, f"group/{everyone(north).pk}/remove/")).status_code == 404
    assert browser.get(f"{ACCESS}membership/{acme.member.pk}/").status_code == 404


def test_the_palette_finds_people_groups_and_tabs_in_both_languages(
    browser: Client, acme: Company, north: Company, client_of: Callable[[User], Client]
) -> None:
    with tenant_scope(acme.tenant.pk):
        Group.objects.create(name="Review board")
        Membership.objects.create(user=make_user("reviewing@x.example"), role="member")
    found = browser.get("/t/acme-bank/administration/find", {"q": "REVIEW"}).json()
    assert [each["email"] for each in found["people"]] == [
        "reviewer@acme-bank.example",
        "reviewing@x.example",
    ]
    assert [each["label"] for each in found["groups"]] == ["Review board"]
    assert browser.get("/t/acme-bank/administration/find").json() == {"people": [], "groups": []}
    page = browser.get("/t/acme-bank/overview/").text
    assert 'data-found="/t/acme-bank/administration/find"' in page
    with translation.override("zh-hans"):
        chinese = translation.gettext("API keys").encode("ascii", "backslashreplace").decode()
    assert f'"also": "API keys {chinese}"' in page
    member = client_of(acme.member)
    assert member.get("/t/acme-bank/administration/find", {"q": "re"}).status_code == 404
    assert "data-found" not in member.get("/t/acme-bank/chat/").text
