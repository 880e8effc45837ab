"""The search page: words in the content, for a reason, recorded; and what was searched for stays out of addresses."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote
from uuid import UUID

import pytest
from django.test import Client

from audit import selectors
from audit.record import AuditUnavailable, record_event
from audit.search import engine, export, saved
from audit.search.asked import Asked
from audit.selectors import RecordFilters
from console.pages.audit import export_progress
from tenants import clock, envelope
from tenants.access import NotVisible
from tenants.errors import Refused
from tenants.ids import uuid7
from tenants.models import CustomRole, Membership, User
from tenants.scope import tenant_scope
from tests.audit.conftest import generation, id_at
from tests.conftest import Company, make_user

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/t/acme-bank/audit/"
EXPORT = f"{LIST}export"
SAVED = f"{LIST}saved/"
SECRET = "harbour"


@pytest.fixture
def said(acme: Company) -> list[str]:
    """Three answers to Acme's member; the first two speak of a harbour, in one the word is markup."""
    texts = ["The <b>harbour</b> belongs to nobody.", "A harbour, a ship & a =SUM(A1).", "受益所有人是谁？"]
    asked = [[{"role": "user", "content": f"Question {number}"}] for number in range(3)]
    made = [
        generation(acme.actor(acme.member), texts=(text,), input=asked[i]) for i, text in enumerate(texts)
    ]
    return [str(handle.request_id) for handle in made]


def search(browser: Client, text: str, reason: str = "Routine sample", **values: str) -> Any:
    return browser.post(LIST, {"text": text, "reason": reason, **values}, follow=True)


def events(company: Company, kind: str) -> list[Any]:
    """The details of the events of a kind, newest first."""
    actor = company.actor(company.officer)
    found = selectors.list_records(actor, RecordFilters(kinds=(kind,))).records
    return [view.input for view in selectors.views(actor, [each.id for each in found])]


def body(answer: Any) -> bytes:
    return b"".join(answer.streaming_content) if not answer.is_async else b"".join(answer)


