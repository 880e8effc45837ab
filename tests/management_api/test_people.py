"""Members, invitations, groups, roles and keys through the management API."""

import pytest

from audit.models import AuditRecord
from tenants.access import actor_for_key
from tenants.models import Membership
from tenants.roles import CATALOGUE, Role
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.support.keys import WRITE, Caller, make_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(acme: Company) -> Caller:
    """The owner's program in Acme Bank."""
    return Caller(make_key(acme, WRITE))


def _membership(company: Company, role: str) -> str:
    with tenant_scope(company.tenant.pk):
        return str(Membership.objects.get(user=getattr(company, role)).pk)


def _kinds(company: Company) -> list[str]:
    with tenant_scope(company.tenant.pk):
        return list(AuditRecord.objects.order_by("pk").values_list("kind", flat=True))


class TestMembers:
    def test_lists_pages_of_them_with_the_total(self, api: Caller) -> None:
        whole = api.get("/members").json()
        first = api.get("/members", size=3).json()
        third = api.get("/members", size=3, page=3).json()
        assert whole["total"] == first["total"] == len(Role)
        assert first["items"] == whole["items"][:3]
        assert third["items"] == whole["items"][6:]

    def test_searches_by_words_and_role(self, api: Caller) -> None:
        assert [each["role"] for each in api.get("/members", search="audit acme").json()["items"]] == [
            "auditor"
        ]
        assert api.get("/members", role="reviewer").json()["total"] == 1

    def test_changes_a_role_and_records_it(self, api: Caller, acme: Company) -> None:
        member = _membership(acme, "member")
        assert api.patch(f"/members/{member}", role="curator").json()["role"] == "curator"
        assert api.get(f"/members/{member}").json()["role"] == "curator"
        assert _kinds(acme) == ["member.role_changed"]

    def test_disables_enables_and_removes(self, api: Caller, acme: Company) -> None:
        member = _membership(acme, "member")
        assert api.post(f"/members/{member}/disable").json()["active"] is False
        assert api.post(f"/members/{member}/enable").json()["active"] is True
        assert api.delete(f"/members/{member}").status_code == 204
        assert api.get(f"/members/{member}").status_code == 404

    def test_a_broken_rule_is_a_conflict(self, api: Caller, acme: Company) -> None:
        answer = api.delete(f"/members/{_membership(acme, 'owner')}")
        assert answer.status_code == 409
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "last_owner"

    def test_imports_all_or_nobody(self, api: Caller) -> None:
        good = {"email": "a@acme-bank.example"}
        bad = {"email": "b@acme-bank.example", "role": "king"}
        refused = api.post("/members/import", rows=[good, bad]).json()
        assert [(each["row"], each["field"]) for each in refused["errors"]] == [(2, "role")]
        assert api.get("/invitations").json()["total"] == 0
        assert len(api.post("/members/import", rows=[good]).json()["invited"]) == 1


class TestInvitations:
    def test_gives_the_link_once_renews_and_revokes(self, api: Caller) -> None:
        made = api.post("/invitations", email="New@acme-bank.example")
        assert made.status_code == 201
        invitation = made.json()
        assert invitation["link"].startswith("http://testserver/invitation/acme-bank/")
        listed = api.get("/invitations").json()["items"]
        assert [each["email"] for each in listed] == ["new@acme-bank.example"]
        assert "link" not in listed[0]
        renewed = api.post(f"/invitations/{invitation['id']}/renew").json()
        assert renewed["link"] != invitation["link"]
        assert api.delete(f"/invitations/{invitation['id']}").status_code == 204
        assert api.get("/invitations").json()["total"] == 0

    def test_a_second_one_for_an_address_is_a_conflict(self, api: Caller) -> None:
        answers = [api.post("/invitations", email="new@acme-bank.example") for _ in range(2)]
        assert [each.status_code for each in answers] == [201, 409]


class TestGroups:
    def test_makes_nests_and_fills_them(self, api: Caller, acme: Company) -> None:
        member = _membership(acme, "member")
        above = api.post("/groups", name="Trading").json()["id"]
        below = api.post("/groups", name="Desk", parent_id=above, member_ids=[member]).json()["id"]
        inside = api.get(f"/groups/{above}/members").json()["items"]
        assert [each["id"] for each in inside] == [member]
        assert api.patch(f"/groups/{above}", parent_id=below).json()["code"] == "group_cycle"
        assert api.patch(f"/groups/{below}", description="Bonds", parent_id=None).json()["parent_id"] is None
        assert api.delete(f"/groups/{below}/members/{member}").status_code == 204
        assert api.post(f"/groups/{above}/members", member_ids=[member]).json() == {"count": 1}
        assert api.delete(f"/groups/{above}").status_code == 204
        assert [each["name"] for each in api.get("/groups").json()["items"]] == ["Everyone", "Desk"]

    def test_the_group_of_everyone_is_nobodys_to_change(self, api: Caller) -> None:
        everyone = api.get("/groups").json()["items"][0]
        assert everyone["is_everyone"]
        assert api.delete(f"/groups/{everyone['id']}").status_code == 404


