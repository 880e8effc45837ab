"""The calendar, its dry run, what officers change there; and the same from the command line."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from audit import secrecy
from audit.record import Handle, Keeping
from audit.retention import calendar, destruction, holds, policies, schedule
from audit.retention.models import Deed, Tombstone
from audit.tree import sequencer
from tenants.access import Actor
from tenants.models import User
from tenants.scope import tenant_scope
from tests.audit.conftest import generation, id_at
from tests.audit.retention.conftest import Clocks, due_at
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/t/acme-bank/audit/retention/"
Browse = Callable[[User], Client]


@pytest.fixture
def browser(acme: Company, client_of: Browse) -> Client:
    return client_of(acme.officer)


def command(*arguments: str) -> Any:
    out = StringIO()
    call_command("retention", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


class TestDryRun:
    def test_is_what_the_run_does(
        self, old: Handle, member: Actor, noon: object, yesterday: date, pass_days: Callable[..., None]
    ) -> None:
        generation(member, request_id=id_at(noon + timedelta(seconds=1)))  # type: ignore[operator]
        destruction.tree.extend(member.tenant_id)
        assert command("run", "--dry-run") == {"acme-bank": []}
        pass_days(yesterday, 7)
        before = command("run", "--dry-run")
        assert command("run", "--dry-run") == before, "it changes nothing"
        with tenant_scope(member.tenant_id):
            assert not Tombstone.objects.exists()
        [went] = command("run")["acme-bank"]
        with tenant_scope(member.tenant_id):
            [tombstone] = Tombstone.objects.all()
        [told] = before["acme-bank"]
        assert told == {
            "keeping": tombstone.keeping,
            "day": tombstone.day.isoformat(),
            "records": tombstone.count,
            "bytes": tombstone.size,
            "first": tombstone.first,
            "last": tombstone.last,
            "root": bytes(tombstone.root).hex(),
        }
        assert (went["records"], went["bytes"]) == (told["records"], told["bytes"]) == (2, 32)
        assert went["statement"] == str(tombstone.statement)
        assert command("run") == {"acme-bank": []}

    def test_is_on_the_page(
        self, old: Handle, yesterday: date, acme: Company, client_of: Browse, pass_days: Callable[..., None]
    ) -> None:
        destruction.tree.extend(old.tenant_id)
        pass_days(yesterday, 7)
        client = client_of(acme.auditor)
        page = client.get(f"{PAGE}?rehearse=yes").text
        root = calendar.rehearsed(acme.actor(acme.auditor))[0].root
        assert root[:16] in page
        destruction.run_all()
        page = client.get(f"{PAGE}?rehearse=yes").text
        assert "Nothing is due that was not destroyed already" in page
        with tenant_scope(old.tenant_id):
            tombstone = Tombstone.objects.get()
        assert f"{PAGE}tombstones/{tombstone.pk}/" in page
        assert "No checkpoint covers it yet" in client.get(f"{PAGE}tombstones/{tombstone.pk}/").text
        sequencer.extend(old.tenant_id, sign_now=True)
        proven = client.get(f"{PAGE}tombstones/{tombstone.pk}/").text
        assert str(tombstone.statement) in proven and bytes(tombstone.root).hex() in proven
        assert "custos" in proven and "Path to the root" in proven

    def test_of_an_unknown_tenant_says_so(self, acme: Company) -> None:
        with pytest.raises(CommandError, match="no tenant"):
            command("plan", "--tenant", "nobody")

    def test_with_clocks_that_disagree_says_so(
        self, old: Handle, acme: Company, clocks: Clocks, browser: Client
    ) -> None:
        clocks.shift(timedelta(), database=timedelta(hours=1))
        with pytest.raises(CommandError, match="clocks disagree"):
            command("run")
        assert "The clocks disagree, so nothing goes" in browser.get(PAGE).text


def test_the_plan_tells_what_goes_in_30_days_and_when(
    old: Handle, yesterday: date, browser: Client, clocks: Clocks
) -> None:
    [row] = [each for each in command("plan")["acme-bank"] if each["keeping"] == "audit"]
    assert (row["day"], row["records"], row["bytes"]) == (yesterday.isoformat(), 1, 16)
    assert (row["due"], row["goes"]) == (due_at(yesterday, 7).isoformat(), None)
    page = browser.get(PAGE).text
    assert f'<th scope="row" class="nowrap">{yesterday}</th>' in page and "Requests and answers" in page


class TestPolicy:
    def test_is_changed_by_an_officer_with_a_reason(self, officer: Actor, browser: Client) -> None:
        answer = browser.post(f"{PAGE}policy", {"keeping": "audit", "days": "30", "reason": "Regulator"})
        assert answer.status_code == 302
        assert policies.in_force(officer.tenant_id)[Keeping.REQUESTS].days == 30
        browser.post(f"{PAGE}policy", {"keeping": "audit", "days": "5", "reason": "Less is better"})
        page = browser.get(PAGE).text
        assert "It counts in a day" in page and "5 days" in page and "officer@acme-bank.example" in page

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"days": "0"}, "greater than or equal to 1"),
            ({"days": "4000"}, "less than or equal to 3650"),
            ({"reason": " "}, "State a reason"),
            ({"keeping": "chat"}, "not one of the available choices"),
        ],
    )
    def test_that_makes_no_sense_is_refused_at_its_field(
        self, browser: Client, officer: Actor, values: dict[str, str], words: str
    ) -> None:
        answer = browser.post(f"{PAGE}policy", {"keeping": "audit", "days": "9", "reason": "r", **values})
        assert (answer.status_code, words in answer.text) == (422, True)
        assert policies.in_force(officer.tenant_id)[Keeping.REQUESTS].days == 7

    def test_is_seen_and_not_changed_by_the_others(self, acme: Company, client_of: Browse) -> None:
        for person in (acme.reviewer, acme.auditor):
            client = client_of(person)
            page = client.get(PAGE)
            assert page.status_code == 200 and "Change it" not in page.text
            assert client.post(f"{PAGE}policy", {"keeping": "audit", "days": "1"}).status_code == 404


def test_waiting_days_are_shown(old: Handle, browser: Client, clocks: Clocks) -> None:
    clocks.shift(timedelta(days=100))
    destruction.run_all()
    page = browser.get(PAGE).text
    assert "1 day is due and was not announced" in page and "nobody can shorten that" in page
    clocks.shift(timedelta(days=101, minutes=1))
    assert destruction.run_all() == 1
    assert "was not announced" not in browser.get(PAGE).text


def test_an_erasure_from_asking_to_done(
    acme: Company,
    member: Actor,
    second_officer: Actor,
    browser: Client,
    client_of: Browse,
    clocks: Clocks,
) -> None:
    generation(member)
    asked = {"person": "nobody@x.example", "basis": "gdpr_17", "metadata": "kept", "reason": "They asked"}
    assert "no record of one" in browser.post(f"{PAGE}erasures/", asked).text
    answer = browser.post(f"{PAGE}erasures/", {**asked, "person": "Member@acme-bank.example"})
    assert answer.status_code == 302
    page = browser.get(answer.url).text
    assert "member@acme-bank.example" in page and "They asked" in page and 'value="approve"' not in page
    assert "Somebody else decides" in browser.post(answer.url, {"outcome": "approve", "reason": "me"}).text
    other = client_of(User.objects.get(pk=second_officer.user_id))
    assert 'value="approve"' in other.get(answer.url).text
    assert other.post(answer.url, {"outcome": "approve", "reason": "Agreed"}).status_code == 302
    clocks.shift(timedelta(hours=25))
    destruction.run_all()
    page = browser.get(answer.url).text
    assert "Erased records" in page and "Agreed" in page
    assert "member@acme-bank.example" in browser.get(f"{PAGE}erasures/").text
    opened = client_of(acme.reviewer).post(
        f"/t/acme-bank/audit/{_only_record(member)}/", {"reason": "Routine sample"}
    )
    assert "The content was erased on request" in opened.text


def _only_record(actor: Actor) -> object:
    from audit.models import AuditRecord

    with tenant_scope(actor.tenant_id):
        return AuditRecord.objects.get(kind="generation").id


class TestHeld:
    @pytest.fixture
    def case_id(self, officer: Actor, monkeypatch: pytest.MonkeyPatch) -> object:
        found = uuid4()
        monkeypatch.setattr(
            secrecy, "_insides", [lambda actor: {found} if actor.user_id == officer.user_id else set()]
        )
        return found

    def test_nobody_outside_of_the_case_sees_any_of_it(
        self,
        case_id: Any,
        old: Handle,
        acme: Company,
        officer: Actor,
        second_officer: Actor,
        client_of: Browse,
    ) -> None:
        outside = [acme.reviewer, acme.auditor, User.objects.get(pk=second_officer.user_id)]
        clients = [client_of(each) for each in outside]
        before = [_plain(client.get(PAGE).text) for client in clients]
        holds.place(actor=officer, request_ids=[old.request_id], case_id=case_id, reason="Evidence")
        assert [_plain(client.get(PAGE).text) for client in clients] == before
        for client in clients:
            assert client.get(f"{PAGE}held/{case_id}/").status_code == 404
        page = client_of(acme.officer).get(PAGE).text
        assert str(case_id) in page and "Held for cases" in page

    def test_release_is_asked_for_on_its_page_and_hidden_from_others(
        self,
        case_id: Any,
        old: Handle,
        acme: Company,
        officer: Actor,
        second_officer: Actor,
        client_of: Browse,
    ) -> None:
        holds.place(actor=officer, request_ids=[old.request_id], case_id=case_id, reason="Evidence")
        client = client_of(acme.officer)
        assert "member@acme-bank.example" in client.get(f"{PAGE}held/{case_id}/").text
        answer = client.post(f"{PAGE}held/{case_id}/", {"reason": "The case is closed"})
        assert answer.status_code == 302
        assert "The case is closed" in client.get(answer.url).text
        other = client_of(User.objects.get(pk=second_officer.user_id))
        assert other.get(answer.url).status_code == 404
        assert client.post(answer.url, {"outcome": "withdraw", "reason": "Not yet"}).status_code == 302
        with tenant_scope(officer.tenant_id):
            assert Deed.objects.get().verdicts.count() == 1


def _plain(page: str) -> str:
    """A page without what differs from one request to the next."""
    import re

    return re.sub(r'(csrfmiddlewaretoken" value=|nonce=|data-token=)"[^"]*"|csrf[^"]*"[^"]*"', "", page)


def test_the_worker_runs_it(old: Handle, yesterday: date, pass_days: Callable[..., None]) -> None:
    from audit.retention import tasks
    from console.celery import app

    assert app.conf.beat_schedule["retention"] == {
        "task": "audit.retention.tasks.let_go",
        "schedule": 300.0,
    }
    pass_days(yesterday, 7)
    tasks.let_go()
    assert schedule.ready(old.tenant_id, schedule.now()) == []
    with tenant_scope(old.tenant_id):
        assert Tombstone.objects.count() == 1
