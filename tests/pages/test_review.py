"""The review's pages: the queue, triage, signatures, flags, queues, samples and figures, and who sees any of it."""

import re
from collections.abc import Callable
from uuid import UUID, uuid4

import psycopg
import pytest
from django.test import Client

from audit import selectors
from audit.cases.models import CaseRecord
from audit.record import AuditUnavailable
from audit.review import hooks, queues, sampling, work
from audit.review.flags import raise_flag
from audit.review.models import ReviewItem
from console.pages.audit.review_item import pieces
from tenants.models import Membership, User
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.conftest import Company, make_user

pytestmark = pytest.mark.django_db(transaction=True)

AUDIT = "/t/acme-bank/audit/"
LIST = f"{AUDIT}review/"


@pytest.fixture
def item(acme: Company, recorded: str) -> UUID:
    """Acme's member's answer, flagged by the officer."""
    flag = {"source": "hand", "reason": "Asks for the owner.", "detail": {"terms": ["harbour"]}}
    return raise_flag(actor=acme.actor(acme.officer), request_id=UUID(recorded), **flag).item_id


@pytest.fixture
def officer_browser(acme: Company, client_of: Callable[[User], Client]) -> Client:
    return client_of(acme.officer)


def state(acme: Company, item_id: UUID) -> tuple[str, str]:
    with tenant_scope(acme.tenant.pk):
        found = ReviewItem.objects.get(pk=item_id)
    return found.state, found.outcome


def openings(acme: Company) -> int:
    filters = selectors.RecordFilters(kinds=(selectors.READ,))
    return len(selectors.list_records(acme.actor(acme.officer), filters).records)


class TestList:
    def test_it_says_whose_record_why_and_until_when_but_no_content(
        self, item: UUID, acme: Company, reviewer_browser: Client
    ) -> None:
        page = reviewer_browser.get(LIST).text
        assert f'href="{LIST}{item}/' in page
        assert "member@acme-bank.example" in page
        assert "By hand" in page
        assert "harbour" not in page
        assert openings(acme) == 0

    def test_an_empty_one_says_how_something_comes_here(
        self, acme: Company, reviewer_browser: Client
    ) -> None:
        assert "Nothing waits" in reviewer_browser.get(LIST).text
        assert "Nothing matches" in reviewer_browser.get(f"{LIST}?severity=high").text

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", True),
            ("whose=free", True),
            ("whose=mine", False),
            ("severity=medium", True),
            ("severity=high", False),
            ("source=hand", True),
            ("source=rule", False),
            ("view=done", False),
            ("view=second", False),
            ("view=all", True),
            ("late=1", False),
            ("queue=00000000-0000-4000-8000-000000000000", False),
            ("view=x&whose=x&severity=x&queue=x&source=x&sort=x&page=x", True),
        ],
    )
    def test_filters_narrow_and_nonsense_does_not(
        self, item: UUID, reviewer_browser: Client, query: str, found: bool
    ) -> None:
        page = reviewer_browser.get(f"{LIST}?{query}")
        assert page.status_code == 200
        assert (f'href="{LIST}{item}/' in page.text) == found

    def test_several_are_dismissed_with_one_reason_which_is_asked_for(
        self, item: UUID, acme: Company, reviewer_browser: Client
    ) -> None:
        asked = reviewer_browser.post(f"{LIST}act", {"action": "dismiss", "selected": [str(item)]})
        assert "Dismiss 1 flagged record?" in asked.text
        without = {"action": "dismiss", "selected": [str(item)], "confirmed": "yes"}
        assert reviewer_browser.post(f"{LIST}act", without).status_code == 422
        assert state(acme, item) == ("open", "")
        done = reviewer_browser.post(f"{LIST}act", {**without, "reason": "Routine."}, follow=True)
        assert "1 was dismissed." in done.text
        assert "Your last decision: Dismissed." in done.text
        assert state(acme, item) == ("decided", "dismiss")

    def test_they_are_assigned_to_oneself_and_by_managers_to_others(
        self, item: UUID, acme: Company, reviewer_browser: Client, officer_browser: Client
    ) -> None:
        reviewer_browser.post(f"{LIST}act", {"action": "mine", "selected": [str(item)]})
        assert f'href="{LIST}{item}/' in reviewer_browser.get(f"{LIST}?whose=mine").text
        assert (
            reviewer_browser.post(f"{LIST}act", {"action": "assign", "selected": [str(item)]}).status_code
            == 404
        )
        form = {"action": "assign", "selected": [str(item)]}
        assert "reviewer@acme-bank.example" in officer_browser.post(f"{LIST}act", form).text
        officer_browser.post(f"{LIST}act", {**form, "confirmed": "y", "user_id": str(acme.officer.pk)})
        assert f'href="{LIST}{item}/' in officer_browser.get(f"{LIST}?whose=mine").text

    def test_the_next_one_is_taken(self, item: UUID, reviewer_browser: Client) -> None:
        taken = reviewer_browser.post(f"{LIST}take")
        assert taken.headers["Location"] == f"{LIST}{item}/"
        nothing = reviewer_browser.post(f"{LIST}take", follow=True)
        assert "Nothing waits that is nobody’s." in nothing.text


