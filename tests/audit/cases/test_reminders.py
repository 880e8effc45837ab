"""Reminders: once at each step, to those who lead, by a mail that says nothing."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core import mail

from audit.cases import decisions, reminders, selectors, work
from audit.cases.models import Case
from console import awaiting_mail
from console.celery import app
from tenants import clock
from tenants.access import Actor
from tenants.scope import tenant_scope
from tests.audit.cases.conftest import TITLE, ask
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Moves the clock by so many days from now."""
    now = clock.now()

    def move(days: float) -> datetime:
        monkeypatch.setattr(clock, "now", lambda: now + timedelta(days=days))
        return clock.now()

    return move


@pytest.fixture
def outbox(settings: Any) -> list[Any]:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    mail.outbox = []
    return mail.outbox


def addresses() -> list[str]:
    return [address for each in reminders.remind() for address in each.addresses]


def test_one_is_reminded_once_at_each_step(officer: Actor, case: Case, at: Any) -> None:
    said = []
    for days in (0, 22, 23.5, 24, 27.5, 28, 29.5, 30.5, 31, 60):
        at(days)
        said.append((days, bool(addresses()), bool(addresses())))
    assert [days for days, first, _again in said if first] == [23.5, 27.5, 29.5, 30.5]
    assert not any(again for _days, _first, again in said), "and never twice"
    with tenant_scope(officer.tenant_id):
        kinds = [event.kind for event in selectors.timeline_of(case)]
    assert kinds.count("reminded") == 4


def test_after_a_silence_one_reminder_is_enough(case: Case, at: Any) -> None:
    at(29.9)
    assert len(addresses()) == 1 and addresses() == []


def test_a_deadline_that_is_moved_reminds_anew_and_one_that_is_met_does_not(
    officer: Actor, case: Case, at: Any
) -> None:
    at(29)
    assert addresses() == [officer.label]
    with tenant_scope(officer.tenant_id):
        deadline = work.deadlines_of(case)[0][0].deadline_id
    due = clock.now() + timedelta(days=2)
    work.set_deadline(actor=officer, case_id=case.pk, label="Report", due=due, deadline_id=deadline)
    assert addresses() == [officer.label]
    work.close_deadline(actor=officer, case_id=case.pk, deadline_id=deadline, state="met")
    at(31)
    assert addresses() == []


def test_only_leads_whom_it_is_not_about_are_reminded(
    acme: Company, officer: Actor, second_officer: Actor, case: Case, colleague: Actor, at: Any
) -> None:
    assert colleague.user_id is not None
    reviewer = acme.actor(acme.reviewer)
    work.set_member(actor=officer, case_id=case.pk, user_id=colleague.user_id, role="lead")
    work.set_member(actor=officer, case_id=case.pk, user_id=acme.reviewer.pk, role="member")
    from audit.cases import opening

    opening.link_records(actor=officer, case_id=case.pk, request_ids=[ask(colleague)], reason="Hers, too.")
    at(29)
    assert addresses() == [officer.label]
    assert reviewer.label not in addresses()


def test_a_closed_case_reminds_nobody(officer: Actor, second_officer: Actor, case: Case, at: Any) -> None:
    decision = decisions.decide(actor=officer, case_id=case.pk, outcome="report", reason="Clear.")
    decisions.sign(
        actor=second_officer, case_id=case.pk, decision_id=decision.id, is_approved=True, reason="Yes."
    )
    at(40)
    assert addresses() == []


def test_the_mail_says_only_that_something_waits(
    officer: Actor, case: Case, at: Any, outbox: list[Any], settings: Any
) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://custos.example"]
    at(29)
    assert awaiting_mail.send(reminders.remind()) == 1
    (sent,) = outbox
    assert sent.to == [officer.label]
    assert sent.body.splitlines()[0] == "A matter awaits you in Custos."
    assert sent.body.splitlines()[-1] == "https://custos.example/t/acme-bank/"
    everything = f"{sent.subject}\n{sent.body}\n{sent.extra_headers}".lower()
    for word in ("case", "案件", case.number, TITLE.lower(), str(case.pk), "deadline", "audit", "report"):
        assert word not in everything, word


def test_without_a_mail_server_none_is_made(case: Case, at: Any, settings: Any, capfd: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    at(29)
    assert awaiting_mail.send(reminders.remind()) == 0
    assert "awaits" not in capfd.readouterr().out


def test_the_worker_reminds() -> None:
    tasks = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert "console.tasks.remind_of_deadlines" in tasks
