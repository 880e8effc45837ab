"""The pages of cases, as those inside use them, without scripts."""

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from uuid import UUID
from zipfile import ZipFile

import psycopg
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client

from audit.cases import attachments, decisions, work
from audit.cases.models import Case
from audit.models import AuditRecord
from audit.retention import holds
from tenants import clock, envelope
from tenants.access import Actor
from tenants.ids import day_of
from tenants.models import DestroyedKey, User
from tenants.scope import tenant_scope
from tests.audit.cases.conftest import (
    ANSWER,
    QUESTION,
    TITLE,
    ask,
    asked,
    case,
    colleague,
    officer,
    open_case,
    second_officer,
)
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

__all__ = ["asked", "case", "colleague", "officer", "second_officer"]  # Fixtures of the cases' own tests.

CASES = "/t/acme-bank/audit/cases/"


@pytest.fixture
def browser(acme: Company, client_of: Callable[[User], Client]) -> Client:
    return client_of(acme.officer)


@pytest.fixture
def second(second_officer: Actor, client_of: Callable[[User], Client]) -> Client:
    return client_of(User.objects.get(pk=second_officer.user_id))


def path(case: Case, rest: str = "") -> str:
    return f"{CASES}{case.pk}/{rest}"


def act(browser: Client, case: Case, action: str, **data: object) -> HttpResponse:
    return browser.post(path(case, f"act/{action}"), data, follow=True)


@pytest.fixture
def full(officer: Actor, second_officer: Actor, case: Case) -> Case:
    """The case with something of everything, and a second decision that waits."""
    attachments.attach(actor=officer, case_id=case.pk, name="statement.txt", content=b"figures")
    for verdict in (False, None):
        taken = decisions.decide(actor=officer, case_id=case.pk, outcome="report", reason="A pattern.")
        if verdict is not None:
            decisions.sign(
                actor=second_officer, case_id=case.pk, decision_id=taken.id, is_approved=verdict, reason="No."
            )
    return case


# Where the words of a case lie, and how many of them its page shows.
SEALED = {
    "caseversion": "sealed",
    "caseevent": "sealed",
    "caserecord": "sealed",
    "casedeadline": "sealed",
    "casefile": "facts",
    "casedecision": "sealed",
    "casesignature": "sealed",
    "casereading": "sealed",
}