class TestAltered:
    def test_words_that_were_altered_are_named_and_the_rest_stays(
        self, item: UUID, acme: Company, reviewer_browser: Client, owner: psycopg.Connection
    ) -> None:
        work.comment(actor=acme.actor(acme.officer), item_id=item, text="I am not sure.")
        work.decide(actor=acme.actor(acme.officer), item_id=item, outcome="escalate", reason="A pattern.")
        for table in ("flag", "reviewstep"):
            owner.execute(
                f"UPDATE audit_review_{table} SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200)) "
                "WHERE sealed IS NOT NULL"
            )
        answer = reviewer_browser.get(f"{LIST}{item}/")
        assert answer.status_code == 200 and "harbour" not in answer.text
        assert answer.text.count("This was altered in the database") == 5, "flag, decision and three steps"
        assert "The harbour belongs" in reviewer_browser.post(f"{LIST}{item}/", {"action": "open"}).text
        assert reviewer_browser.post(f"{LIST}{item}/", {"action": "approve"}).status_code == 302
        assert state(acme, item) == ("closed", "escalate")

    def test_a_plan_that_was_altered_is_only_deleted(
        self, acme: Company, officer_browser: Client, owner: psycopg.Connection
    ) -> None:
        fields = {"name": "Five", "measure": "percent", "size": 5, "per": "hour", "severity": "low"}
        plan = sampling.create_plan(actor=acme.actor(acme.officer), stratum="", **fields)
        owner.execute(
            "UPDATE audit_review_sampleplan SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200))"
        )
        address = f"{LIST}samples/{plan.pk}/"
        assert officer_browser.get(f"{LIST}samples/").status_code == 200
        assert "it draws no more" in officer_browser.get(address).text
        assert officer_browser.post(address, {**fields, "stratum": ""}).status_code == 422
        sampling.run_due(acme.tenant)
        answer = officer_browser.post(f"{address}act", {"action": "retire", "confirmed": "yes"}, follow=True)
        assert "was deleted" in answer.text


class TestGone:
    def test_an_escalation_is_signed_when_its_record_has_gone_and_the_case_says_so(
        self, item: UUID, acme: Company, recorded: str, reviewer_browser: Client, owner: psycopg.Connection
    ) -> None:
        work.decide(actor=acme.actor(acme.officer), item_id=item, outcome="escalate", reason="A pattern.")
        for table, column in (("chunk", "request_id"), ("completion", "request_id"), ("record", "id")):
            owner.execute(f"DELETE FROM audit_{table} WHERE {column} = %s", [recorded])
        address = f"{LIST}{item}/"
        page = reviewer_browser.get(address).text
        assert "The record is gone under retention" in page and "can still be signed" in page
        assert reviewer_browser.post(address, {"action": "open"}).status_code == 200
        assert reviewer_browser.post(address, {"action": "approve"}).status_code == 302
        assert state(acme, item) == ("closed", "escalate")
        case = reviewer_browser.get(f"{AUDIT}cases/")
        (found,) = re.findall(rf'href="({AUDIT}cases/[0-9a-f-]{{36}}/)"', case.text)
        page = reviewer_browser.get(found).text
        assert "A pattern." in page and "before this became a case" in page and recorded in page
        with tenant_scope(acme.tenant.pk):
            (row,) = CaseRecord.objects.all()
        assert row.subjects == [acme.member.pk], "never to whomever it is about"


