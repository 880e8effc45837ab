"""Every operation of the management API and of SCIM, without a key, without the scope, and with the other tenant's key.

The tables in `tests.isolation.operations` must name every operation, walked from the OpenAPI document and from SCIM's
views: a new one without a case fails.
"""

import pytest
from django.http import HttpResponse
from django.test import Client

from console.scim.urls import urlpatterns as scim_urlpatterns
from tenants.roles import Scope
from tests.conftest import Company
from tests.isolation.operations import CASES, SCIM_CASES, Case, Things, address, documented, make_things
from tests.support.digest import digest
from tests.support.keys import READ, WRITE, Caller, make_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def things(acme: Company) -> Things:
    return make_things(acme)


def test_every_operation_of_the_management_api_has_a_case() -> None:
    document = Client().get("/api/openapi.json").json()
    operations = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert operations == {(method, f"/api/v1{path}") for method, path in map(documented, CASES)}


def test_every_operation_of_scim_has_a_case() -> None:
    operations = {
        f"{method} {entry.pattern}" for entry in scim_urlpatterns for method in entry.callback.methods
    }
    # The last pattern takes what no other does, and finds nothing.
    assert {name for name in operations if not name.endswith(" ")} == set(SCIM_CASES)


@pytest.mark.parametrize("name", CASES)
def test_an_operation_is_for_keys_of_its_own_tenant(
    acme: Company, north: Company, things: Things, name: str
) -> None:
    case, (method, path) = CASES[name], address(name, things)
    reading, writing = (Caller(make_key(acme, scopes)) for scopes in (READ, WRITE))
    powerless = [
        Caller(make_key(acme, [Scope.INFERENCE, Scope.SCIM])),
        Caller(make_key(acme, WRITE, role="member")),
        *([reading] if method != "get" else []),
    ]
    body = case.body(things)
    before = digest(acme.tenant)
    assert Caller(None)(method, path, body).status_code == 401
    assert [each(method, path, body).status_code for each in powerless] == [404] * len(powerless)
    _finds_nothing(acme, things, case, Caller(make_key(north, WRITE))(method, path, body))
    assert _ignoring_use(digest(acme.tenant)) == _ignoring_use(before)
    own = (reading if method == "get" else writing)(method, path, body)
    assert own.status_code == case.expected, f"the control: {own.content!r}"


@pytest.mark.parametrize("name", SCIM_CASES)
def test_provisioning_is_for_keys_of_its_own_tenant(
    acme: Company, north: Company, things: Things, name: str
) -> None:
    case, (method, path) = SCIM_CASES[name], address(name, things)

    def caller(company: Company | None, scopes: list[str], role: str = "administrator") -> Caller:
        return Caller(make_key(company, scopes, role) if company else None, base="/scim/v2")

    powerless = [caller(acme, [Scope.INFERENCE, *WRITE], "owner"), caller(acme, [Scope.SCIM], "member")]
    own = caller(acme, [Scope.SCIM])
    body = case.body(things)
    before = digest(acme.tenant)
    assert caller(None, [])(method, path, body).status_code == 401
    assert [each(method, path, body).status_code for each in powerless] == [404] * len(powerless)
    _finds_nothing(acme, things, case, caller(north, [Scope.SCIM])(method, path, body))
    assert _ignoring_use(digest(acme.tenant)) == _ignoring_use(before)
    answer = own(method, path, body)
    assert answer.status_code == case.expected, f"the control: {answer.content!r}"


def _finds_nothing(company: Company, things: Things, case: Case, answer: HttpResponse) -> None:
    assert answer.status_code == case.foreign, answer.content
    told = answer.content.decode()
    secrets = [str(company.tenant.pk), company.tenant.name, "@acme-bank.example", *things.values()]
    assert not [each for each in secrets if each in told]


def _ignoring_use(found: dict[str, str]) -> dict[str, str]:
    """Without keys' times of use, which the refused callers of the same tenant leave behind."""
    return {name: value for name, value in found.items() if name != "tenants_apikey"}