class TestAltered:
    @pytest.mark.parametrize("table", SEALED)
    def test_what_was_altered_is_named_at_its_place_and_the_rest_stays(
        self, table: str, second: Client, full: Case, owner: psycopg.Connection
    ) -> None:
        second.get(path(full))  # A reading.
        column = SEALED[table]
        owner.execute(
            f"UPDATE audit_cases_{table} SET {column} = set_bit({column}, 200, 1 - get_bit({column}, 200))"
        )
        answer = second.get(path(full))
        assert answer.status_code == 200 and "This was altered in the database" in answer.text
        assert (TITLE in answer.text) == (table != "caseversion") and full.number in answer.text
        assert second.get(CASES).status_code == 200
        for form, name in (("jsonl", "altered"), ("pdf", "")):
            report = second.post(path(full, "report"), {"form": form, "language": "en"})
            assert report.status_code == 200
            if name and table != "casereading":
                assert any(json.loads(line).get("lost", name) == name for line in report.content.splitlines())

    def test_a_decision_that_was_altered_is_sent_back_and_never_signed(
        self, second: Client, full: Case, owner: psycopg.Connection
    ) -> None:
        owner.execute(
            "UPDATE audit_cases_casedecision SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200))"
        )
        owner.execute(
            "UPDATE audit_cases_caseversion SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200))"
        )
        (waiting,) = re.findall(r'name="decision_id" value="([^"]+)"', second.get(path(full)).text)
        signed = act(second, full, "sign", decision_id=waiting, verdict="approve", reason="I agree.")
        assert signed.status_code == 422 and "Send it back" in signed.text
        back = act(second, full, "sign", decision_id=waiting, verdict="return", reason="Altered.")
        assert "Your signature was recorded." in back.text
        assert "This was altered in the database" in back.text, "moving on does not make the old words good"
        details = {"title": "Anew", "summary": "x", "typology": "other", "severity": "high"}
        details["owner_id"] = str(full.opened_by_id)
        form = second.get(path(full, "details/")).text
        (details["expected"],) = re.findall(r'name="expected" value="([^"]+)"', form)
        assert second.post(path(full, "details/"), details).status_code == 302
        assert "Anew" in second.get(path(full)).text

    def test_a_file_that_was_altered_is_not_given_out(
        self, browser: Client, officer: Actor, case: Case, owner: psycopg.Connection
    ) -> None:
        file = attachments.attach(actor=officer, case_id=case.pk, name="a.txt", content=b"figures")
        owner.execute(
            "UPDATE audit_cases_casefile SET content = set_bit(content, 200, 1 - get_bit(content, 200))"
        )
        answer = browser.get(path(case, f"files/{file.id}"), follow=True)
        assert "not what was attached" in answer.text

    def test_without_its_key_a_case_shows_what_is_left_and_takes_nothing_more(
        self, second: Client, full: Case, owner: psycopg.Connection
    ) -> None:
        # No part of Custos could: the key of a case is never due.
        place = {"purpose": f"case:{full.pk}", "day": day_of(full.pk)}
        with tenant_scope(full.tenant_id):
            gone = DestroyedKey(tenant_id=full.tenant_id, reason=DestroyedKey.Reason.RETENTION, **place)
        owner.execute(
            "INSERT INTO tenants_destroyedkey (id, tenant_id, purpose, day, reason, destroyed) "
            "VALUES (%s, %s, %s, %s, %s, now())",
            [gone.pk, full.tenant_id, place["purpose"], place["day"], gone.reason],
        )
        owner.execute("DELETE FROM tenants_datakey WHERE purpose = %s", [place["purpose"]])
        envelope.cache.clear()
        answer = second.get(path(full))
        assert answer.status_code == 200 and "The key of this was destroyed" in answer.text
        assert second.get(CASES).status_code == 200
        refused = act(second, full, "note", text="More.")
        assert refused.status_code == 422 and "nothing can be written into it" in refused.text


class TestLists:
    def test_an_empty_list_says_how_a_case_is_opened(self, browser: Client) -> None:
        page = browser.get(CASES).text
        assert "No case for you here" in page and f'href="{CASES}new/"' in page
        assert "Nothing waits for your signature" in browser.get(CASES, {"show": "signature"}).text
        assert "Nothing is due within seven days" in browser.get(CASES, {"show": "due"}).text

    def test_what_is_due_comes_first_and_lists_are_narrowed(
        self, browser: Client, officer: Actor, case: Case, second_officer: Actor
    ) -> None:
        later = open_case(officer, title="Another matter", days_to_report=None)
        page = browser.get(CASES).text
        assert page.index(TITLE) < page.index("Another matter")
        assert "Another matter" not in browser.get(CASES, {"q": "counter"}).text
        assert later.number in browser.get(CASES, {"q": later.number}).text
        assert TITLE not in browser.get(CASES, {"show": "due"}).text
        work.set_deadline(actor=officer, case_id=later.pk, label="Soon", due=clock.now() + timedelta(days=2))
        page = browser.get(CASES, {"show": "due"}).text
        assert "Another matter" in page and "Soon" in page
        assert "No case matches" in browser.get(CASES, {"show": "closed"}).text

    def test_the_list_is_taken_as_a_table_which_is_known_inside_each_case_alone(
        self, browser: Client, officer: Actor, case: Case, client_of: Callable[[User], Client], acme: Company
    ) -> None:
        open_case(officer, title="=SUM(A1)", days_to_report=None)
        assert "format=csv" in browser.get(CASES).text
        answer = browser.get(CASES, {"format": "csv"})
        assert answer.headers["Cache-Control"] == "no-store"
        rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert [row["Title"] for row in rows] == [TITLE, "'=SUM(A1)"]
        assert (rows[0]["Number"], rows[0]["Records"]) == (case.number, "1")
        (only,) = csv.DictReader(
            io.StringIO(browser.get(CASES, {"format": "csv", "q": "counter"}).content.decode("utf-8-sig"))
        )
        assert only["Number"] == case.number
        assert "Exported in a list of cases" in browser.get(path(case)).text
        with tenant_scope(acme.tenant.pk):
            exports = AuditRecord.objects.filter(kind="audit.export")
            assert exports.count() == 3 and not exports.filter(confined_to=None).exists()
        outside = client_of(acme.reviewer).get(CASES, {"format": "csv"})
        assert outside.content.decode("utf-8-sig").count("\n") == 1, "the heading alone"
        assert client_of(acme.administrator).get(CASES, {"format": "csv"}).status_code == 404

    def test_decisions_that_wait_for_me_are_counted_and_those_of_mine_are_not(
        self, browser: Client, second: Client, officer: Actor, case: Case
    ) -> None:
        decisions.decide(actor=officer, case_id=case.pk, outcome="report", reason="Clear.")
        assert "1 decision waits for your signature." in second.get(CASES).text
        assert "yours to sign" in second.get(CASES, {"show": "signature"}).text
        assert "waits for your signature." not in browser.get(CASES).text