class TestSearching:
    def test_finds_words_and_shows_where_as_text(self, said: list[str], reviewer_browser: Client) -> None:
        page = search(reviewer_browser, SECRET)
        assert [str(hit.summary.id) for hit in page.context["hits"]] == [said[1], said[0]]
        assert "&lt;b&gt;<mark>harbour</mark>&lt;/b&gt;" in page.text
        assert "<b>harbour" not in page.text
        assert "2 records" in page.text

    def test_finds_chinese(self, said: list[str], reviewer_browser: Client) -> None:
        page = search(reviewer_browser, "所有人")
        assert [str(hit.summary.id) for hit in page.context["hits"]] == [said[2]]
        assert "<mark>所有人</mark>" in page.text

    def test_asks_for_a_reason_once(self, acme: Company, said: list[str], reviewer_browser: Client) -> None:
        refused = reviewer_browser.post(LIST, {"text": SECRET, "reason": " "})
        assert refused.status_code == 422
        assert "A search needs a reason" in refused.text and "<mark>" not in refused.text
        assert events(acme, engine.SEARCH) == []
        search(reviewer_browser, SECRET, "Case 7")
        assert 'value="Case 7"' in reviewer_browser.get(LIST).text

    def test_is_recorded_with_words_and_reason(
        self, acme: Company, said: list[str], reviewer_browser: Client
    ) -> None:
        search(reviewer_browser, SECRET, "Case 7", status="completed")
        (event,) = events(acme, engine.SEARCH)
        assert event["reason"] == "Case 7"
        assert (event["search"]["text"], event["search"]["status"]) == (SECRET, "completed")

    def test_shows_nothing_that_is_not_recorded(self, said: list[str], reviewer_browser: Client) -> None:
        with patch("audit.search.engine.record_event", side_effect=AuditUnavailable):
            page = search(reviewer_browser, SECRET)
        assert page.status_code == 503
        assert "could not be recorded" in page.text and "<mark>" not in page.text

    def test_says_what_is_wrong_with_words_that_ask_nothing(self, reviewer_browser: Client) -> None:
        page = search(reviewer_browser, '"beneficial owner')
        assert page.status_code == 422
        assert "cannot be searched for" in page.text and "is not closed" in page.text

    def test_says_that_it_takes_too_long(self, reviewer_browser: Client) -> None:
        with patch("audit.search.engine._Run.page", side_effect=engine.SearchTooSlow("Add a rarer word.")):
            page = search(reviewer_browser, SECRET)
        assert page.status_code == 503
        assert "This takes too long" in page.text and "Add a rarer word." in page.text

    def test_says_what_to_try_when_nothing_is_found(self, said: list[str], reviewer_browser: Client) -> None:
        page = search(reviewer_browser, "lighthouse")
        assert "Nothing has these words" in page.text and "launder*" in page.text

    def test_pages_follow_and_are_recorded_once(
        self, acme: Company, said: list[str], reviewer_browser: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("console.pages.audit.records.PAGE_SIZE", 1)
        first = search(reviewer_browser, SECRET)
        second = reviewer_browser.get(f"{LIST}?{first.context['older_query']}")
        found = [str(page.context["hits"][0].summary.id) for page in (first, second)]
        assert found == [said[1], said[0]]
        assert second.context["older_query"] == ""
        assert len(events(acme, engine.SEARCH)) == 1

    def test_is_for_nobody_who_may_not_read(
        self, acme: Company, said: list[str], client_of: Callable[[User], Client]
    ) -> None:
        auditor = client_of(acme.auditor)
        page = search(auditor, SECRET)
        assert 'id="text"' not in page.text and "<mark>" not in page.text
        assert page.text.count('class="linked"') == 3, "the control: the list is theirs"
        assert events(acme, engine.SEARCH) == []

    def test_does_not_reach_another_tenant(
        self, said: list[str], north: Company, client_of: Callable[[User], Client]
    ) -> None:
        page = client_of(north.reviewer).post(
            "/t/north-fund/audit/", {"text": SECRET, "reason": "x"}, follow=True
        )
        assert "Nothing has these words" in page.text


class TestAddresses:
    def test_hold_no_words_and_no_person(self, said: list[str], reviewer_browser: Client) -> None:
        page = search(reviewer_browser, SECRET, user="member@acme-bank.example")
        (address, status), *_ = page.redirect_chain
        assert status == 302 and "?s=" in address
        links = re.findall(r'(?:href|action|formaction)="([^"]*)"', page.text)
        assert any("?s=" in link for link in links), "the control: the results are linked to"
        for link in [address, *links]:
            assert SECRET not in unquote(link) and "member%40" not in link and "member@" not in unquote(link)
        assert SECRET not in re.findall(r"<title>(.*?)</title>", page.text, re.DOTALL)[0]

    def test_are_of_the_one_who_searched(
        self, acme: Company, said: list[str], reviewer_browser: Client, client_of: Callable[[User], Client]
    ) -> None:
        address = search(reviewer_browser, SECRET).redirect_chain[0][0]
        again = reviewer_browser.get(address)
        assert "<mark>harbour</mark>" in again.text
        others = client_of(acme.officer).get(address)
        assert "holds no search of yours" in others.text and SECRET not in others.text

    @pytest.mark.parametrize("reference", ["x", "20261128", "20261128AAAA", "99999999zzzz", "二〇二六"])
    def test_that_hold_nothing_readable_are_told(self, reference: str, reviewer_browser: Client) -> None:
        page = reviewer_browser.get(LIST, {"s": reference})
        assert page.status_code == 200
        assert "holds no search of yours" in page.text

    def test_of_a_search_ask_for_a_reason_where_none_is_kept(
        self, acme: Company, said: list[str], reviewer_browser: Client, client_of: Callable[[User], Client]
    ) -> None:
        address = search(reviewer_browser, SECRET).redirect_chain[0][0]
        page = client_of(acme.reviewer).get(address)
        assert "A search needs a reason" in page.text and "<mark>" not in page.text


class TestRecord:
    def test_marks_what_was_searched_for(self, said: list[str], reviewer_browser: Client) -> None:
        address = search(reviewer_browser, SECRET).redirect_chain[0][0]
        page = reviewer_browser.post(f"{LIST}{said[0]}/?{address.split('?')[1]}", {"kept": "yes"})
        assert "The &lt;b&gt;<mark>harbour</mark>&lt;/b&gt; belongs" in page.text
        plain = reviewer_browser.post(f"{LIST}{said[0]}/", {"reason": "x"})
        assert "<mark>" not in plain.text

    @pytest.mark.parametrize("sort", ["", "oldest"])
    @pytest.mark.parametrize("text", ["", SECRET])
    def test_leads_to_its_neighbours(
        self, text: str, sort: str, acme: Company, said: list[str], reviewer_browser: Client
    ) -> None:
        more = [str(generation(acme.actor(acme.member), texts=("harbour",)).request_id) for _ in range(2)]
        ids = [*said[:2], *([] if text else said[2:]), *more]
        in_order = ids if sort else ids[::-1]
        page = search(reviewer_browser, text, sort=sort, user="member@acme-bank.example")
        query = page.redirect_chain[0][0].split("?")[1]
        for at, request_id in enumerate(in_order):
            record = reviewer_browser.get(f"{LIST}{request_id}/?{query}")
            found = record.context["neighbours"]
            assert str(found.before) == (in_order[at - 1] if at else "None")
            assert str(found.after) == (in_order[at + 1] if at + 1 < len(in_order) else "None")

    def test_has_no_neighbours_in_a_search_that_was_never_run(
        self, acme: Company, said: list[str], reviewer_browser: Client
    ) -> None:
        """They would tell what it finds, with nothing recorded."""
        address = reviewer_browser.post(LIST, {"text": SECRET, "reason": "x"}).headers["Location"]
        query = address.split("?")[1]
        record = reviewer_browser.get(f"{LIST}{said[2]}/?{query}")
        assert events(acme, engine.SEARCH) == []
        assert record.status_code == 200 and record.context["neighbours"] is None
        assert said[1] not in record.text
        reviewer_browser.get(address)
        assert len(events(acme, engine.SEARCH)) == 1
        record = reviewer_browser.get(f"{LIST}{said[2]}/?{query}")
        assert str(record.context["neighbours"].after) == said[1]
        assert SECRET not in str(dict(reviewer_browser.session))

    def test_is_not_opened_for_a_reason_that_was_never_stated(
        self, acme: Company, said: list[str], reviewer_browser: Client
    ) -> None:
        page = reviewer_browser.post(f"{LIST}{said[0]}/", {"kept": "yes"})
        assert "State a reason" in page.text and SECRET not in page.text
        assert events(acme, selectors.READ) == []


class TestSaved:
    def save(self, browser: Client, name: str = "Harbours", **values: str) -> Any:
        address = search(browser, SECRET, when="7d").redirect_chain[0][0]
        return browser.post(SAVED, {"s": address.split("s=")[1], "name": name, **values}, follow=True)

    def test_are_run_renamed_and_deleted_with_a_way_back(
        self, acme: Company, said: list[str], reviewer_browser: Client
    ) -> None:
        page = self.save(reviewer_browser)
        assert page.text.count("<mark>harbour</mark>") == 2, "it is run at once"
        listed = reviewer_browser.get(SAVED).text
        assert "Harbours" in listed and "<code" in listed and "Last 7 days" in listed
        saved_id = re.findall(r"\?saved=([0-9a-f-]+)", listed)[0]
        reviewer_browser.post(f"{SAVED}{saved_id}/", {"name": "Ports"})
        assert "Ports" in reviewer_browser.get(LIST).text
        removed = reviewer_browser.post(f"{SAVED}{saved_id}/remove", follow=True)
        assert "“Ports” is deleted" in removed.text and "No saved search yet" in removed.text
        assert reviewer_browser.get(f"{LIST}?saved={saved_id}").status_code == 404
        back = reviewer_browser.post(f"{SAVED}{saved_id}/restore", follow=True)
        assert "It is back." in back.text and "Ports" in back.text
        kinds = (
            "saved_search.created",
            "saved_search.changed",
            "saved_search.deleted",
            "saved_search.restored",
        )
        assert [len(events(acme, kind)) for kind in kinds] == [1, 1, 1, 1]
        assert SECRET not in str([events(acme, kind) for kind in kinds]), "how it is used, not what for"

    def test_lie_sealed(self, acme: Company, said: list[str], reviewer_browser: Client, owner: Any) -> None:
        self.save(reviewer_browser)
        rows = owner.execute("SELECT * FROM audit_saved_search").fetchall()
        assert len(rows) == 1
        assert SECRET.encode() not in bytes(rows[0].__repr__(), "utf-8") and "Harbours" not in repr(rows[0])

    def test_are_private_until_they_are_shared(
        self, acme: Company, said: list[str], reviewer_browser: Client, client_of: Callable[[User], Client]
    ) -> None:
        officer = client_of(acme.officer)
        self.save(reviewer_browser)
        assert "Harbours" not in officer.get(SAVED).text
        self.save(reviewer_browser, "Shared", shared="on")
        listed = officer.get(SAVED).text
        assert "Shared by reviewer@acme-bank.example" in listed and "Harbours" not in listed

    def test_have_a_name_once(self, said: list[str], reviewer_browser: Client) -> None:
        self.save(reviewer_browser)
        again = self.save(reviewer_browser, "HARBOURS")
        assert again.status_code == 422
        assert "has this name" in again.text

    def test_keep_their_times_moving(self, acme: Company) -> None:
        actor = acme.actor(acme.reviewer)
        made = saved.save(actor=actor, name="Tuesday", asked=Asked(text=SECRET, when="tuesday"))
        with tenant_scope(acme.tenant.pk):
            asked = saved.one(actor, made.id).asked
        wednesday, tuesday = datetime(2026, 11, 25, 12, tzinfo=UTC), datetime(2026, 11, 24, 12, tzinfo=UTC)
        day = datetime(2026, 11, 24, tzinfo=UTC)
        assert asked.span(wednesday) == (day, day + timedelta(1))
        assert asked.span(tuesday) == (day - timedelta(7), day - timedelta(6))

    def test_of_others_are_not_changed(self, acme: Company) -> None:
        reviewer, other = acme.actor(acme.reviewer), acme.actor(acme.officer)
        mine = saved.save(actor=reviewer, name="Mine", asked=Asked(text="x"))
        with pytest.raises(NotVisible):
            saved.update(actor=other, saved_id=mine.id, name="Theirs")
        with pytest.raises(NotVisible):
            saved.remove(actor=other, saved_id=mine.id)
        with pytest.raises(NotVisible):
            saved.save(actor=acme.actor(acme.auditor), name="None", asked=Asked(text="x"))
        saved.update(actor=reviewer, saved_id=mine.id, shared=True)
        colleague = make_user("colleague@acme-bank.example")
        with tenant_scope(acme.tenant.pk):
            Membership.objects.create(user=colleague, role="reviewer")
        with pytest.raises(NotVisible):
            saved.update(actor=acme.actor(colleague), saved_id=mine.id, name="Theirs")
        # The control: who leads the review changes what is shared.
        assert saved.update(actor=other, saved_id=mine.id, name="Ours").name == "Ours"

    def test_are_so_many_at_most(self, acme: Company, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(saved, "MOST", 1)
        actor = acme.actor(acme.reviewer)
        saved.save(actor=actor, name="One", asked=Asked(text="x"))
        with pytest.raises(Refused):
            saved.save(actor=actor, name="Two", asked=Asked(text="x"))


class TestExport:
    def asked(self, browser: Client, text: str = SECRET, **values: str) -> str:
        return search(browser, text, **values).redirect_chain[0][0].split("s=")[1]

    def export(self, browser: Client, form: str, **values: Any) -> Any:
        sent = {"format": form, "reason": "Request by a regulator", "confirmed": "yes", **values}
        return browser.post(EXPORT, sent)

    def test_gives_all_that_was_found_as_json_lines(
        self, acme: Company, said: list[str], reviewer_browser: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("console.pages.audit.records.PAGE_SIZE", 1)
        monkeypatch.setattr(export, "_BATCH", 1)
        answer = self.export(reviewer_browser, "jsonl", s=self.asked(reviewer_browser))
        rows = [json.loads(line) for line in body(answer).decode().splitlines()]
        assert [row["request_id"] for row in rows] == [said[1], said[0]]
        assert list(rows[0])[:5] == ["request_id", "user_id", "input", "output", "timestamp"]
        assert rows[1]["input"] == [{"role": "user", "content": "Question 0"}]
        assert rows[1]["output"] == "The <b>harbour</b> belongs to nobody."
        assert rows[1]["user_id"] == str(acme.member.pk)
        assert datetime.fromisoformat(rows[1]["timestamp"]).tzinfo is not None
        assert answer.headers["X-Record-Count"] == "2"
        assert ".jsonl" in answer.headers["Content-Disposition"]

    @pytest.mark.parametrize("form", ["jsonl", "csv"])
    def test_writes_null_for_what_is_no_number(
        self, form: str, acme: Company, reviewer_browser: Client
    ) -> None:
        asked = [{"role": "user", "content": "x", "n": float("nan")}]
        made = generation(acme.actor(acme.member), input=asked, parameters={"top_p": float("inf")})
        text = body(self.export(reviewer_browser, form, selected=[str(made.request_id)])).decode("utf-8-sig")
        assert "NaN" not in text and "Infinity" not in text
        if form == "jsonl":
            assert (json.loads(text)["input"][0]["n"], json.loads(text)["parameters"]) == (
                None,
                {"top_p": None},
            )

    def test_says_how_far_it_is_and_can_be_stopped(
        self, acme: Company, said: list[str], reviewer_browser: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(export, "_BATCH", 1)
        reference = self.asked(reviewer_browser)

        def told(name: str) -> tuple[Any, ...]:
            return tuple(reviewer_browser.get(f"{EXPORT}/progress", {"name": name}).json().values())

        whole, cut, never = "0" * 32, "1" * 32, "2" * 32
        answer = self.export(reviewer_browser, "jsonl", s=reference, progress=whole)
        assert told(whole) == ("finding", 1, 0)
        assert body(answer).count(b"\n") == 2
        assert told(whole) == ("done", 2, 2)
        answer = self.export(reviewer_browser, "csv", s=reference, progress=cut)
        assert reviewer_browser.post(f"{EXPORT}/stop", {"name": cut}).status_code == 204
        with pytest.raises(export_progress.Stopped):
            body(answer)
        assert told(cut) == ("stopped", 0, 2)
        reviewer_browser.post(f"{EXPORT}/stop", {"name": never})
        assert self.export(reviewer_browser, "jsonl", s=reference, progress=never).status_code == 204
        assert len(events(acme, export.EXPORT)) == 2, "what ended before it was chosen is no export"
        assert told("nonsense") == ("", 0, 0)

    def test_of_csv_has_no_cell_that_a_spreadsheet_runs(
        self, acme: Company, reviewer_browser: Client
    ) -> None:
        for text in ("=harbour()", "+harbour", "＝harbour", "@harbour", "harbour"):
            generation(acme.actor(acme.member), texts=(text,), input="=1+1")
        answer = self.export(reviewer_browser, "csv", s=self.asked(reviewer_browser))
        rows = list(csv.DictReader(io.StringIO(body(answer).decode("utf-8-sig"))))
        assert [row["output"] for row in rows] == [
            "harbour",
            *("'@harbour", "'＝harbour", "'+harbour", "'=harbour()"),
        ]
        assert {row["input"] for row in rows} == {"'=1+1"}
        assert list(rows[0]) == list(export.FIELDS)

    def test_is_recorded_before_the_first_byte(
        self, acme: Company, said: list[str], reviewer_browser: Client
    ) -> None:
        reference = self.asked(reviewer_browser, status="completed")
        answer = self.export(reviewer_browser, "jsonl", s=reference)
        (event,) = events(acme, export.EXPORT)  # Nobody has asked for the body yet.
        assert (event["records"], event["format"]) == (2, "jsonl")
        assert event["reason"] == "Request by a regulator"
        assert event["asked"] == {"text": SECRET, "status": "completed"}
        assert body(answer).count(b"\n") == 2

    def test_gives_nothing_that_could_not_be_recorded(
        self, said: list[str], reviewer_browser: Client
    ) -> None:
        reference = self.asked(reviewer_browser)
        with patch("audit.search.export.record_event", side_effect=AuditUnavailable):
            answer = self.export(reviewer_browser, "jsonl", s=reference)
        assert answer.status_code == 503
        assert "nothing was exported" in answer.text and SECRET + "</b>" not in answer.text

    @pytest.mark.parametrize("found", [True, False])
    def test_is_a_search_of_its_own_whatever_comes_of_it(
        self,
        found: bool,
        acme: Company,
        said: list[str],
        reviewer_browser: Client,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """How many there are, or that there are none, is told by the records' content."""
        monkeypatch.setattr("console.pages.audit.export.PROOF_MOST", 1)
        sent = {"text": SECRET if found else "lighthouse", "reason": "x"}
        reference = reviewer_browser.post(LIST, sent).headers["Location"].split("s=")[1]
        assert events(acme, engine.SEARCH) == []
        answer = self.export(reviewer_browser, "proof", s=reference)
        assert answer.status_code == 422
        (event,) = events(acme, engine.SEARCH)
        assert event == {
            "search": {**event["search"], "text": sent["text"]},
            "reason": "Request by a regulator",
        }
        with patch("audit.search.engine.record_event", side_effect=AuditUnavailable):
            answer = self.export(reviewer_browser, "jsonl", s=reference)
        assert answer.status_code == 503 and "nothing was exported" in answer.text

    def test_takes_numbers_as_people_write_them(
        self, acme: Company, said: list[str], reviewer_browser: Client
    ) -> None:
        for text in ("", SECRET):
            assert search(reviewer_browser, text, least="0.0", most=" 5000.0 ").status_code == 200
        answer = self.export(reviewer_browser, "jsonl", s=self.asked(reviewer_browser, least="0.0"))
        assert answer.headers["X-Record-Count"] == "2"

    def test_needs_a_reason(self, acme: Company, said: list[str], reviewer_browser: Client) -> None:
        reference = self.asked(reviewer_browser)
        answer = self.export(reviewer_browser, "csv", s=reference, reason=" ")
        assert answer.status_code == 422 and "State a reason" in answer.text
        assert events(acme, export.EXPORT) == []

    def test_gives_what_was_selected(self, acme: Company, said: list[str], reviewer_browser: Client) -> None:
        page = reviewer_browser.post(EXPORT, {"selected": said[1:]})
        assert "2 selected records" in page.text
        answer = self.export(reviewer_browser, "jsonl", selected=said[1:])
        rows = [json.loads(line) for line in body(answer).decode().splitlines()]
        assert [row["request_id"] for row in rows] == said[1:]
        assert events(acme, export.EXPORT)[0]["selected"] == said[1:]

    def test_holds_nothing_of_others(
        self, acme: Company, north: Company, said: list[str], client_of: Callable[[User], Client]
    ) -> None:
        foreign = client_of(north.reviewer)
        sent = {"format": "jsonl", "reason": "x", "confirmed": "yes"}
        assert foreign.post("/t/north-fund/audit/export", {**sent, "selected": said}).status_code == 404
        assert foreign.post(EXPORT, {**sent, "selected": said}).status_code == 404
        everything = foreign.post("/t/north-fund/audit/export", sent)
        assert everything.status_code == 422 and "nothing to export" in everything.text

    @pytest.mark.parametrize("text", ["", "whisper"])
    def test_holds_no_event_of_a_case_that_one_is_not_inside_of(
        self, text: str, acme: Company, reviewer_browser: Client
    ) -> None:
        officer = acme.actor(acme.officer)
        record_event(actor=officer, kind="probe.hidden", detail={"text": "whisper 1"}, confined_to=uuid7())
        record_event(actor=officer, kind="probe.open", detail={"text": "whisper 2"})
        reference = self.asked(reviewer_browser, text, kind="changes", user=officer.label)
        answer = self.export(reviewer_browser, "jsonl", s=reference)
        rows = body(answer).decode()
        assert "whisper 2" in rows and "whisper 1" not in rows
        assert answer.headers["X-Record-Count"] == "1"

    def test_is_for_those_who_may_export_alone(
        self, acme: Company, said: list[str], client_of: Callable[[User], Client]
    ) -> None:
        for who in (acme.auditor, acme.member, acme.administrator):
            assert self.export(client_of(who), "csv", selected=said).status_code == 404

    def test_of_a_search_that_cannot_be_read_gives_nothing(
        self, acme: Company, said: list[str], reviewer_browser: Client, client_of: Callable[[User], Client]
    ) -> None:
        reference = self.asked(reviewer_browser)
        for browser, sent in ((client_of(acme.officer), reference), (reviewer_browser, "nonsense")):
            assert self.export(browser, "jsonl", s=sent).status_code == 404
        assert events(acme, export.EXPORT) == []

    def test_ends_when_the_right_is_taken_away(self, acme: Company, said: list[str]) -> None:
        actor = acme.actor(acme.reviewer)
        with tenant_scope(acme.tenant.pk):
            chosen = export.choose(actor, Asked(), [UUID(each) for each in said])
        (batch,) = chosen.batches()
        assert len(chosen.read(batch)) == 3
        with tenant_scope(acme.tenant.pk):
            CustomRole.objects.create(slug="reader", name="Reader", permissions=["audit.list", "audit.read"])
            Membership.objects.filter(user=acme.reviewer).update(role="reader")
        with pytest.raises(NotVisible):
            chosen.read(batch)

    def test_with_proof_is_a_bundle_of_the_same_records(
        self, acme: Company, said: list[str], reviewer_browser: Client
    ) -> None:
        answer = self.export(reviewer_browser, "proof", s=self.asked(reviewer_browser))
        with zipfile.ZipFile(io.BytesIO(body(answer))) as archive:
            rows = [json.loads(line) for line in archive.read("records.jsonl").splitlines()]
        assert {row["request_id"] for row in rows} == set(said[:2])
        (event,) = events(acme, export.EXPORT)
        assert (event["records"], event["asked"]) == (2, {"text": SECRET})

    def test_with_proof_holds_so_many_records_at_most(
        self, acme: Company, said: list[str], reviewer_browser: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("console.pages.audit.export.PROOF_MOST", 1)
        answer = self.export(reviewer_browser, "proof", s=self.asked(reviewer_browser))
        assert answer.status_code == 422 and "Narrow the search" in answer.text
        assert events(acme, export.EXPORT) == []

    def test_with_proof_gives_nothing_that_could_not_be_recorded(
        self, said: list[str], reviewer_browser: Client
    ) -> None:
        reference = self.asked(reviewer_browser)
        with patch("audit.tree.bundle.record.record_event", side_effect=AuditUnavailable):
            answer = self.export(reviewer_browser, "proof", s=reference)
        assert answer.status_code == 302

    def test_tells_of_content_that_is_gone(self, acme: Company, reviewer_browser: Client, owner: Any) -> None:
        old = generation(acme.actor(acme.member), request_id=id_at(clock.now() - timedelta(days=1)))
        new = generation(acme.actor(acme.member))
        owner.execute("DELETE FROM tenants_datakey WHERE day = %s", [old.day])
        envelope.cache.clear()
        answer = self.export(reviewer_browser, "jsonl", selected=[str(old.request_id), str(new.request_id)])
        gone, kept = (json.loads(line) for line in body(answer).decode().splitlines())
        assert (gone["state"], gone["input"], gone["output"]) == ("gone", None, "")
        assert kept["state"] == "intact"
