"""Groups and roles as administrators see and change them."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tenants import groups as services
from tenants.models import CustomRole, Group, GroupMember, Membership, User
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

GROUPS = "/t/acme-bank/administration/groups/"
ROLES = "/t/acme-bank/administration/roles/"


@pytest.fixture
def browser(acme: Company, client_of: Callable[[User], Client]) -> Client:
    return client_of(acme.administrator)


@pytest.fixture
def owner_browser(acme: Company, client_of: Callable[[User], Client]) -> Client:
    return client_of(acme.owner)


@pytest.fixture
def tree(acme: Company) -> dict[str, Group]:
    """Markets, with Treasury below it, with Dealing below that; and the member in Dealing."""
    actor = acme.actor(acme.administrator)
    made: dict[str, Group] = {}
    with tenant_scope(acme.tenant.pk):
        for name, above in (("Markets", ""), ("Treasury", "Markets"), ("Dealing", "Treasury")):
            parent = made[above].pk if above else None
            made[name] = services.create_group(actor=actor, name=name, parent_id=parent)
        member = Membership.objects.get(user=acme.member)
        services.add_members(actor=actor, group_id=made["Dealing"].pk, membership_ids=[member.pk])
    return made


def path(group: Group, rest: str = "") -> str:
    return f"{GROUPS}{group.pk}/{rest}"


class TestGroups:
    def test_the_tree_stands_in_order_and_is_searched(self, browser: Client, tree: dict[str, Group]) -> None:
        page = browser.get(GROUPS).text
        rows = re.findall(r'class="indent d(\d)"><a class="cover"[^>]*>([^<]+)', page)
        assert rows == [("0", "Everyone"), ("0", "Markets"), ("1", "Treasury"), ("2", "Dealing")]
        found = browser.get(GROUPS, {"q": "deal"}).text
        assert "below Markets / Treasury" in found and ">Markets<" not in found
        assert "No group matches" in browser.get(GROUPS, {"q": "zzz"}).text
        assert "Dealing,,Markets / Treasury,1," in browser.get(GROUPS, {"format": "csv"}).text

    def test_made_changed_and_deleted(self, browser: Client, acme: Company, tree: dict[str, Group]) -> None:
        page = browser.post(
            f"{GROUPS}new/", {"name": "Legal", "parent_id": str(tree["Markets"].pk)}, follow=True
        )
        assert "The group “Legal” was made." in page.text and "Below Markets" in page.text
        with tenant_scope(acme.tenant.pk):
            legal = Group.objects.get(name="Legal")
        browser.post(path(legal), {"name": "Law", "description": "Counsel", "parent_id": ""})
        with tenant_scope(acme.tenant.pk):
            legal.refresh_from_db()
        assert (legal.name, legal.description, legal.parent_id) == ("Law", "Counsel", None)
        assert "Delete the group “Law”?" in browser.get(path(legal, "delete/")).text
        page = browser.post(path(legal, "delete/"), {"confirmed": "yes"}, follow=True)
        assert "The group “Law” was deleted." in page.text

    def test_what_is_refused_stands_at_its_field_and_nothing_typed_is_lost(
        self, browser: Client, tree: dict[str, Group]
    ) -> None:
        data = {"name": "Markets", "description": "typed", "parent_id": str(tree["Dealing"].pk)}
        page = browser.post(path(tree["Markets"]), data)
        assert page.status_code == 422 and "typed" in page.text
        error = re.search(r'id="id_parent_id_error">.*?</svg>([^<]+)', page.text)
        assert error is not None and "in a circle" in error[1]
        page = browser.post(f"{GROUPS}new/", {"name": "markets", "parent_id": ""})
        assert page.status_code == 422 and "There is a group “markets” already." in page.text
        page = browser.post(path(tree["Markets"], "delete/"), {"confirmed": "yes"}, follow=True)
        assert "Other groups stand below this one." in page.text

    def test_people_are_found_added_and_taken_out(
        self, browser: Client, acme: Company, tree: dict[str, Group]
    ) -> None:
        treasury = tree["Treasury"]
        page = browser.get(path(treasury)).text
        assert "through Dealing" in page, "members of groups below are in it"
        with tenant_scope(acme.tenant.pk):
            curator = Membership.objects.get(user=acme.curator)
        assert str(curator.pk) in browser.get(path(treasury), {"find": "CURATOR@"}).text
        selected = {"selected": str(curator.pk)}
        page = browser.post(path(treasury, "members"), {"action": "add", **selected}, follow=True)
        assert "1 person was added." in page.text
        assert "Nobody of this name" in browser.get(path(treasury), {"find": "curator"}).text
        question = browser.post(path(treasury, "members"), {"action": "remove", **selected})
        assert "Take 1 person out of “Treasury”?" in question.text
        browser.post(path(treasury, "members"), {"action": "remove", "confirmed": "yes", **selected})
        with tenant_scope(acme.tenant.pk):
            assert not GroupMember.objects.filter(group=treasury).exists()

    def test_nobody_edits_the_group_of_everyone(self, browser: Client, acme: Company) -> None:
        with tenant_scope(acme.tenant.pk):
            everyone = Group.objects.get(is_everyone=True)
        for rest in ("", "delete/"):
            assert browser.get(path(everyone, rest)).status_code == 404
        assert browser.post(path(everyone), {"name": "x"}).status_code == 404

    def test_another_tenants_group_and_people_are_not_there(
        self, browser: Client, north: Company, tree: dict[str, Group]
    ) -> None:
        with tenant_scope(north.tenant.pk):
            foreign = Group.objects.create(name="Foreign")
            stranger = Membership.objects.get(user=north.member)
        assert browser.get(path(foreign)).status_code == 404
        assert browser.get(path(foreign, "delete/")).status_code == 404
        page = browser.post(
            path(tree["Markets"], "members"), {"action": "add", "selected": str(stranger.pk)}, follow=True
        )
        assert "Select at least one person first." in page.text
        page = browser.post(f"{GROUPS}new/", {"name": "Below", "parent_id": str(foreign.pk)})
        assert page.status_code == 422 and "This group is gone." in page.text

    def test_auditors_read(
        self, acme: Company, client_of: Callable[[User], Client], tree: dict[str, Group]
    ) -> None:
        auditor = client_of(acme.auditor)
        for address in (GROUPS, path(tree["Dealing"]), ROLES):
            page = auditor.get(address)
            assert page.status_code == 200
            assert 'method="post"' not in page.text.partition("<main")[2].partition("</main>")[0], address
        assert auditor.post(path(tree["Dealing"]), {"name": "x"}).status_code == 404


def role_data(**changes: Any) -> dict[str, Any]:
    return {"name": "Analyst", "slug": "analyst", "permissions": ["chat.use", "usage.view"], **changes}


class TestRoles:
    def test_every_role_against_every_permission(self, browser: Client, acme: Company) -> None:
        with tenant_scope(acme.tenant.pk):
            CustomRole.objects.create(slug="analyst", name="Analyst", permissions=["audit.read"])
        page = browser.get(ROLES).text
        row = re.search(
            r"<tr><th[^>]*>Search and open audit records with their content.*?</tr>", page, re.DOTALL
        )
        assert row is not None
        marks = re.findall(r"visually-hidden\">(yes|no)<", row[0])
        assert marks == ["no", "no", "no", "no", "no", "yes", "yes", "no", "yes"]

    def test_made_changed_and_deleted(self, owner_browser: Client, acme: Company) -> None:
        page = owner_browser.post(f"{ROLES}new/", role_data(), follow=True)
        assert "The role “Analyst” can be given now." in page.text
        with tenant_scope(acme.tenant.pk):
            role = CustomRole.objects.get()
        assert role.permissions == ["chat.use", "usage.view"]
        owner_browser.post(f"{ROLES}{role.pk}/", role_data(name="Desk", permissions=["chat.use"]))
        with tenant_scope(acme.tenant.pk):
            role.refresh_from_db()
            Membership.objects.filter(user=acme.member).update(role="analyst")
        assert (role.name, role.slug, role.permissions) == ("Desk", "analyst", ["chat.use"])
        delete = f"{ROLES}{role.pk}/delete/"
        assert "Delete the role “Desk”?" in owner_browser.get(delete).text
        assert (
            "Give them another first." in owner_browser.post(delete, {"confirmed": "yes"}, follow=True).text
        )
        with tenant_scope(acme.tenant.pk):
            Membership.objects.filter(user=acme.member).update(role="member")
        page = owner_browser.post(delete, {"confirmed": "yes"}, follow=True)
        assert "The role “Desk” was deleted." in page.text

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"permissions": ["people.manage", "audit.read"]}, "duties that no role may join"),
            ({"permissions": []}, "Choose at least one permission."),
            ({"slug": "owner"}, "a role that every workspace has"),
            ({"slug": "аnalyst"}, "some of these look like them and are others"),
            ({"name": ""}, "Enter a name."),
        ],
    )
    def test_what_is_refused_keeps_what_was_ticked(
        self, owner_browser: Client, changes: dict[str, Any], said: str
    ) -> None:
        page = owner_browser.post(f"{ROLES}new/", role_data(**changes))
        assert page.status_code == 422 and said in page.text
        ticked = re.findall(r'value="([a-z._]+)" checked', page.text)
        assert set(ticked) == set(role_data(**changes)["permissions"])

    def test_only_owners_change_roles(self, browser: Client) -> None:
        assert browser.get(ROLES).status_code == 200
        assert "New role" not in browser.get(ROLES).text
        assert browser.post(f"{ROLES}new/", role_data()).status_code == 404
