"""Users as RFC 7643 and RFC 7644 have them: their examples, and where Custos keeps tenants apart."""

from typing import Any

import pytest

from audit.models import AuditRecord
from tenants.access import actor_for_user
from tenants.actors import NotVisible
from tenants.models import Membership, User
from tenants.scope import tenant_scope
from tests.conftest import Company, make_user
from tests.scim.conftest import BARBARA, USER, operations, scim_of
from tests.support.keys import Caller

pytestmark = pytest.mark.django_db


def _kinds(company: Company) -> list[str]:
    with tenant_scope(company.tenant.pk):
        return list(AuditRecord.objects.order_by("pk").values_list("kind", flat=True))


def _created(scim: Caller, **more: Any) -> dict[str, Any]:
    answer = scim("post", "/Users", BARBARA | more)
    assert answer.status_code == 201, answer.content
    return answer.json()


def _patched(scim: Caller, user: dict[str, Any], *each: dict[str, Any]) -> Any:
    return scim("patch", f"/Users/{user['id']}", operations(*each))


class TestCreation:
    """RFC 7644, section 3.3."""

    def test_answers_with_the_whole_user_and_its_address(self, scim: Caller, acme: Company) -> None:
        answer = scim("post", "/Users", BARBARA)
        user = answer.json()
        assert (answer.status_code, answer.headers["Content-Type"]) == (201, "application/scim+json")
        assert answer.headers["Location"] == user["meta"]["location"]
        assert user["meta"]["location"] == f"http://testserver/scim/v2/Users/{user['id']}"
        assert user["meta"]["resourceType"] == "User"
        assert user["meta"]["created"] and user["meta"]["lastModified"]
        assert {name: user[name] for name in BARBARA} == BARBARA
        assert user["active"] is True
        assert _kinds(acme) == ["member.added"]

    def test_makes_an_account_that_no_password_opens(self, scim: Caller, acme: Company) -> None:
        _created(scim)
        account = User.objects.get(email="bjensen@example.com")
        assert not account.has_usable_password()
        actor = actor_for_user(user=account, tenant_slug="acme-bank")
        assert actor.role == "member"

    def test_the_full_user_of_rfc_7643_is_understood_and_what_is_not_kept_left_out(
        self, scim: Caller
    ) -> None:
        user = _created(
            scim,
            schemas=[USER, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
            displayName="Babs Jensen",
            nickName="Babs",
            title="Tour Guide",
            userType="Employee",
            emails=[
                {"value": "bjensen@example.com", "type": "work", "primary": True},
                {"value": "babs@jensen.org", "type": "home"},
            ],
            phoneNumbers=[{"value": "555-555-5555", "type": "work"}],
            password="t1meMa$heen",
            groups=[{"value": "e9e30dba-f08f-4109-8486-d5c6a331660a", "display": "Tour Guides"}],
            **{
                "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {
                    "employeeNumber": "701984",
                    "manager": {"value": "26118915-6090-4610-87e4-49d8ca9f808d"},
                }
            },
        )
        assert (user["displayName"], user["title"], user["nickName"]) == ("Babs Jensen", "Tour Guide", "Babs")
        assert user["emails"] == [{"value": "bjensen@example.com", "type": "work", "primary": True}]
        assert {"password", "phoneNumbers", "groups"}.isdisjoint(user)

    def test_a_second_one_of_the_same_name_is_a_conflict(self, scim: Caller) -> None:
        _created(scim)
        answer = scim("post", "/Users", BARBARA | {"userName": "BJensen@example.com"})
        assert (answer.status_code, answer.json()["scimType"]) == (409, "uniqueness")
        assert answer.json()["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
        assert answer.json()["status"] == "409"

    @pytest.mark.parametrize(
        ("body", "scim_type"),
        [
            ("{", "invalidSyntax"),
            ([], "invalidSyntax"),
            ({"schemas": [USER]}, "invalidValue"),
            ({"schemas": [USER], "userName": "bjensen"}, "invalidValue"),
            ({"schemas": [USER], "userName": "bj\u0435nsen@example.com"}, "invalidValue"),
            ({"schemas": [USER], "userName": "b@example.com", "title": "x" * 121}, "invalidValue"),
            ({"schemas": [USER], "userName": "b@example.com", "title": "a\x00b"}, "invalidValue"),
            ({"schemas": [USER], "userName": "b@example.com", "active": "perhaps"}, "invalidValue"),
        ],
    )
    def test_a_bad_body_says_what_is_bad(self, scim: Caller, body: Any, scim_type: str) -> None:
        answer = scim("post", "/Users", body)
        assert (answer.status_code, answer.json().get("scimType")) == (400, scim_type)


class TestReplacement:
    """RFC 7644, section 3.5.1."""

    def test_what_is_not_sent_is_gone(self, scim: Caller, acme: Company) -> None:
        user = _created(scim, title="Tour Guide")
        wanted = {
            "schemas": [USER],
            "id": user["id"],
            "userName": "bjensen@example.com",
            "externalId": "bjensen",
            "name": {
                "formatted": "Ms. Barbara J Jensen III",
                "familyName": "Jensen",
                "givenName": "Barbara",
                "middleName": "Jane",
            },
            "roles": [],
            "emails": [{"value": "bjensen@example.com"}, {"value": "babs@jensen.org"}],
        }
        answer = scim("put", f"/Users/{user['id']}", wanted)
        assert answer.status_code == 200
        assert "title" not in answer.json()
        assert answer.json()["name"] == BARBARA["name"]
        assert answer.json()["meta"]["created"] == user["meta"]["created"]
        assert _kinds(acme) == ["member.added", "member.directory_changed"]

    def test_the_user_name_stays(self, scim: Caller) -> None:
        user = _created(scim)
        answer = scim("put", f"/Users/{user['id']}", BARBARA | {"userName": "other@example.com"})
        assert (answer.status_code, answer.json()["scimType"]) == (400, "mutability")

    def test_without_a_change_nothing_is_recorded(self, scim: Caller, acme: Company) -> None:
        user = _created(scim)
        assert scim("put", f"/Users/{user['id']}", BARBARA).status_code == 200
        assert _kinds(acme) == ["member.added"]


class TestPatch:
    """RFC 7644, section 3.5.2."""

    def test_adds_what_the_value_holds(self, scim: Caller) -> None:
        value = {"emails": [{"value": "babs@jensen.org", "type": "home"}], "nickname": "Babs"}
        answer = _patched(scim, _created(scim), {"op": "add", "value": value})
        assert (answer.status_code, answer.json()["nickName"]) == (200, "Babs")

    def test_replaces_at_a_path_and_removes(self, scim: Caller) -> None:
        user = _created(scim, title="Tour Guide")
        answer = _patched(
            scim,
            user,
            {"op": "replace", "path": "name.familyName", "value": "Miller"},
            {"op": "remove", "path": "title"},
            {"op": "Add", "path": "displayName", "value": "Barbara Miller"},
        ).json()
        assert answer["name"]["familyName"] == "Miller"
        assert answer["displayName"] == "Barbara Miller"
        assert "title" not in answer
        assert scim.get(f"/Users/{user['id']}").json() == answer

    def test_inactive_keeps_the_person_out_and_active_lets_them_in(self, scim: Caller, acme: Company) -> None:
        user = _created(scim)
        account = User.objects.get(email="bjensen@example.com")
        # As Microsoft Entra writes it.
        assert (
            _patched(scim, user, {"op": "Replace", "path": "active", "value": "False"}).json()["active"]
            is False
        )
        with pytest.raises(NotVisible):
            actor_for_user(user=account, tenant_slug="acme-bank")
        assert _patched(scim, user, {"op": "replace", "value": {"active": True}}).json()["active"] is True
        assert actor_for_user(user=account, tenant_slug="acme-bank")
        assert _kinds(acme) == ["member.added", "member.disabled", "member.enabled"]

    @pytest.mark.parametrize(
        ("operation", "scim_type"),
        [
            ({"op": "replace", "path": "userName", "value": "x@example.com"}, "mutability"),
            ({"op": "remove", "path": "userName"}, "mutability"),
            ({"op": "replace", "path": "id", "value": "x"}, "mutability"),
            ({"op": "remove"}, "noTarget"),
            ({"op": "replace", "path": "name[", "value": "x"}, "invalidPath"),
            ({"op": "merge", "path": "title", "value": "x"}, "invalidValue"),
            ({"op": "replace", "path": "active", "value": "perhaps"}, "invalidValue"),
            ({"op": "replace", "path": "title", "value": {"a": "b"}}, "invalidValue"),
        ],
    )
    def test_a_bad_operation_says_what_is_bad_and_none_is_carried_out(
        self, scim: Caller, operation: dict[str, Any], scim_type: str
    ) -> None:
        user = _created(scim)
        answer = _patched(scim, user, {"op": "add", "path": "title", "value": "Guide"}, operation)
        assert (answer.status_code, answer.json()["scimType"]) == (400, scim_type)
        assert scim.get(f"/Users/{user['id']}").json() == user

    def test_what_entra_sends_of_things_that_are_not_kept_changes_nothing(self, scim: Caller) -> None:
        user = _created(scim)
        enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
        answer = _patched(
            scim,
            user,
            {"op": "Add", "path": 'emails[type eq "work"].value', "value": "other@example.com"},
            {"op": "Add", "path": 'phoneNumbers[type eq "work"].value', "value": "555"},
            {"op": "Add", "path": f"{enterprise}:department", "value": "Sales"},
        )
        assert (answer.status_code, answer.json()) == (200, user)

    def test_too_many_operations_are_refused(self, scim: Caller) -> None:
        each = {"op": "add", "path": "title", "value": "Guide"}
        assert _patched(scim, _created(scim), *[each] * 1001).status_code == 400


class TestDeletion:
    """RFC 7644, section 3.6."""

    def test_ends_the_membership_and_keeps_the_account(self, scim: Caller, acme: Company) -> None:
        user = _created(scim)
        assert scim.delete(f"/Users/{user['id']}").status_code == 204
        assert scim.get(f"/Users/{user['id']}").status_code == 404
        assert scim.delete(f"/Users/{user['id']}").status_code == 404
        assert User.objects.filter(email="bjensen@example.com").exists()
        assert _kinds(acme) == ["member.added", "member.removed"]
        assert _created(scim)["id"] != user["id"]

    def test_the_last_owner_stays(self, scim: Caller, acme: Company) -> None:
        with tenant_scope(acme.tenant.pk):
            owner = Membership.objects.get(role="owner").pk
        for answer in (
            scim.delete(f"/Users/{owner}"),
            scim("patch", f"/Users/{owner}", operations({"op": "replace", "path": "active", "value": False})),
        ):
            assert answer.status_code == 409
        with tenant_scope(acme.tenant.pk):
            assert Membership.objects.get(pk=owner).disabled is None


class TestOtherTenants:
    """An account may be known to several tenants, and none of their directories speaks for the others."""

    def test_an_account_that_anybody_may_hold_is_not_linked(self, scim: Caller, acme: Company) -> None:
        """Pre-hijacking: somebody else's tenant got to the address first and chose the password."""
        held = make_user("bjensen@example.com", email_verified=None)
        answer = scim("post", "/Users", BARBARA)
        assert answer.status_code == 409 and "has not confirmed its address" in answer.json()["detail"]
        with tenant_scope(acme.tenant.pk):
            assert not Membership.objects.filter(user=held).exists()
        assert _kinds(acme) == []
        User.objects.filter(pk=held.pk).update(email_verified=held.created)
        _created(scim)

    def test_an_account_that_is_there_is_linked_and_neither_shown_nor_changed(
        self, scim: Caller, acme: Company, north: Company
    ) -> None:
        User.objects.filter(pk=north.member.pk).update(name="Robin North", language="zh-hans")
        before = User.objects.filter(pk=north.member.pk).values().get()
        answer = scim("post", "/Users", {"schemas": [USER], "userName": north.member.email})
        assert answer.status_code == 201
        assert "Robin" not in answer.content.decode()
        user = answer.json()
        renamed = [{"op": "replace", "path": "displayName", "value": "Acme's Robin"}]
        assert _patched(scim, user, *renamed).json()["displayName"] == "Acme's Robin"
        assert (
            scim("put", f"/Users/{user['id']}", BARBARA | {"userName": north.member.email}).status_code == 200
        )
        assert User.objects.filter(pk=north.member.pk).values().get() == before
        in_north = scim_of(north).get("/Users", filter=f'userName eq "{north.member.email}"')
        [there] = in_north.json()["Resources"]
        assert there["id"] != user["id"]
        assert "Acme" not in in_north.content.decode() and "Jensen" not in in_north.content.decode()

    def test_what_one_directory_takes_away_stays_elsewhere(
        self, scim: Caller, acme: Company, north: Company
    ) -> None:
        user = scim("post", "/Users", {"schemas": [USER], "userName": north.member.email}).json()
        _patched(scim, user, {"op": "replace", "path": "active", "value": False})
        assert actor_for_user(user=north.member, tenant_slug="north-fund")
        scim.delete(f"/Users/{user['id']}")
        assert actor_for_user(user=north.member, tenant_slug="north-fund")
        assert north.member.has_usable_password()
