"""The page of readers: one's own readings; for officers everybody's, figures, and alerts that are answered for."""

import re
from collections.abc import Callable
from unittest.mock import patch

import pytest
from django.test import Client

from audit import record
from audit.readers import alerts, watch
from audit.readers.models import ReaderAlert, Rule
from audit.record import AuditUnavailable
from audit.selectors import READ, open_record
from tenants.models import User
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/t/acme-bank/audit/readers/"
REASON = "Complaint of <b>Mr Lee</b>"


@pytest.fixture
def officer_browser(acme: Company, client_of: Callable[[User], Client]) -> Client:
    return client_of(acme.officer)


@pytest.fixture
def read(acme: Company) -> str:
    """The id of a record that the reviewer opened."""
    handle = generation(acme.actor(acme.member))
    open_record(acme.actor(acme.reviewer), handle.request_id, reason=REASON)
    return str(handle.request_id)


@pytest.fixture
def alert(acme: Company) -> ReaderAlert:
    alerts.set_rule(actor=acme.actor(acme.officer), rule=Rule.MANY, threshold=2, enabled=True)
    for _ in range(2):
        record.record_event(actor=acme.actor(acme.reviewer), kind=READ, detail={"reason": REASON})
    watch.look(acme.tenant)
    with tenant_scope(acme.tenant.pk):
        return ReaderAlert.objects.get()


def readings(page: str) -> str:
    return page.partition('id="readings-title"')[2]


def test_a_reviewer_sees_their_own_and_nothing_of_alerts(
    read: str, acme: Company, alert: ReaderAlert, reviewer_browser: Client
) -> None:
    open_record(acme.actor(acme.officer), record.UUID(read), reason="of the officer")
    page = reviewer_browser.get(PAGE).text
    assert "Complaint of &lt;b&gt;Mr Lee&lt;/b&gt;" in page and REASON not in page
    assert acme.officer.email not in page and "of the officer" not in page
    assert "Alerts" not in page and "waits" not in page
    assert 'name="person"' not in page
    assert reviewer_browser.get(f"{PAGE}rules/").status_code == 404
    assert reviewer_browser.post(f"{PAGE}alerts/{alert.pk}/", {"reason": "x"}).status_code == 404


def test_an_officer_sees_everybodys_and_the_reasons_once_that_is_recorded(
    read: str, acme: Company, officer_browser: Client
) -> None:
    page = officer_browser.get(PAGE).text
    assert acme.reviewer.email in readings(page) and read in page
    assert "Mr Lee" not in page and "sealed" in readings(page)
    refused = officer_browser.post(PAGE, {"reason": " "})
    assert refused.status_code == 422 and "Mr Lee" not in refused.text
    with patch("audit.readers.selectors.record_event", side_effect=AuditUnavailable):
        failed = officer_browser.post(PAGE, {"reason": "Quarterly check"})
    assert failed.status_code == 503 and "Mr Lee" not in failed.text
    shown = officer_browser.post(PAGE, {"reason": "Quarterly check"}).text
    assert "Complaint of &lt;b&gt;Mr Lee&lt;/b&gt;" in shown and REASON not in shown
    assert "Quarterly check" in readings(officer_browser.get(PAGE).text), (
        "one's own look is among the readings"
    )


def test_readings_are_narrowed(read: str, acme: Company, officer_browser: Client) -> None:
    def found(**query: str) -> bool:
        return acme.reviewer.email in readings(officer_browser.get(PAGE, query).text).partition("<tbody>")[2]

    assert found(person=str(acme.reviewer.pk)) and found(kind="audit.read") and found(record=read)
    assert found(since="2026-01-01") and not found(until="2026-01-01")
    assert not found(kind="audit.export") and not found(record=str(acme.reviewer.pk))
    assert officer_browser.get(PAGE, {"record": "x"}).status_code == 422
    assert officer_browser.get(PAGE, {"person": "x"}).status_code == 422
    assert officer_browser.get(PAGE, {"after": "x"}).status_code == 404


def test_alerts_wait_in_the_tab_until_an_officer_answers(
    acme: Company, alert: ReaderAlert, officer_browser: Client, reviewer_browser: Client
) -> None:
    page = officer_browser.get("/t/acme-bank/audit/retention/").text
    tab = re.search(r"<li><a[^>]*/readers/\"[^>]*>Readers.*?</a></li>", page)
    assert tab is not None and "1 waits" in tab[0]
    assert "waits" not in reviewer_browser.get("/t/acme-bank/audit/").text
    page = officer_browser.get(PAGE).text
    assert "Many openings within an hour" in page and "2 found, the threshold is 2" in page
    answer = officer_browser.post(f"{PAGE}alerts/{alert.pk}/", {"reason": " "}, follow=True).text
    assert "State what you found" in answer
    answer = officer_browser.post(f"{PAGE}alerts/{alert.pk}/", {"reason": "Agreed sample"}, follow=True).text
    assert "Acknowledged." in answer and "No alert waits" in answer and "Agreed sample" in answer
    again = officer_browser.post(f"{PAGE}alerts/{alert.pk}/", {"reason": "Again"}, follow=True).text
    assert "acknowledged this alert already" in again


def test_thresholds_are_set_by_officers(acme: Company, officer_browser: Client) -> None:
    page = officer_browser.get(f"{PAGE}rules/").text
    sent = dict(re.findall(r'type="number" name="(\w+)" value="(\d+)"', page))
    assert set(sent) == set(Rule.values)
    wrong = officer_browser.post(f"{PAGE}rules/", {**sent, "odd_hours": "99"})
    assert wrong.status_code == 422
    changed = officer_browser.post(f"{PAGE}rules/", {**sent, "many": "7", "many_on": "on"}, follow=True).text
    assert "The thresholds hold from now on." in changed
    with tenant_scope(acme.tenant.pk):
        found = {each.rule: each for each in alerts.settings(acme.actor(acme.officer))}
    assert (found[Rule.MANY].threshold, found[Rule.MANY].enabled) == (7, True)
    assert not found[Rule.MASS_EXPORT].enabled
