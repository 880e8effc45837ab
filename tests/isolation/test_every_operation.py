"""Every operation of the management API, without a key, without the scope, and with the other tenant's key.

The table in `tests.isolation.operations` must name every operation of the OpenAPI document: a new one without a case
fails.
"""

import pytest
from django.test import Client

from tenants.roles import Scope
from tests.conftest import Company
from tests.isolation.operations import CASES, Things, address, documented, make_things
from tests.support.digest import digest
from tests.support.keys import READ, WRITE, Caller, make_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def things(acme: Company) -> Things:
    return make_things(acme)


def test_every_operation_has_a_case() -> None:
    document = Client().get("/api/openapi.json").json()
    operations = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert operations == {documented(name) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_an_operation_is_for_keys_of_its_own_tenant(
    acme: Company, north: Company, things: Things, name: str
) -> None:
    case = CASES[name]
    method, path = address(name, things)
    body = case.body(things)
    no_scope = make_key(acme, [Scope.INFERENCE, Scope.SCIM])
    no_permission = make_key(acme, WRITE, role="member")
    reading, writing, foreign = make_key(acme, READ), make_key(acme, WRITE), make_key(north, WRITE)
    before = digest(acme.tenant)

    assert Caller(None)(method, path, body).status_code == 401
    assert Caller(no_scope)(method, path, body).status_code == 404
    assert Caller(no_permission)(method, path, body).status_code in (404, 422)
    if method != "get":
        assert Caller(reading)(method, path, body).status_code == 404
    answer = Caller(foreign)(method, path, body)
    assert answer.status_code == case.foreign, answer.content
    told = answer.content.decode()
    assert not [each for each in _secrets(acme, things) if each in told]
    assert _ignoring_use(digest(acme.tenant)) == _ignoring_use(before)

    own = Caller(reading if method == "get" else writing)(method, path, body)
    assert own.status_code == case.expected, f"the control: {own.content!r}"


def _secrets(company: Company, things: Things) -> list[str]:
    return [str(company.tenant.pk), company.tenant.name, "@acme-bank.example", *things.values()]


def _ignoring_use(found: dict[str, str]) -> dict[str, str]:
    """Without keys' times of use, which the refused callers of the same tenant leave behind."""
    return {name: value for name, value in found.items() if name != "tenants_apikey"}
