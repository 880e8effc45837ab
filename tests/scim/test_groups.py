"""Groups as RFC 7643 and RFC 7644 have them."""

from typing import Any

import pytest

from tenants.models import Group, Membership
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.scim.conftest import GROUP, operations, scim_of
from tests.support.keys import Caller

pytestmark = pytest.mark.django_db


@pytest.fixture
def people(acme: Company) -> list[str]:
    """Ids of three members."""
    with tenant_scope(acme.tenant.pk):
        found = Membership.objects.filter(role__in=["member", "curator", "operator"]).order_by("pk")
        return [str(pk) for pk in found.values_list("pk", flat=True)]


def _made(scim: Caller, *members: str) -> dict[str, Any]:
    body = {
        "schemas": [GROUP],
        "displayName": "Tour Guides",
        "members": [{"value": each} for each in members],
    }
    answer = scim("post", "/Groups", body)
    assert answer.status_code == 201, answer.content
    return answer.json()


def _patched(scim: Caller, group: dict[str, Any], *each: dict[str, Any]) -> Any:
    return scim("patch", f"/Groups/{group['id']}", operations(*each))


def _members(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [each["value"] for each in answer.json().get("members", [])]


def test_a_group_is_made_with_its_members(scim: Caller, people: list[str]) -> None:
    group = _made(scim, *people[:2])
    assert group["displayName"] == "Tour Guides"
    assert [each["value"] for each in group["members"]] == people[:2]
    assert group["members"][0]["$ref"] == f"http://testserver/scim/v2/Users/{people[0]}"
    assert group["meta"]["location"] == f"http://testserver/scim/v2/Groups/{group['id']}"
    inside = scim.get(f"/Users/{people[0]}").json()["groups"]
    assert inside == [{"value": group["id"], "display": "Tour Guides"}]


def test_members_are_added_replaced_and_taken_out(scim: Caller, people: list[str]) -> None:
    """The examples of RFC 7644, sections 3.5.2.1 to 3.5.2.3."""
    group = _made(scim)
    added = [{"display": "Babs Jensen", "$ref": "https://example.com/v2/Users/2819c223", "value": people[0]}]
    assert _members(_patched(scim, group, {"op": "add", "path": "members", "value": added})) == people[:1]
    both = [{"value": people[0]}, {"value": people[1]}]
    assert _members(_patched(scim, group, {"op": "add", "value": {"members": both}})) == people[:2]
    one = {"op": "remove", "path": f'members[value eq "{people[0]}"]'}
    assert _members(_patched(scim, group, one)) == people[1:2]
    exchange = [
        {"op": "remove", "path": f'members[value eq "{people[1]}"]'},
        {"op": "add", "path": "members", "value": [{"display": "James Smith", "value": people[2]}]},
    ]
    assert _members(_patched(scim, group, *exchange)) == people[2:]
    replaced = [{"value": people[0]}, {"value": people[2]}]
    assert set(_members(_patched(scim, group, {"op": "replace", "path": "members", "value": replaced}))) == {
        people[0],
        people[2],
    }
    assert _members(_patched(scim, group, {"op": "remove", "path": "members"})) == []


def test_members_are_taken_out_as_entra_names_them(scim: Caller, people: list[str]) -> None:
    group = _made(scim, *people)
    named = {"op": "Remove", "path": "members", "value": [{"value": people[0]}, {"value": people[2]}]}
    assert _members(_patched(scim, group, named)) == [people[1]]


def test_a_group_is_renamed_and_replaced(scim: Caller, people: list[str]) -> None:
    group = _made(scim, people[0])
    renamed = _patched(
        scim, group, {"op": "replace", "value": {"displayName": "Guides", "externalId": "g1", "members": []}}
    ).json()
    assert (renamed["displayName"], renamed["externalId"]) == ("Guides", "g1")
    assert "members" not in renamed
    wanted = {"schemas": [GROUP], "displayName": "Tours", "members": [{"value": people[1]}]}
    replaced = scim("put", f"/Groups/{group['id']}", wanted).json()
    assert replaced["displayName"] == "Tours"
    assert "externalId" not in replaced
    assert [each["value"] for each in replaced["members"]] == [people[1]]


@pytest.mark.parametrize(
    ("operation", "scim_type"),
    [
        ({"op": "add", "path": "members", "value": [{"value": "2819c223"}]}, "invalidValue"),
        (
            {"op": "add", "path": "members", "value": [{"value": "01900000-0000-7000-8000-000000000000"}]},
            "invalidValue",
        ),
        ({"op": "add", "path": "members", "value": "all"}, "invalidValue"),
        ({"op": "replace", "path": 'members[type eq "User"].display', "value": "x"}, "mutability"),
        ({"op": "remove", "path": "members.display"}, "mutability"),
        ({"op": "remove", "path": 'members[nick eq "x"]'}, "invalidFilter"),
        ({"op": "remove", "path": "displayName"}, "mutability"),
        ({"op": "replace", "path": "displayName", "value": ""}, "invalidValue"),
    ],
)
def test_a_bad_operation_says_what_is_bad_and_none_is_carried_out(
    scim: Caller, people: list[str], operation: dict[str, Any], scim_type: str
) -> None:
    group = _made(scim, people[0])
    good = {"op": "remove", "path": "members"}
    answer = _patched(scim, group, good, operation)
    assert (answer.status_code, answer.json().get("scimType")) == (400, scim_type)
    assert _members(scim.get(f"/Groups/{group['id']}")) == [people[0]]


def test_a_name_is_taken_once(scim: Caller) -> None:
    _made(scim)
    answer = scim("post", "/Groups", {"schemas": [GROUP], "displayName": "tour guides"})
    assert (answer.status_code, answer.json()["scimType"]) == (409, "uniqueness")


def test_members_are_left_out_when_nobody_asks_for_them(scim: Caller, people: list[str]) -> None:
    group = _made(scim, *people)
    assert "members" not in scim.get("/Groups", excludedAttributes="members").json()["Resources"][0]
    one = scim.get(f"/Groups/{group['id']}", attributes="displayName").json()
    assert {"id", "schemas", "displayName"} == set(one)


def test_the_group_of_everyone_is_not_the_directorys(scim: Caller, acme: Company) -> None:
    with tenant_scope(acme.tenant.pk):
        everyone = Group.objects.get(is_everyone=True).pk
    assert scim.get("/Groups").json()["totalResults"] == 0
    for answer in (scim.get(f"/Groups/{everyone}"), scim.delete(f"/Groups/{everyone}")):
        assert answer.status_code == 404


def test_another_tenants_people_cannot_be_put_into_a_group(scim: Caller, north: Company) -> None:
    with tenant_scope(north.tenant.pk):
        stranger = str(Membership.objects.first().pk)
    body = {"schemas": [GROUP], "displayName": "Guides", "members": [{"value": stranger}]}
    assert scim("post", "/Groups", body).status_code == 400
    assert scim_of(north)("post", "/Groups", body).status_code == 201, "the control"
    assert scim.get("/Groups").json()["totalResults"] == 0


def test_a_deleted_group_is_gone(scim: Caller) -> None:
    group = _made(scim)
    assert scim.delete(f"/Groups/{group['id']}").status_code == 204
    assert scim.get(f"/Groups/{group['id']}").status_code == 404
