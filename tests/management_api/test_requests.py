"""What every operation has in common: keys, bodies, errors, and the page that documents them."""

import pytest
from django.test import Client

from tenants.roles import Scope
from tests.conftest import Company
from tests.support.keys import READ, WRITE, Caller, make_key

pytestmark = pytest.mark.django_db


def test_without_a_valid_key_the_answer_says_so(acme: Company) -> None:
    for caller in (Caller(None), Caller("custos-nonsense"), Caller(make_key(acme, READ) + "x")):
        answer = caller.get("/members")
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert answer.json()["code"] == "invalid_api_key"


def test_a_key_without_the_scope_finds_nothing(acme: Company) -> None:
    for scopes in ([Scope.INFERENCE], [Scope.SCIM], [Scope.INFERENCE, Scope.SCIM]):
        assert Caller(make_key(acme, scopes)).get("/members").status_code == 404
    assert Caller(make_key(acme, READ)).get("/members").status_code == 200


def test_a_key_that_reads_changes_nothing(acme: Company) -> None:
    reading = Caller(make_key(acme, READ))
    assert reading.post("/groups", name="Desk").status_code == 404
    assert Caller(make_key(acme, WRITE)).post("/groups", name="Desk").status_code == 201


def test_a_key_does_no_more_than_its_owner(acme: Company) -> None:
    auditor = Caller(make_key(acme, WRITE, role="auditor"))
    assert auditor.get("/members").status_code == 200
    assert auditor.post("/groups", name="Desk").status_code == 404
    member = Caller(make_key(acme, WRITE, role="member"))
    assert member.get("/members").status_code == 404


def test_what_is_wrong_with_a_body_is_named(acme: Company) -> None:
    api = Caller(make_key(acme, WRITE))
    answer = api.post("/groups", name="Desk\x00", colour="red")
    assert answer.status_code == 422
    assert {each["field"] for each in answer.json()["errors"]} == {"name", "colour"}
    unreadable = Caller(make_key(acme, WRITE), media_type="application/json")("post", "/groups", "{")
    assert (unreadable.status_code, unreadable.json()["code"]) == (400, "unreadable")


def test_a_body_that_is_too_large_is_refused(acme: Company) -> None:
    answer = Caller(make_key(acme, WRITE)).post("/groups", name="x" * 3_000_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_an_address_that_is_none_is_a_problem_too(acme: Company) -> None:
    for path in ("/nothing", "/members/not-an-id"):
        answer = Caller(make_key(acme, READ)).get(path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")


def test_the_reference_needs_no_script_and_names_every_operation() -> None:
    page = Client().get("/api/docs")
    assert page.status_code == 200
    assert b"<script" not in page.content
    operations = [
        f"{method.upper()} {path}"
        for path, methods in Client().get("/api/openapi.json").json()["paths"].items()
        for method in methods
    ]
    assert len(operations) > 30
    for operation in operations:
        assert operation in page.content.decode()
