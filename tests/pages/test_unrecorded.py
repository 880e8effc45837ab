"""What cannot be recorded is undone, on every page: people are told so, and that they can try again."""

from collections.abc import Callable

import pytest
from django.db import OperationalError
from django.test import Client

from audit import record
from audit.record import Keeping
from audit.retention import policies
from audit.review.models import Queue, SamplePlan
from audit.search import saved
from audit.search.asked import Asked
from audit.search.saved import Saved
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

AUDIT = "/t/acme-bank/audit/"
PLAN = {"name": "Five", "size": "5", "measure": "percent", "per": "day", "stratum": "", "severity": "low"}
QUEUE = {"name": "Mine", "position": "1", "hours_high": "4", "hours_medium": "24", "hours_low": "72"}


@pytest.fixture
def kept(acme: Company) -> Saved:
    return saved.save(actor=acme.actor(acme.officer), asked=Asked(text="harbour"), name="Mine")


@pytest.fixture
def browser(
    acme: Company, kept: Saved, client_of: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> Client:
    """The officer's, while the audit cannot be written."""
    client = client_of(acme.officer)

    def fail(*_arguments: object, **_fields: object) -> None:
        raise OperationalError("the disk is full")

    monkeypatch.setattr(record, "_intent", fail)
    return client


@pytest.mark.parametrize(
    ("address", "values"),
    [
        ("retention/policy", {"keeping": "audit", "days": "30", "reason": "Regulator"}),
        ("review/samples/new/", PLAN),
        ("review/queues/new/", QUEUE),
    ],
)
def test_a_change_is_undone_and_the_page_says_so(
    browser: Client, acme: Company, address: str, values: dict[str, str]
) -> None:
    with tenant_scope(acme.tenant.pk):
        queues = Queue.objects.count()
    answer = browser.post(AUDIT + address, values)
    assert answer.status_code == 503
    assert "This could not be recorded, so it was not done" in answer.text and "disk" not in answer.text
    assert policies.in_force(acme.tenant.pk)[Keeping.REQUESTS].days == 7
    with tenant_scope(acme.tenant.pk):
        assert (Queue.objects.count(), SamplePlan.objects.count()) == (queues, 0)


def test_a_saved_search_stays(browser: Client, acme: Company, kept: Saved) -> None:
    assert browser.post(f"{AUDIT}saved/{kept.id}/remove").status_code == 503
    with tenant_scope(acme.tenant.pk):
        assert [each.id for each in saved.all_for(acme.actor(acme.officer))] == [kept.id]


def test_a_script_is_told_in_its_own_form(browser: Client) -> None:
    values = {"keeping": "audit", "days": "30", "reason": "Regulator"}
    answer = browser.post(f"{AUDIT}retention/policy", values, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "audit_unavailable")
