"""Many people at once: every bad row is named, and with one of them nobody is invited."""

import time

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants import custom_roles, groups, people
from tenants.models import Invitation, User
from tenants.scope import tenant_scope
from tests.conftest import Company
from tests.tenants.conftest import changes, no_change, one_change, refused


def invitations(company: Company) -> int:
    with tenant_scope(company.tenant.pk):
        return Invitation.objects.count()


def rows_of(count: int) -> list[dict[str, str]]:
    return [
        {"email": f"person{number}@acme-bank.example", "role": "", "groups": ""} for number in range(count)
    ]


def test_every_bad_row_is_named_and_nothing_is_half_done(acme: Company) -> None:
    administrator = acme.actor(acme.administrator)
    groups.create_group(actor=administrator, name="Risk")
    people.invite(actor=administrator, email="waiting@acme-bank.example")
    rows = [
        {"email": "fine@acme-bank.example", "role": "curator", "groups": " Risk ; Risk"},
        {"email": "no address"},
        {"email": "Fine@acme-bank.example"},
        {"email": acme.member.email},
        {"email": "waiting@acme-bank.example"},
        {"email": "a@acme-bank.example", "role": "emperor"},
        {"email": "b@acme-bank.example", "role": "reviewer"},
        {"email": "c@acme-bank.example", "groups": "Risk; No such"},
        {"email": "d@acme-bank.example", "groups": "Everyone"},
        {"email": "аda@acme-bank.example"},
        {},
        {"email": "e@acme-bank.example", "role": "x\x00" * 100_000, "groups": "\x00"},
        {"email": "also-fine@acme-bank.example"},
    ]
    with no_change(acme):
        report = people.import_members(actor=administrator, rows=rows)
    assert (report.rows, report.invited) == (13, [])
    assert [(each.row, each.field) for each in report.errors] == [
        (2, "email"),
        (3, "email"),
        (4, "email"),
        (5, "email"),
        (6, "role"),
        (7, "role"),
        (8, "groups"),
        (9, "groups"),
        (10, "email"),
        (11, "email"),
        (12, "role"),
    ]
    assert "row 1" in report.errors[1].message
    assert max(len(each.message) for each in report.errors) < 200
    assert invitations(acme) == 1, "the one from before"


def test_good_rows_are_invited_and_come_in(acme: Company) -> None:
    owner = acme.actor(acme.owner)
    risk = groups.create_group(actor=owner, name="Risk")
    custom_roles.create_role(actor=owner, slug="analyst", name="Analyst", permissions=["chat.use"])
    rows = [
        {"email": "Ada@acme-bank.example", "role": "analyst", "groups": "Risk;Risk"},
        {"email": "bob@acme-bank.example", "role": " ", "unknown": "column"},
        {"email": "eve@acme-bank.example", "role": "reviewer"},
    ]
    with no_change(acme):
        assert people.import_members(actor=owner, rows=rows, dry_run=True).errors == []
    with one_change(acme, "members.imported") as found:
        report = people.import_members(actor=owner, rows=rows)
    assert found[0].after == {
        "count": 3,
        "members": [
            {"email": "ada@acme-bank.example", "role": "analyst"},
            {"email": "bob@acme-bank.example", "role": "member"},
            {"email": "eve@acme-bank.example", "role": "reviewer"},
        ],
    }
    _invitation, token = report.invited[0]
    ada = User.objects.create(email="ada@acme-bank.example")
    assert people.accept_invitation(tenant_slug="acme-bank", token=token, user=ada).role == "analyst"
    with tenant_scope(acme.tenant.pk):
        assert risk.pk in groups.group_ids_of(ada.pk)


def test_an_invitation_that_ran_out_is_replaced(acme: Company) -> None:
    administrator = acme.actor(acme.administrator)
    invitation, _token = people.invite(actor=administrator, email="person0@acme-bank.example")
    with tenant_scope(acme.tenant.pk):
        Invitation.objects.update(expires=invitation.created)
    assert len(people.import_members(actor=administrator, rows=rows_of(2)).invited) == 2
    with tenant_scope(acme.tenant.pk):
        assert people.invitations(administrator).count() == 2


def test_no_rows_and_too_many_are_refused(acme: Company) -> None:
    administrator = acme.actor(acme.administrator)
    with no_change(acme):
        with refused("import_empty", "file"):
            people.import_members(actor=administrator, rows=[])
        with refused("import_too_large", "file"):
            people.import_members(actor=administrator, rows=[{}] * 10_001)


def test_ten_thousand_rows_take_few_queries_and_little_time(acme: Company) -> None:
    administrator = acme.actor(acme.administrator)
    with CaptureQueriesContext(
        connection,
    ) as few:
        people.import_members(actor=administrator, rows=rows_of(1), dry_run=True)
    rows = rows_of(10_000)
    rows[4_999]["email"] = rows[9_999]["role"] = "bad"
    started = time.monotonic()
    with CaptureQueriesContext(connection) as many:
        report = people.import_members(actor=administrator, rows=rows)
    assert [each.row for each in report.errors] == [5_000, 10_000]
    assert len(many) == len(few), "the questions do not depend on the number of rows"
    assert invitations(acme) == 0
    with CaptureQueriesContext(connection) as writing:
        report = people.import_members(actor=administrator, rows=rows_of(10_000))
    assert len(report.invited) == invitations(acme) == 10_000
    inserts = [each for each in writing if each["sql"].startswith('INSERT INTO "tenants_invitation"')]
    assert 1 <= len(inserts) <= 10
    assert time.monotonic() - started < 20, "seconds, on a slow machine; it takes about two"
    assert changes(acme)[-1].after["count"] == 10_000


@pytest.mark.parametrize("columns", [{"email": "x@acme-bank.example", "role": None, "groups": None}])
def test_empty_cells_are_as_missing_ones(acme: Company, columns: dict[str, str]) -> None:
    report = people.import_members(actor=acme.actor(acme.administrator), rows=[columns])
    assert report.errors == []