class TestOpening:
    def test_from_ticked_records(self, browser: Client, acme: Company, asked: UUID) -> None:
        other = ask(acme.actor(acme.curator))
        answer = browser.post(f"{CASES}join", {"selected": [str(asked), str(other)]})
        assert answer.status_code == 302 and answer.headers["Location"].startswith(f"{CASES}new/?record=")
        form = browser.get(answer.headers["Location"]).text
        assert form.count('name="selected"') == 2
        data = {
            "selected": [str(asked), str(other)],
            "title": "Two that belong together",
            "typology": "fraud",
            "severity": "high",
            "reason": "Same words.",
            "days_to_report": "10",
        }
        page = browser.post(f"{CASES}new/", data, follow=True).text
        assert re.search(r"The case \d{4}-\d{6} was opened\.", page)
        assert page.count("Same words.") >= 2
        joined = browser.post(f"{CASES}join", {"selected": str(ask(acme.actor(acme.member)))}).text
        assert "Two that belong together" in joined and "Open a new case with them" in joined

    def test_more_records_join_a_case(self, browser: Client, acme: Company, case: Case) -> None:
        other = str(ask(acme.actor(acme.curator)))
        page = browser.post(f"{CASES}join", {"selected": other, "reason": "Alike."})
        assert page.status_code == 422 and "Choose a case, or open a new one." in page.text
        data = {"selected": other, "reason": "Alike.", "case_id": str(case.pk)}
        assert "1 record joined the case." in browser.post(f"{CASES}join", data, follow=True).text

    def test_what_is_refused_stands_at_its_field_and_nothing_typed_is_lost(
        self, browser: Client, acme: Company, asked: UUID
    ) -> None:
        data = {
            "selected": str(asked),
            "title": "",
            "summary": "typed",
            "typology": "fraud",
            "severity": "low",
        }
        page = browser.post(f"{CASES}new/", data)
        assert page.status_code == 422 and "typed" in page.text and 'id="id_title_error"' in page.text
        assert str(asked) in page.text, "the records are still there"

    def test_without_a_selection_one_is_sent_back(self, browser: Client) -> None:
        page = browser.post(f"{CASES}join", follow=True).text
        assert "Select at least one record first." in page


