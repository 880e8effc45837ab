"""The platform's pages of tenants: founding, closing and limiting them, without a look inside."""

import re
from collections.abc import Callable

import pytest
from django.core import mail
from django.test import Client

from inference.registry.models import Route
from tenants import people
from tenants.models import Tenant, User
from tenants.quotas.models import Limit
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

TENANTS = "/platform/tenants/"
ACME = f"{TENANTS}acme-bank/"


@pytest.fixture
def browser(platform_administrator: User, client_of: Callable[[User], Client]) -> Client:
    return client_of(platform_administrator)


def status() -> str:
    return Tenant.objects.get(slug="acme-bank").status


def test_a_tenant_is_founded_with_its_models_and_the_invitation_of_its_owner(browser: Client) -> None:
    assert "No tenant yet" in browser.get(TENANTS).text
    asked = {"name": "New Bank", "slug": "new-bank", "owner_email": "first@new-bank.example"}
    page = browser.post(f"{TENANTS}new/", asked).text
    link = re.search(r'value="http://testserver(/invitation/new-bank/([\w-]+)/)"', page)
    assert link
    tenant = Tenant.objects.get()
    invitation = people.find_invitation(tenant_slug="new-bank", token=link[2])
    assert (invitation.role, invitation.email) == ("owner", "first@new-bank.example")
    with tenant_scope(tenant.pk):
        assert Route.objects.filter(is_default=True).count() == 1
    (sent,) = mail.outbox
    assert sent.to == ["first@new-bank.example"] and link[1] in sent.body
    of_tenant = browser.get(f"{TENANTS}new-bank/").text
    assert "first@new-bank.example" in of_tenant and link[2] not in of_tenant
    again = browser.post(f"{TENANTS}new-bank/owners", {"email": "second@new-bank.example"})
    assert again.status_code == 422, "one first owner at a time"
    browser.post(f"{TENANTS}new-bank/owners/{invitation.pk}/revoke")
    assert "second@" in browser.post(f"{TENANTS}new-bank/owners", {"email": "second@new-bank.example"}).text


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("slug", "acme-bank", "There is or was a tenant"),
        ("slug", "аcme", "look like them"),
        ("owner_email", "nobody", "valid email address"),
    ],
)
def test_what_is_refused_is_said_and_founds_nothing(
    acme: Company, browser: Client, field: str, value: str, words: str
) -> None:
    asked = {"name": "New Bank", "slug": "new-bank", "owner_email": "first@new-bank.example", field: value}
    page = browser.post(f"{TENANTS}new/", asked)
    assert page.status_code == 422
    assert re.search(rf'<p class="error" id="id_{field}_error">(?:(?!</p>).)*{words}', page.text, re.DOTALL)
    assert 'value="New Bank"' in page.text
    assert Tenant.objects.count() == 1 and mail.outbox == []


def test_a_tenant_is_suspended_resumed_and_archived_after_a_question(
    acme: Company, browser: Client, member_browser: Client
) -> None:
    assert "Suspend Acme Bank?" in browser.get(f"{ACME}turn/suspend").text
    assert status() == "active"
    for action, wanted in (("suspend", "suspended"), ("resume", "active"), ("archive", "archived")):
        browser.post(f"{ACME}turn/{action}", {"confirmed": "yes"})
        assert status() == wanted
        assert member_browser.get("/t/acme-bank/chat/").status_code == (200 if wanted == "active" else 404)
    refused = browser.post(f"{ACME}turn/suspend", {"confirmed": "yes"}, follow=True).text
    assert "from which this is not possible" in refused
    assert browser.get(f"{ACME}turn/explode").status_code == 404


def test_a_deletion_names_what_goes_and_can_be_cancelled(acme: Company, browser: Client) -> None:
    question = browser.get(f"{ACME}delete").text
    assert f"{len(acme.people)} memberships" in question and "can never be opened again" in question
    wrong = browser.post(f"{ACME}delete", {"confirmed": "yes", "confirm_slug": "north-fund"})
    assert (wrong.status_code, status()) == (422, "active")
    browser.post(f"{ACME}delete", {"confirmed": "yes", "confirm_slug": "acme-bank"})
    assert status() == "deleting"
    assert "is destroyed, and its keys with it, on:" in browser.get(ACME).text
    browser.post(f"{ACME}turn/keep", {"confirmed": "yes"})
    assert status() == "archived"


def test_ceilings_are_set_shown_and_taken_away(acme: Company, browser: Client) -> None:
    asked = {"metric": "tokens_per_month", "value": "1,000,000"}
    browser.post(f"{ACME}ceilings", asked)
    with tenant_scope(acme.tenant.pk):
        assert list(Limit.objects.values_list("value", "is_ceiling")) == [(1_000_000, True)]
    assert "1,000,000" in browser.get(ACME).text
    wrong = browser.post(f"{ACME}ceilings", {**asked, "value": "-1"})
    assert (wrong.status_code, "Enter a whole number" in wrong.text) == (422, True)
    row = {"subject_kind": "tenant", "metric": "tokens_per_month"}
    assert "Tokens per month: 1,000,000" in browser.post(f"{ACME}ceilings/remove", row).text
    browser.post(f"{ACME}ceilings/remove", {**row, "confirmed": "yes"})
    with tenant_scope(acme.tenant.pk):
        assert not Limit.objects.exists()


def test_the_list_is_filtered_counts_and_holds_no_content(
    acme: Company, north: Company, recorded: str, browser: Client
) -> None:
    page = browser.get(TENANTS, {"q": "acme", "status": "active"}).text
    assert "Acme Bank" in page and "North Fund" not in page
    assert re.search(rf'<td class="num">{len(acme.people)}</td>', page)
    assert "member@acme-bank.example" not in page + browser.get(ACME).text, "nobody's name"
    assert "No tenant matches" in browser.get(TENANTS, {"status": "archived"}).text
    rows = b"".join(browser.get(TENANTS, {"format": "csv"})).decode().splitlines()  # type: ignore[call-overload]
    assert [row.split(",")[:4] for row in rows[1:]] == [
        ["Acme Bank", "acme-bank", "Active", str(len(acme.people))],
        ["North Fund", "north-fund", "Active", str(len(north.people))],
    ]
