"""What every address of SCIM has in common, and what a client can learn about the service."""

import pytest

from tenants.models import Membership
from tenants.roles import Scope
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.scim.conftest import GROUP, USER
from tests.support.keys import WRITE, Caller, make_key

pytestmark = pytest.mark.django_db

ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"


def _caller(company: Company, scopes: list[str], role: str) -> Caller:
    return Caller(make_key(company, scopes, role), base="/scim/v2", media_type="application/scim+json")


def test_keys_of_the_scope_alone_are_answered(acme: Company) -> None:
    everything = [*WRITE, Scope.INFERENCE]
    assert _caller(acme, everything, "owner").get("/Users").status_code == 404
    assert _caller(acme, [Scope.SCIM], "member").get("/Users").status_code == 404
    assert _caller(acme, [Scope.SCIM], "administrator").get("/Users").status_code == 200
    wrong = Caller("custos-nonsense", base="/scim/v2").get("/Users")
    assert (wrong.status_code, wrong.headers["WWW-Authenticate"], wrong.json()["schemas"]) == (
        401,
        "Bearer",
        [ERROR],
    )


def test_an_address_or_method_that_is_none_is_told_as_an_error(scim: Caller) -> None:
    for method, path, status in (
        ("get", "/Nothing", 404),
        ("get", "/Users/not-an-id", 404),
        ("post", "/Bulk", 404),
        ("get", "/Me", 404),
        ("delete", "/Users", 405),
        ("put", "/ServiceProviderConfig", 405),
    ):
        answer = scim(method, path)
        assert (answer.status_code, answer.json()["schemas"]) == (status, [ERROR]), path
        assert answer.headers["Content-Type"] == "application/scim+json"


def test_a_body_nested_without_end_is_refused(scim: Caller) -> None:
    answer = scim("post", "/Users", "[" * 100_000 + "]" * 100_000)
    assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidSyntax")


@pytest.mark.parametrize(
    "body", ["[]", "5", "null", '"x"', '{"Operations": 5}', '{"Operations": [5]}', '{"filter": 5}']
)
def test_a_body_of_another_form_is_refused(scim: Caller, acme: Company, body: str) -> None:
    with tenant_scope(acme.tenant.pk):
        member = Membership.objects.first().pk
    for method, path in (("post", "/Users"), ("put", f"/Users/{member}"), ("patch", f"/Users/{member}")):
        assert scim(method, path, body).status_code == 400, path
    if "Operations" not in body:  # Which a search does not look at.
        assert scim("post", "/Users/.search", body).status_code == 400


def test_the_service_describes_itself(scim: Caller) -> None:
    config = scim.get("/ServiceProviderConfig").json()
    supported = {
        name: config[name]["supported"]
        for name in ("patch", "bulk", "filter", "sort", "etag", "changePassword")
    }
    assert supported == {
        "patch": True,
        "bulk": False,
        "filter": True,
        "sort": False,
        "etag": False,
        "changePassword": False,
    }
    types = scim.get("/ResourceTypes").json()["Resources"]
    assert [(each["name"], each["endpoint"], each["schema"]) for each in types] == [
        ("User", "/Users", USER),
        ("Group", "/Groups", GROUP),
    ]
    assert scim.get("/ResourceTypes/User").json()["name"] == "User"
    schemas = scim.get("/Schemas").json()["Resources"]
    assert [each["id"] for each in schemas] == [USER, GROUP]
    user = scim.get(f"/Schemas/{USER}").json()
    [name] = [each for each in user["attributes"] if each["name"] == "userName"]
    assert (name["mutability"], name["required"], name["uniqueness"]) == ("immutable", True, "server")
    assert scim.get("/Schemas/urn:nothing").status_code == 404