class TestOne:
    def test_it_shows_all_there_is_and_every_look_is_listed(
        self, browser: Client, case: Case, asked: UUID
    ) -> None:
        page = browser.get(path(case)).text
        for words in (
            TITLE,
            case.number,
            "Several deposits",
            "Asks how to avoid a report.",
            "Structuring below",
        ):
            assert words in page
        assert page.count("Opened the case") == 1
        assert QUESTION not in page, "records open one by one"
        record = browser.get(path(case, f"records/{asked}/")).text
        assert QUESTION in record and ANSWER in record

    def test_notes_and_refusals(self, browser: Client, case: Case) -> None:
        page = act(browser, case, "note", text="First line\nSecond <b>line</b>")
        assert "The note was written." in page.text and "Second &lt;b&gt;line&lt;/b&gt;" in page.text
        page = act(browser, case, "link", request_id="nonsense", reason="typed reason")
        assert page.status_code == 422 and "This is no request id." in page.text
        assert "typed reason" in page.text
        ids = re.findall(r' id="([^"]+)"', page.text)
        assert len(ids) == len(set(ids)), "no two things have one id"

    def test_files_are_downloads_that_no_browser_shows(self, browser: Client, case: Case) -> None:
        sent = SimpleUploadedFile('证据 "a".html', b"<script>alert(1)</script>", content_type="text/html")
        page = act(browser, case, "file", file=sent)
        assert "The file was attached." in page.text
        link = re.search(r'href="([^"]+/files/[^"]+)"', page.text)
        assert link is not None
        answer = browser.get(link[1])
        assert answer.content == b"<script>alert(1)</script>"
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Disposition"].startswith("attachment;")
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Downloaded a file" in browser.get(path(case)).text

    def test_a_file_stays_in_memory_and_a_larger_one_is_refused(
        self, browser: Client, case: Case, settings: object
    ) -> None:
        large = SimpleUploadedFile("large.bin", b"x" * (12 * 1024 * 1024))
        page = act(browser, case, "file", file=large)
        assert page.status_code == 422 and "Choose a file of at most 10 MB." in page.text

    def test_members_come_and_go(
        self, browser: Client, case: Case, colleague: Actor, client_of: Callable[[User], Client]
    ) -> None:
        theirs = client_of(User.objects.get(pk=colleague.user_id))
        assert theirs.get(path(case)).status_code == 404
        page = act(browser, case, "member", user_id=str(colleague.user_id), role="approver")
        assert "The member was put in." in page.text
        assert theirs.get(path(case)).status_code == 200
        act(browser, case, "member-remove", user_id=str(colleague.user_id))
        assert theirs.get(path(case)).status_code == 404
        assert "No case for you here" in theirs.get(CASES).text

    def test_deadlines(self, browser: Client, case: Case) -> None:
        day = (clock.now() + timedelta(days=5)).strftime("%Y-%m-%d")
        page = act(browser, case, "deadline", label="Answer the bank", due=day).text
        assert "Answer the bank" in page
        found = re.search(r'name="deadline_id" value="([^"]+)"', page)
        assert found is not None
        page = act(browser, case, "deadline-end", deadline_id=found[1], state="dropped")
        assert page.status_code == 422 and "State why the deadline is dropped." in page.text
        assert (
            "The deadline was closed."
            in act(browser, case, "deadline-end", deadline_id=found[1], state="met").text
        )

    def test_a_change_upon_an_old_page_is_a_conflict(
        self, browser: Client, officer: Actor, case: Case
    ) -> None:
        page = browser.get(path(case, "details/")).text
        expected = re.search(r'name="expected" value="(\d+)"', page)
        assert expected is not None
        data = {
            "title": "Mine",
            "summary": "",
            "typology": "fraud",
            "severity": "low",
            "owner_id": str(officer.user_id),
            "expected": expected[1],
        }
        assert "The case was changed." in browser.post(path(case, "details/"), data, follow=True).text
        again = browser.post(path(case, "details/"), {**data, "title": "Theirs"})
        assert again.status_code == 422 and "Somebody changed the case meanwhile." in again.text
        assert "Theirs" in again.text

    def test_the_whole_way_to_a_signature(self, browser: Client, second: Client, case: Case) -> None:
        assert "The review has begun." in act(browser, case, "review").text
        seq = re.search(r'name="expected" value="(\d+)"', browser.get(path(case)).text)
        assert seq is not None
        page = act(browser, case, "decide", outcome="report", reason="Clear pattern.", expected=seq[1]).text
        assert "You took this decision yourself" in page and "Record my signature" not in page
        waiting = re.search(r'name="decision_id" value="([^"]+)"', second.get(path(case)).text)
        assert waiting is not None
        own = act(browser, case, "sign", decision_id=waiting[1], verdict="approve", reason="Me too.")
        assert own.status_code == 422
        page = act(second, case, "sign", decision_id=waiting[1], verdict="approve", reason="I agree.").text
        assert "Closed, reported" in page and "I agree." in page
        again = act(second, case, "sign", decision_id=waiting[1], verdict="approve", reason="Again.")
        assert again.status_code == 422
        assert "The case was reopened." in act(browser, case, "reopen", reason="New facts.").text

    def test_what_it_holds_is_released_by_two_people_and_can_be_held_again(
        self, browser: Client, second: Client, officer: Actor, case: Case, owner: psycopg.Connection
    ) -> None:
        page = browser.get(path(case)).text
        held = browser.get(f"/t/acme-bank/audit/retention/held/{case.pk}/").text
        assert f'href="{path(case)}">{case.number}</a>' in held
        assert f">{case.number}</a>" in browser.get("/t/acme-bank/audit/retention/").text
        assert "1 record is held" in page and "Two people release what is held" in page
        assert "Asked for. Somebody else decides it." in act(browser, case, "release", reason="Done.").text
        again = act(browser, case, "release", reason="Done.")
        assert again.status_code == 422 and "asked for already" in again.text
        assert "Decide it" not in browser.get(path(case)).text
        assert "Decide it" in second.get(path(case)).text
        assert act(browser, case, "hold", reason="Again.").status_code == 422
        owner.execute("DELETE FROM audit_hold")
        page = browser.get(path(case)).text
        assert "Nothing is held" in page and "Hold 1 record" in page
        assert "The records are held." in act(browser, case, "hold", reason="We need it.").text
        with tenant_scope(case.tenant_id):
            assert len(holds.of(officer, case.pk)) == 1

    def test_an_action_that_is_none_is_not_there(self, browser: Client, case: Case) -> None:
        assert browser.post(path(case, "act/destroy")).status_code == 404

    def test_nothing_is_shown_when_it_cannot_be_recorded(
        self, browser: Client, case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from audit.cases import readings
        from audit.record import AuditUnavailable

        def refuse(**_: object) -> None:
            raise AuditUnavailable("down")

        monkeypatch.setattr(readings, "record_event", refuse)
        for address in (CASES, path(case), path(case, "details/")):
            answer = browser.get(address)
            assert answer.status_code == 503 and TITLE not in answer.text
            assert "This could not be recorded" in answer.text

    def test_the_report_is_a_download(self, browser: Client, case: Case) -> None:
        for form, start in (("pdf", b"%PDF-"), ("jsonl", b'{"type":"case"')):
            answer = browser.post(path(case, "report"), {"form": form, "language": "zh-hans"})
            assert answer.status_code == 200 and answer.content.startswith(start)
            assert f"case-{case.number}.{form}" in answer.headers["Content-Disposition"]
        lines = [json.loads(line) for line in answer.content.splitlines()]
        assert lines[-1]["type"] == "end"
        assert browser.get(path(case)).text.count("Made a report") == 2
        assert (
            browser.post(path(case, "report"), {"form": "exe"}, follow=True).text.count(
                "Choose PDF or JSONL."
            )
            == 1
        )

    def test_the_export_with_proof_is_known_only_inside(
        self, browser: Client, acme: Company, case: Case, asked: UUID
    ) -> None:
        answer = browser.post(path(case, "report"), {"form": "bundle"})
        assert answer.headers["Content-Type"] == "application/zip"
        with ZipFile(BytesIO(answer.content)) as bundle:
            (line,) = bundle.read("records.jsonl").splitlines()
        assert json.loads(line)["request_id"] == str(asked)
        assert "Exported with proof" in browser.get(path(case)).text
        with tenant_scope(acme.tenant.pk):
            exports = AuditRecord.objects.filter(kind="audit.export")
            assert exports.count() == 2 and not exports.exclude(confined_to=case.pk).exists()

    def test_it_speaks_chinese(self, browser: Client, case: Case) -> None:
        browser.post("/language/", {"language": "zh-hans", "next": "/"})
        assert browser.get(path(case)).status_code == 200