class TestRoles:
    def test_makes_changes_and_deletes_one(self, api: Caller) -> None:
        made = api.post("/roles", slug="trader", name="Trader", permissions=["chat.use"]).json()
        changed = api.patch(f"/roles/{made['id']}", permissions=["chat.use", "api.use"]).json()
        assert changed["permissions"] == ["api.use", "chat.use"]
        assert [each["slug"] for each in api.get("/roles").json()] == [*Role.values, "trader"]
        assert api.delete(f"/roles/{made['id']}").status_code == 204

    def test_joined_duties_are_named_at_their_field(self, api: Caller) -> None:
        wanted = ["people.manage", "audit.read"]
        answer = api.post("/roles", slug="both", name="Both", permissions=wanted)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "permissions")

    def test_the_catalogue_is_there(self, api: Caller) -> None:
        assert [each["code"] for each in api.get("/permissions").json()] == [each.code for each in CATALOGUE]


class TestKeys:
    def test_a_key_is_made_used_rotated_and_revoked(self, api: Caller) -> None:
        account = api.post("/service-accounts", name="Reports", role="member").json()
        made = api.post("/keys", name="reports", service_account_id=account["id"], networks=["10.0.0.0/8"])
        assert made.status_code == 201
        key = made.json()
        assert actor_for_key(key["key"], "10.1.2.3") is not None
        fresh = api.post(f"/keys/{key['id']}/rotate", overlap_hours=0).json()
        assert actor_for_key(key["key"], "10.1.2.3") is None
        assert (fresh["rotates"], fresh["networks"]) == (key["id"], ["10.0.0.0/8"])
        assert api.delete(f"/keys/{fresh['id']}").status_code == 204
        assert actor_for_key(fresh["key"], "10.1.2.3") is None
        listed = api.get("/keys", service_account_id=account["id"]).json()["items"]
        assert [each["id"] for each in listed] == [fresh["id"], key["id"]]
        assert all("key" not in each for each in listed)

    def test_a_disabled_program_stops(self, api: Caller) -> None:
        account = api.post("/service-accounts", name="Reports").json()["id"]
        key = api.post("/keys", name="reports", service_account_id=account).json()["key"]
        assert api.post(f"/service-accounts/{account}/disable").json()["active"] is False
        assert actor_for_key(key) is None
        assert api.post(f"/service-accounts/{account}/enable").json()["active"] is True
        assert actor_for_key(key) is not None
        assert (
            api.patch(f"/service-accounts/{account}", description="Nightly").json()["description"]
            == "Nightly"
        )

    def test_nobody_makes_a_program_that_may_do_more(self, acme: Company) -> None:
        api = Caller(make_key(acme, WRITE, role="administrator"))
        answer = api.post("/service-accounts", name="Mighty", role="owner")
        assert (answer.status_code, answer.json()["code"]) == (422, "role_not_yours")


class TestTenant:
    def test_settings_are_read_and_changed(self, api: Caller, acme: Company) -> None:
        changed = api.patch("/tenant", accent="rose", retention_days=7).json()
        assert (changed["accent"], changed["retention_days"], changed["name"]) == ("rose", 7, "Acme Bank")
        assert api.get("/tenant").json() == changed
        assert _kinds(acme) == ["tenant.settings_changed"]

    def test_how_long_the_audit_is_kept_is_shown_and_decided_elsewhere(self, api: Caller) -> None:
        answer = api.patch("/tenant", accent="rose", retention_days=30)
        assert (answer.status_code, answer.json()["code"]) == (422, "retention_elsewhere")
        assert (api.get("/tenant").json()["accent"], api.get("/tenant").json()["retention_days"]) == (
            "blue",
            7,
        )

    def test_a_network_that_leaves_the_program_out_is_refused(self, api: Caller) -> None:
        assert api.patch("/tenant", networks=["10.0.0.0/8"]).json()["code"] == "locks_out"

    def test_it_can_be_archived_and_then_no_key_works(self, api: Caller) -> None:
        assert api.post("/tenant/archive").json()["status"] == "archived"
        assert api.get("/tenant").status_code == 401

    def test_deletion_asks_for_the_name(self, api: Caller) -> None:
        assert api.post("/tenant/deletion", confirm_slug="acme").json()["code"] == "not_confirmed"
        assert api.post("/tenant/deletion", confirm_slug="acme-bank").json()["status"] == "deleting"