class TestTriage:
    def test_the_content_is_closed_until_the_opening_is_recorded_with_the_flags_reason(
        self, item: UUID, acme: Company, reviewer_browser: Client
    ) -> None:
        address = f"{LIST}{item}/"
        closed = reviewer_browser.get(address).text
        assert "The content is closed" in closed
        assert "Asks for the owner." in closed
        assert "harbour" not in closed
        assert openings(acme) == 0
        opened = reviewer_browser.post(address, {"action": "open"}).text
        assert "The <mark>harbour</mark> belongs to &lt;b&gt;nobody&lt;/b&gt;" in opened
        assert "Review of a flag (By hand): Asks for the owner." in opened
        assert openings(acme) == 1

    def test_while_somebody_works_through_the_list_records_open_at_once_but_for_no_other_site(
        self, item: UUID, acme: Company, reviewer_browser: Client
    ) -> None:
        first = reviewer_browser.post(f"{LIST}start", follow=True)
        assert "<mark>harbour</mark>" in first.text
        foreign = reviewer_browser.get(f"{LIST}{item}/", headers={"Sec-Fetch-Site": "cross-site"}).text
        assert "The content is closed" in foreign
        assert openings(acme) == 1
        reviewer_browser.post(f"{LIST}{item}/", {"action": "triage", "on": "no"})
        assert "The content is closed" in reviewer_browser.get(f"{LIST}{item}/").text

    def test_what_cannot_be_recorded_is_not_shown(
        self, item: UUID, reviewer_browser: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(**values: object) -> None:
            raise AuditUnavailable("The audit record could not be written.")

        monkeypatch.setattr(selectors, "record_event", fail)
        page = reviewer_browser.post(f"{LIST}{item}/", {"action": "open"})
        assert page.status_code == 503
        assert "The audit record could not be written." in page.text
        assert "harbour" not in page.text

    def test_a_decision_leads_to_the_next_and_can_be_taken_back(
        self, item: UUID, acme: Company, reviewer_browser: Client
    ) -> None:
        other = generation(acme.actor(acme.member)).request_id
        following = raise_flag(
            actor=acme.actor(acme.officer), request_id=other, source="rule", source_id="r", severity="low"
        ).item_id
        done = reviewer_browser.post(f"{LIST}{item}/", {"action": "confirm", "text": "So it is."})
        assert done.headers["Location"] == f"{LIST}{following}/"
        assert state(acme, item) == ("decided", "confirm")
        assert "Your last decision: Confirmed." in reviewer_browser.get(f"{LIST}{following}/").text
        reviewer_browser.post(f"{LIST}{item}/", {"action": "withdraw"})
        assert state(acme, item) == ("open", "")

    def test_nothing_that_was_typed_is_lost_when_somebody_was_faster(
        self, item: UUID, acme: Company, reviewer_browser: Client
    ) -> None:
        with tenant_scope(acme.tenant.pk):
            turn = ReviewItem.objects.get().turn
        work.decide(actor=acme.actor(acme.officer), item_id=item, outcome="dismiss", reason="No.")
        late = reviewer_browser.post(
            f"{LIST}{item}/", {"action": "confirm", "text": "My reasons", "turn": str(turn)}
        )
        assert late.status_code == 409
        assert "officer@acme-bank.example decided this meanwhile." in late.text
        assert state(acme, item) == ("decided", "dismiss")

    def test_a_decision_without_a_reason_says_so(self, item: UUID, reviewer_browser: Client) -> None:
        refused = reviewer_browser.post(f"{LIST}{item}/", {"action": "dismiss", "text": " "})
        assert refused.status_code == 422
        assert "Write why." in refused.text
        assert reviewer_browser.post(f"{LIST}{item}/", {"action": "shred"}).status_code == 404

    def test_a_second_person_signs_or_returns(
        self, acme: Company, recorded: str, reviewer_browser: Client, officer_browser: Client
    ) -> None:
        actor = acme.actor(acme.reviewer)
        flag = {"source": "hand", "reason": "x", "severity": "high"}
        item = raise_flag(actor=actor, request_id=UUID(recorded), **flag).item_id
        reviewer_browser.post(f"{LIST}{item}/", {"action": "confirm", "text": "Yes."})
        own = reviewer_browser.get(f"{LIST}{item}/").text
        assert "somebody else has to sign it" in own
        assert f'href="{LIST}{item}/' not in reviewer_browser.get(f"{LIST}?view=second").text
        assert reviewer_browser.post(f"{LIST}{item}/", {"action": "approve"}).status_code == 422
        assert f'href="{LIST}{item}/' in officer_browser.get(f"{LIST}?view=second").text
        assert officer_browser.post(f"{LIST}{item}/", {"action": "return"}).status_code == 422
        officer_browser.post(f"{LIST}{item}/", {"action": "return", "text": "Look again."})
        assert state(acme, item) == ("open", "")
        assert "Look again." in reviewer_browser.get(f"{LIST}{item}/").text
        reviewer_browser.post(f"{LIST}{item}/", {"action": "confirm", "text": "Still yes."})
        officer_browser.post(f"{LIST}{item}/", {"action": "approve"})
        assert state(acme, item) == ("closed", "confirm")
        reopened = reviewer_browser.post(f"{LIST}{item}/", {"action": "reopen", "text": "News."}, follow=True)
        assert "It is open again." in reopened.text

    def test_somebody_elses_work_is_told_and_can_be_taken_over(
        self, item: UUID, acme: Company, reviewer_browser: Client
    ) -> None:
        work.claim(actor=acme.actor(acme.officer), item_id=item)
        assert "officer@acme-bank.example is working on this right now." in (
            reviewer_browser.get(f"{LIST}{item}/").text
        )
        assert reviewer_browser.post(f"{LIST}{item}/", {"action": "dismiss", "text": "x"}).status_code == 409
        reviewer_browser.post(f"{LIST}{item}/", {"action": "take_over"})
        assert "is working on this" not in reviewer_browser.get(f"{LIST}{item}/").text

    def test_a_comment_is_shown_as_text(self, item: UUID, reviewer_browser: Client) -> None:
        page = reviewer_browser.post(
            f"{LIST}{item}/", {"action": "comment", "text": "<script>alert(1)</script>"}, follow=True
        ).text
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert(1)" not in page

    def test_escalating_is_offered_only_where_there_are_cases(
        self, item: UUID, reviewer_browser: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hooks, "_escalation", None)
        assert 'value="escalate"' not in reviewer_browser.get(f"{LIST}{item}/").text
        monkeypatch.setattr(hooks, "_escalation", lambda **values: uuid4())
        assert 'value="escalate"' in reviewer_browser.get(f"{LIST}{item}/").text


class TestMarks:
    def test_spans_are_cut_to_the_text_and_all_of_it_is_kept(self) -> None:
        assert pieces("abcdef", [(-5, 2), (4, 99)], []) == [("ab", True), ("cd", False), ("ef", True)]
        assert pieces("abc", [(2, 1)], []) == [("abc", False)]
        assert pieces("", [(0, 1)], []) == []


class TestFlagging:
    def test_a_record_is_flagged_from_its_page_and_from_the_list(
        self, recorded: str, acme: Company, reviewer_browser: Client
    ) -> None:
        page = reviewer_browser.get(f"{AUDIT}{recorded}/").text
        assert f'formaction="{LIST}flag"' in page
        assert f'formaction="{LIST}flag"' in reviewer_browser.get(AUDIT).text
        asked = reviewer_browser.post(f"{LIST}flag", {"selected": recorded})
        assert "Flag 1 record for review?" in asked.text
        form = {"selected": recorded, "confirmed": "yes", "severity": "low", "reason": "Odd."}
        done = reviewer_browser.post(f"{LIST}flag", form)
        assert done.headers["Location"] == f"{AUDIT}{recorded}/"
        again = reviewer_browser.post(f"{LIST}flag", form, follow=True)
        assert "You had flagged this already." in again.text
        with tenant_scope(acme.tenant.pk):
            assert ReviewItem.objects.get().severity == "low"

    def test_it_leads_back_to_no_other_site(self, recorded: str, reviewer_browser: Client) -> None:
        form = {"selected": recorded, "confirmed": "y", "severity": "low", "reason": "x"}
        for back in ("https://evil.example/", "//evil.example/t/acme-bank/audit/", "/t/north-fund/audit/"):
            done = reviewer_browser.post(f"{LIST}flag", {**form, "back": back})
            assert done.headers["Location"] == f"{AUDIT}{recorded}/"

    def test_a_reason_is_needed(self, recorded: str, acme: Company, reviewer_browser: Client) -> None:
        form = {"selected": recorded, "confirmed": "y", "severity": "low", "reason": " "}
        assert reviewer_browser.post(f"{LIST}flag", form).status_code == 422
        with tenant_scope(acme.tenant.pk):
            assert not ReviewItem.objects.exists()


class TestSecrecy:
    @pytest.mark.parametrize("role", ["owner", "administrator", "operator", "curator", "member", "auditor"])
    def test_to_others_no_page_of_it_exists_and_other_pages_are_as_they_were(
        self, acme: Company, recorded: str, client_of: Callable[[User], Client], role: str
    ) -> None:
        browser = client_of(getattr(acme, role))

        def seen() -> list[str]:
            # But for the tokens of forms, which are never the same.
            return [
                re.sub(
                    r'value="\w{64}"',
                    "",
                    browser.get(address).text.partition("<main")[2].partition("</main")[0],
                )
                for address in (
                    AUDIT,
                    f"{AUDIT}?kind=changes",
                    f"{AUDIT}?kind=readings",
                    f"{AUDIT}{recorded}/",
                )
            ]

        before = seen()
        flag = {"source": "hand", "reason": "x", "severity": "high"}
        item = raise_flag(actor=acme.actor(acme.officer), request_id=UUID(recorded), **flag).item_id
        work.open_item(actor=acme.actor(acme.officer), item_id=item)
        work.decide(actor=acme.actor(acme.officer), item_id=item, outcome="confirm", reason="x")
        assert seen() == before
        for address in (LIST, f"{LIST}{item}/", f"{LIST}figures/", f"{LIST}queues/", f"{LIST}samples/"):
            assert browser.get(address).status_code == 404
        for address in (f"{LIST}act", f"{LIST}flag", f"{LIST}take", f"{LIST}start", f"{LIST}{item}/"):
            assert browser.post(address, {"selected": recorded, "action": "open"}).status_code == 404

    def test_whoever_the_record_is_about_finds_a_page_as_of_an_item_that_never_was(
        self, acme: Company, reviewer_browser: Client, officer_browser: Client
    ) -> None:
        own = generation(acme.actor(acme.reviewer)).request_id
        flag = {"source": "hand", "reason": "x"}
        item = raise_flag(actor=acme.actor(acme.officer), request_id=own, **flag).item_id
        assert str(item) in officer_browser.get(LIST).text, "the control"
        assert str(item) not in reviewer_browser.get(f"{LIST}?view=all").text
        assert "Nothing waits" in reviewer_browser.get(LIST).text
        answers = [reviewer_browser.get(f"{LIST}{each}/") for each in (item, uuid4())]
        assert [answer.status_code for answer in answers] == [404, 404]
        figures = reviewer_browser.get(f"{LIST}figures/").text
        assert "<dt>Open</dt><dd>0</dd>" in figures
        assert "<dt>Open</dt><dd>1</dd>" in officer_browser.get(f"{LIST}figures/").text

    def test_the_other_tenants_officer_sees_none_of_it(
        self, item: UUID, north: Company, client_of: Callable[[User], Client]
    ) -> None:
        browser = client_of(north.officer)
        assert browser.get(f"{LIST}{item}/").status_code == 404
        assert browser.get(f"/t/north-fund/audit/review/{item}/").status_code == 404
        assert "Nothing waits" in browser.get("/t/north-fund/audit/review/").text

    def test_managing_is_not_for_reviewers(
        self, item: UUID, acme: Company, reviewer_browser: Client, officer_browser: Client
    ) -> None:
        for address in ("queues/", "queues/new/", "samples/", "samples/new/"):
            assert reviewer_browser.get(f"{LIST}{address}").status_code == 404
            assert officer_browser.get(f"{LIST}{address}").status_code == 200
        work.comment(actor=acme.actor(acme.officer), item_id=item, text="x")
        assert "By person" not in reviewer_browser.get(f"{LIST}figures/").text
        assert "By person" in officer_browser.get(f"{LIST}figures/").text


class TestMoving:
    def test_whoever_manages_moves_an_item_to_another_queue(
        self, item: UUID, acme: Company, officer_browser: Client, reviewer_browser: Client
    ) -> None:
        address = f"{LIST}{item}/"
        assert 'value="move"' not in officer_browser.get(address).text, "there is no other queue"
        queue = queues.create_queue(actor=acme.actor(acme.officer), name="Sanctions")
        assert "Sanctions" in officer_browser.get(address).text
        sent = {"action": "move", "queue": str(queue.pk)}
        assert 'value="move"' not in reviewer_browser.get(address).text
        assert reviewer_browser.post(address, sent).status_code == 404
        assert officer_browser.post(address, {**sent, "queue": "nonsense"}).status_code == 404
        moved = officer_browser.post(address, sent, follow=True)
        assert "It is in the other queue." in moved.text
        with tenant_scope(acme.tenant.pk):
            assert ReviewItem.objects.get(pk=item).queue_id == queue.pk


class TestQueues:
    FORM = {
        "name": "Sanctions",
        "position": "1",
        "sources": ["rule"],
        "hours_high": "4",
        "hours_medium": "8",
        "hours_low": "16",
    }

    def test_a_queue_is_made_changed_and_closed(self, acme: Company, officer_browser: Client) -> None:
        member = {"member_ids": [str(acme.reviewer.pk)]}
        made = officer_browser.post(f"{LIST}queues/new/", {**self.FORM, **member}, follow=True)
        assert "The queue was made." in made.text
        with tenant_scope(acme.tenant.pk):
            queue = queues.queue_for("rule", "low")
            assert queues.members(queue) == [acme.reviewer.pk]
        address = f"{LIST}queues/{queue.pk}/"
        again = officer_browser.post(f"{LIST}queues/new/", self.FORM)
        assert again.status_code == 422
        assert "Another queue has this name." in again.text
        assert 'value="Sanctions"' in officer_browser.get(address).text
        officer_browser.post(address, {**self.FORM, "name": "Lists", "hours_high": "2"})
        assert "Lists" in officer_browser.get(f"{LIST}queues/").text
        assert "Close the queue “Lists”?" in officer_browser.get(f"{address}close/").text
        closed = officer_browser.post(f"{address}close/", {"confirmed": "yes"}, follow=True)
        assert "was closed." in closed.text

    def test_of_the_default_one_only_people_and_times_are_chosen(
        self, acme: Company, officer_browser: Client
    ) -> None:
        officer_browser.get(f"{LIST}queues/")
        with tenant_scope(acme.tenant.pk):
            queue = queues.default_queue()
        page = officer_browser.get(f"{LIST}queues/{queue.pk}/").text
        assert 'name="sources"' not in page
        officer_browser.post(f"{LIST}queues/{queue.pk}/", {**self.FORM, "name": "x"})
        with tenant_scope(acme.tenant.pk):
            changed = queues.default_queue()
        assert (changed.name, changed.sources, changed.hours_high) == ("", [], 4)


class TestSamples:
    FORM = {"name": "Daily", "size": "50", "measure": "percent", "per": "hour", "severity": "low"}

    def test_a_plan_is_previewed_made_paused_and_deleted(
        self, acme: Company, recorded: str, officer_browser: Client
    ) -> None:
        preview = officer_browser.post(f"{LIST}samples/new/", {**self.FORM, "preview": "yes"})
        assert "There was no such record to pick from" in preview.text
        made = officer_browser.post(f"{LIST}samples/new/", self.FORM, follow=True)
        assert "The plan was made." in made.text
        with tenant_scope(acme.tenant.pk):
            (plan,) = sampling.plans(acme.actor(acme.officer))
        address = f"{LIST}samples/{plan.pk}/"
        assert "paused" in officer_browser.post(f"{address}act", {"action": "pause"}, follow=True).text
        assert "draws again" in officer_browser.post(f"{address}act", {"action": "resume"}, follow=True).text
        changed = officer_browser.post(address, {**self.FORM, "size": "0"})
        assert changed.status_code == 422
        assert "Delete the plan “Daily”?" in officer_browser.post(f"{address}act", {"action": "retire"}).text
        officer_browser.post(f"{address}act", {"action": "retire", "confirmed": "yes"})
        assert "No sample is planned" in officer_browser.get(f"{LIST}samples/").text


class TestFigures:
    def test_they_are_right_and_come_as_a_file_too(
        self, item: UUID, acme: Company, officer_browser: Client
    ) -> None:
        anna = make_user("anna@acme-bank.example")
        with tenant_scope(acme.tenant.pk):
            Membership.objects.create(user=anna, role="reviewer")
        work.decide(actor=acme.actor(anna), item_id=item, outcome="confirm", reason="x")
        page = officer_browser.get(f"{LIST}figures/?days=7").text
        assert "anna@acme-bank.example" in page
        for days in ("7", "x", "90"):
            assert officer_browser.get(f"{LIST}figures/?days={days}").status_code == 200
        file = officer_browser.get(f"{LIST}figures/?format=csv")
        assert "Queue,Default queue,0,0,0,1,0," in file.content.decode()


def test_every_page_is_there_in_chinese(item: UUID, officer_browser: Client) -> None:
    for address in ("", f"{item}/", "queues/", "queues/new/", "samples/", "samples/new/", "figures/"):
        page = officer_browser.get(f"{LIST}{address}", headers={"Accept-Language": "zh-hans"})
        assert page.status_code == 200, address
