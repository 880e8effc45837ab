"""Every operation of the management API and of SCIM, without a key, without the scope, and with the other tenant's key.

The tables in `tests.isolation.operations` must name every operation, walked from the OpenAPI document and from SCIM's
views: a new one without a case fails.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import transaction
from django.test import Client

from console.scim.urls import urlpatterns as scim_urlpatterns
from tenants.roles import Scope
from tests.conftest import Company
from tests.isolation.operations import (
    CASES,
    KNOWLEDGE_CASES,
    SCIM_CASES,
    Case,
    Things,
    address,
    documented,
    make_things,
)
from tests.support.digest import digest
from tests.support.keys import READ, WRITE, Caller, make_key

pytestmark = pytest.mark.django_db


def test_every_operation_of_the_management_api_has_a_case() -> None:
    document = Client().get("/api/openapi.json").json()
    operations = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert operations == {
        (method, f"/api/v1{path}") for method, path in map(documented, CASES | KNOWLEDGE_CASES)
    }


def test_every_operation_of_scim_has_a_case() -> None:
    operations = {
        f"{method} {entry.pattern}" for entry in scim_urlpatterns for method in entry.callback.methods
    }
    # The last pattern takes what no other does, and finds nothing.
    assert {name for name in operations if not name.endswith(" ")} == set(SCIM_CASES)


def test_an_operation_of_the_management_api_is_for_keys_of_its_own_tenant(
    acme: Company, north: Company, subtests: pytest.Subtests
) -> None:
    things = make_things(acme)
    reading, writing = (Caller(make_key(acme, scopes)) for scopes in (READ, WRITE))
    foreign = Caller(make_key(north, WRITE))
    powerless = [
        Caller(make_key(acme, [Scope.INFERENCE, Scope.SCIM])),
        Caller(make_key(acme, WRITE, role="member")),
    ]
    for name, case in CASES.items():
        reads = name.startswith("get ")
        with subtests.test(name), undone():
            unable = powerless if reads else [*powerless, reading]
            _examine(acme, things, name, case, unable, foreign, own=reading if reads else writing)


def test_an_operation_on_knowledge_is_for_keys_of_its_scopes_and_tenant(
    acme: Company, north: Company, subtests: pytest.Subtests
) -> None:
    def caller(company: Company, scopes: list[str], role: str = "curator") -> Caller:
        return Caller(make_key(company, scopes, role))

    things = make_things(acme)
    both = [Scope.KNOWLEDGE_READ, Scope.KNOWLEDGE_WRITE]
    reading, writing, foreign = caller(acme, both[:1]), caller(acme, both), caller(north, both)
    powerless = [caller(acme, [Scope.INFERENCE, *WRITE], "owner"), caller(acme, both, "member")]
    for name, case in KNOWLEDGE_CASES.items():
        reads = name.startswith("get ")
        # A member that lists finds nothing, and is answered so.
        unable = powerless[:1] if name == "get knowledge-bases" else powerless
        with subtests.test(name), undone():
            _examine(
                acme,
                things,
                name,
                case,
                unable if reads else [*unable, reading],
                foreign,
                own=reading if reads else writing,
            )


def test_an_operation_of_scim_is_for_keys_of_its_own_tenant(
    acme: Company, north: Company, subtests: pytest.Subtests
) -> None:
    def caller(company: Company, scopes: list[str], role: str = "administrator") -> Caller:
        return Caller(make_key(company, scopes, role), base="/scim/v2")

    things = make_things(acme)
    own, foreign = caller(acme, [Scope.SCIM]), caller(north, [Scope.SCIM])
    powerless = [caller(acme, [Scope.INFERENCE, *WRITE], "owner"), caller(acme, [Scope.SCIM], "member")]
    for name, case in SCIM_CASES.items():
        with subtests.test(name), undone():
            _examine(acme, things, name, case, powerless, foreign, own)


@contextmanager
def undone() -> Iterator[None]:
    """Whatever happens inside is undone, so that each case finds the same world."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def _examine(
    company: Company,
    things: Things,
    name: str,
    case: Case,
    powerless: list[Caller],
    foreign: Caller,
    own: Caller,
) -> None:
    """An operation without a key, with keys that may not, with the other tenant's, and at last with one that may."""
    (method, path), body = address(name, things), case.body(things)
    before = digest(company.tenant)
    assert own.without_key()(method, path, body).status_code == 401
    assert [each(method, path, body).status_code for each in powerless] == [404] * len(powerless)
    answer = foreign(method, path, body)
    assert answer.status_code == case.foreign, answer.content
    told = answer.content.decode()
    secrets = {str(company.tenant.pk), company.tenant.name, "@acme-bank.example", *things.values()}
    assert not [each for each in secrets - {things["kind"]} if each in told]
    assert _without_use(digest(company.tenant)) == _without_use(before)
    control = own(method, path, body)
    assert control.status_code == case.expected, f"the control: {control.content!r}"


def _without_use(found: dict[str, str]) -> dict[str, str]:
    """Without keys' times of use, which the refused callers of the same tenant leave behind."""
    return {name: value for name, value in found.items() if name != "tenants_apikey"}
