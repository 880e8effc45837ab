"""Decisions: what leads where, who may, what is recorded, and what happens when two people are at it."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import IntegrityError, connection

from audit.models import AuditRecord
from audit.record import handle_of, open_json
from audit.review import hooks, rules, seconds, work
from audit.review.flags import Raised, raise_flag
from audit.review.models import Deed, Outcome, ReviewItem, ReviewStep, Severity, State
from tenants import clock, envelope
from tenants.access import Actor, NotVisible
from tenants.errors import Refused
from tenants.models import Membership, TenantSettings, User
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

ItemNow = Callable[[UUID], ReviewItem]


@pytest.fixture
def other(acme: Company, anna: User) -> Actor:
    return acme.actor(anna)


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The escalations that opened a case."""
    opened: list[dict[str, Any]] = []

    def escalate(**values: Any) -> UUID:
        opened.append(values)
        return uuid4()

    monkeypatch.setattr(hooks, "_escalation", escalate)
    return opened


@pytest.fixture
def severe(reviewer: Actor, asked: UUID) -> UUID:
    """An item of high severity."""
    return raise_flag(actor=reviewer, request_id=asked, source="hand", reason="x", severity="high").item_id


def later(monkeypatch: pytest.MonkeyPatch, **by: float) -> None:
    moved = clock.now() + timedelta(**by)
    monkeypatch.setattr(clock, "now", lambda: moved)


def deeds(acme: Company) -> list[str]:
    with tenant_scope(acme.tenant.pk):
        return list(ReviewStep.objects.order_by("seq").values_list("deed", flat=True))


def events(acme: Company) -> list[tuple[str, str, dict[str, Any]]]:
    """(kind, who, detail) of the review's events, oldest first."""
    with tenant_scope(acme.tenant.pk):
        found = AuditRecord.objects.filter(kind__startswith="review.").order_by("id")
        return [
            (row.kind, row.user_label, open_json(handle_of(row), field="input", sealed=row.input))
            for row in found
        ]


class TestRules:
    def test_every_state_can_be_left_except_by_what_has_become_a_case(self) -> None:
        for state in State.values:
            assert {to for (at, _deed), to in rules.NEXT.items() if at == state} - {state}
        assert rules.after_flag(State.CLOSED, Outcome.ESCALATE) == State.CLOSED
        assert rules.after_flag(State.CLOSED, Outcome.DISMISS) == State.OPEN

    @pytest.mark.parametrize(
        ("outcome", "severity", "seconds_escalations", "second"),
        [
            (outcome, severity, escalations, severity == "high" or (outcome == "escalate" and escalations))
            for outcome, severity, escalations in itertools.product(
                Outcome.values, Severity.values, (True, False)
            )
        ],
    )
    def test_what_is_severe_or_becomes_a_case_is_signed_by_two(
        self, outcome: str, severity: str, seconds_escalations: bool, second: bool
    ) -> None:
        state = rules.after_decision(outcome, severity, seconds_escalations=seconds_escalations)
        assert (state == State.SECOND) == second

    def test_nothing_closes_but_a_signature_or_time(self) -> None:
        closing = {deed for (at, deed), to in rules.NEXT.items() if to == State.CLOSED != at}
        assert closing == {Deed.APPROVED, Deed.TOOK_EFFECT}


class TestOnePerson:
    def test_a_decision_takes_effect_after_a_moment(
        self,
        reviewer: Actor,
        flagged: Raised,
        acme: Company,
        item_now: ItemNow,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        item = work.decide(actor=reviewer, item_id=flagged.item_id, outcome="dismiss", reason="Harmless.")
        assert (item.state, item.outcome, item.decided_by_id) == ("decided", "dismiss", acme.reviewer.pk)
        assert work.settle(acme.tenant) == 0
        later(monkeypatch, seconds=rules.UNDO.total_seconds() + 1)
        assert work.settle(acme.tenant) == 1
        assert work.settle(acme.tenant) == 0
        assert item_now(flagged.item_id).state == "closed"
        assert deeds(acme) == ["flagged", "decided", "took_effect"]

    def test_and_can_be_taken_back_until_then_by_its_author_alone(
        self,
        reviewer: Actor,
        other: Actor,
        flagged: Raised,
        acme: Company,
        item_now: ItemNow,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        work.decide(actor=reviewer, item_id=flagged.item_id, outcome="confirm", reason="Yes.")
        with pytest.raises(Refused) as refused:
            work.withdraw(actor=other, item_id=flagged.item_id)
        assert refused.value.code == "not_yours"
        work.withdraw(actor=reviewer, item_id=flagged.item_id)
        item = item_now(flagged.item_id)
        assert (item.state, item.outcome, item.decided_by_id) == ("open", "", None)
        assert deeds(acme) == ["flagged", "decided", "withdrawn"]
        work.decide(actor=reviewer, item_id=flagged.item_id, outcome="confirm", reason="Yes.")
        later(monkeypatch, seconds=rules.UNDO.total_seconds() + 1)
        with pytest.raises(Refused) as refused:
            work.withdraw(actor=reviewer, item_id=flagged.item_id)
        assert refused.value.code == "conflict"

    def test_what_was_decided_is_asked_anew_only_with_a_reason(
        self,
        reviewer: Actor,
        other: Actor,
        flagged: Raised,
        acme: Company,
        item_now: ItemNow,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        work.decide(actor=reviewer, item_id=flagged.item_id, outcome="dismiss", reason="No.")
        with pytest.raises(Refused):
            work.reopen(actor=other, item_id=flagged.item_id, reason="Not yet closed")
        later(monkeypatch, minutes=5)
        work.settle(acme.tenant)
        with pytest.raises(Refused) as refused:
            work.reopen(actor=other, item_id=flagged.item_id, reason=" ")
        assert refused.value.field == "reason"
        work.reopen(actor=other, item_id=flagged.item_id, reason="A customer complained.")
        item = item_now(flagged.item_id)
        assert (item.state, item.outcome, item.assignee_id) == ("open", "", None)

    def test_a_further_flag_asks_anew(
        self, reviewer: Actor, flagged: Raised, asked: UUID, item_now: ItemNow
    ) -> None:
        work.decide(actor=reviewer, item_id=flagged.item_id, outcome="dismiss", reason="No.")
        raise_flag(actor=reviewer, request_id=asked, source="rule", source_id="r1", severity="high")
        item = item_now(flagged.item_id)
        assert (item.state, item.outcome, item.severity) == ("open", "", "high")

    def test_a_decision_needs_a_reason_and_one_of_the_outcomes(
        self, reviewer: Actor, flagged: Raised, acme: Company
    ) -> None:
        for outcome, reason in (("dismiss", " "), ("dismiss", "x" * 2001), ("shred", "x")):
            with pytest.raises(Refused):
                work.decide(actor=reviewer, item_id=flagged.item_id, outcome=outcome, reason=reason)
        assert deeds(acme) == ["flagged"]

    def test_an_escalation_without_cases_says_so(
        self, reviewer: Actor, flagged: Raised, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hooks, "_escalation", None)
        with pytest.raises(Refused) as refused:
            work.decide(actor=reviewer, item_id=flagged.item_id, outcome="escalate", reason="x")
        assert refused.value.code == "no_cases"


class TestTwoPeople:
    def test_what_is_severe_waits_for_another(
        self,
        reviewer: Actor,
        other: Actor,
        severe: UUID,
        acme: Company,
        item_now: ItemNow,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        item = work.decide(actor=reviewer, item_id=severe, outcome="confirm", reason="Yes.")
        assert item.state == "second"
        with pytest.raises(Refused) as refused:
            seconds.approve(actor=reviewer, item_id=severe)
        assert refused.value.code == "own_decision"
        later(monkeypatch, days=9)
        work.settle(acme.tenant)
        assert item_now(severe).state == "second"
        with tenant_scope(acme.tenant.pk):
            assert not seconds.waiting_for(reviewer).exists()
            assert seconds.waiting_for(other).count() == 1
        seconds.approve(actor=other, item_id=severe, comment="Agreed.")
        item = item_now(severe)
        assert (item.state, item.approved_by_id) == ("closed", other.user_id)

    def test_who_returns_it_says_why_and_it_is_the_authors_again(
        self, reviewer: Actor, other: Actor, severe: UUID, item_now: ItemNow
    ) -> None:
        work.decide(actor=reviewer, item_id=severe, outcome="dismiss", reason="No.")
        with pytest.raises(Refused):
            seconds.give_back(actor=other, item_id=severe, comment="")
        seconds.give_back(actor=other, item_id=severe, comment="Look at the second answer.")
        item = item_now(severe)
        assert (item.state, item.assignee_id, item.decided_by_id) == ("open", reviewer.user_id, None)

    def test_the_database_refuses_an_author_who_signs(
        self, reviewer: Actor, severe: UUID, owner: psycopg.Connection
    ) -> None:
        work.decide(actor=reviewer, item_id=severe, outcome="confirm", reason="Yes.")
        with pytest.raises(psycopg.errors.CheckViolation, match="author_is_not_approver"):
            owner.execute("UPDATE audit_review_reviewitem SET approved_by_id = decided_by_id")
        with pytest.raises(psycopg.errors.CheckViolation, match="high_severity_is_signed"):
            owner.execute("UPDATE audit_review_reviewitem SET state = 'closed'")

    def test_of_two_who_sign_and_return_at_one_moment_one_wins(
        self, reviewer: Actor, other: Actor, officer: Actor, severe: UUID, acme: Company
    ) -> None:
        work.decide(actor=reviewer, item_id=severe, outcome="confirm", reason="Yes.")
        start = threading.Barrier(3)

        def sign(who: Actor) -> str:
            try:
                start.wait()
                if who is officer:
                    seconds.give_back(actor=who, item_id=severe, comment="No.")
                else:
                    seconds.approve(actor=who, item_id=severe)
                return "done"
            except Refused as refused:
                return refused.code
            finally:
                connection.close()

        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(sign, [reviewer, other, officer]))
        assert sorted(answers[1:]) == ["conflict", "done"]
        assert answers[0] in ("own_decision", "conflict")
        assert [deed for deed in deeds(acme) if deed in ("approved", "returned")].__len__() == 1

    def test_an_escalation_opens_its_case_when_it_is_signed(
        self, reviewer: Actor, other: Actor, flagged: Raised, cases: list[dict[str, Any]], item_now: ItemNow
    ) -> None:
        work.decide(actor=reviewer, item_id=flagged.item_id, outcome="escalate", reason="A pattern.")
        assert cases == []
        seconds.approve(actor=other, item_id=flagged.item_id)
        (case,) = cases
        assert (case["item"].request_id, case["reason"], case["actor"].user_id) == (
            item_now(flagged.item_id).request_id,
            "A pattern.",
            other.user_id,
        )
        assert item_now(flagged.item_id).case_id is not None
        with pytest.raises(Refused):
            work.reopen(actor=reviewer, item_id=flagged.item_id, reason="x")

    def test_where_no_case_can_be_opened_nothing_is_signed(
        self,
        reviewer: Actor,
        other: Actor,
        flagged: Raised,
        monkeypatch: pytest.MonkeyPatch,
        item_now: ItemNow,
    ) -> None:
        def fail(**values: Any) -> UUID:
            raise Refused("no_room", "There is no room.")

        monkeypatch.setattr(hooks, "_escalation", fail)
        work.decide(actor=reviewer, item_id=flagged.item_id, outcome="escalate", reason="A pattern.")
        with pytest.raises(Refused):
            seconds.approve(actor=other, item_id=flagged.item_id)
        assert item_now(flagged.item_id).state == "second"

    def test_a_queue_may_let_one_person_escalate_and_the_case_is_theirs(
        self,
        reviewer: Actor,
        flagged: Raised,
        acme: Company,
        cases: list[dict[str, Any]],
        item_now: ItemNow,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self._no_second_for_escalations(acme)
        work.decide(actor=reviewer, item_id=flagged.item_id, outcome="escalate", reason="A pattern.")
        later(monkeypatch, minutes=5)
        assert work.settle(acme.tenant) == 1
        assert cases[0]["actor"].user_id == reviewer.user_id
        assert item_now(flagged.item_id).state == "closed"

    def test_an_escalation_whose_author_has_left_waits_for_others(
        self,
        reviewer: Actor,
        flagged: Raised,
        acme: Company,
        cases: list[dict[str, Any]],
        item_now: ItemNow,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self._no_second_for_escalations(acme)
        work.decide(actor=reviewer, item_id=flagged.item_id, outcome="escalate", reason="A pattern.")
        with tenant_scope(acme.tenant.pk):
            Membership.objects.filter(user=acme.reviewer).update(disabled=clock.now())
        later(monkeypatch, minutes=5)
        assert work.settle(acme.tenant) == 0
        assert (item_now(flagged.item_id).state, cases) == ("open", [])

    @staticmethod
    def _no_second_for_escalations(acme: Company) -> None:
        with tenant_scope(acme.tenant.pk):
            item = ReviewItem.objects.select_related("queue").get()
            item.queue.seconds_escalations = False
            item.queue.save()
            # What the worker does later comes from no network at all.
            TenantSettings.objects.update_or_create(defaults={"networks": ["192.0.2.0/24"]})


class TestMeanwhile:
    def test_two_who_decide_at_one_moment_and_one_is_told_who_was_faster(
        self, reviewer: Actor, other: Actor, flagged: Raised, acme: Company
    ) -> None:
        start = threading.Barrier(2)

        def decide(who: Actor) -> str:
            try:
                start.wait()
                work.decide(actor=who, item_id=flagged.item_id, outcome="dismiss", reason="x", seen_turn=2)
                return ""
            except Refused as refused:
                return refused.message
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as pool:
            answers = sorted(pool.map(decide, [reviewer, other]))
        assert answers[0] == ""
        assert answers[1] in (
            "Anna Berg decided this meanwhile.",
            "reviewer@acme-bank.example decided this meanwhile.",
        )
        assert deeds(acme).count("decided") == 1

    def test_a_decision_on_less_than_there_is_is_refused(
        self, reviewer: Actor, other: Actor, flagged: Raised, asked: UUID, item_now: ItemNow
    ) -> None:
        seen = item_now(flagged.item_id).turn
        raise_flag(actor=other, request_id=asked, source="hand", reason="Also this.")
        with pytest.raises(Refused, match="Anna Berg flagged this again meanwhile"):
            work.decide(
                actor=reviewer, item_id=flagged.item_id, outcome="dismiss", reason="x", seen_turn=seen
            )

    def test_a_claim_keeps_others_from_the_same_work_for_a_while(
        self, reviewer: Actor, other: Actor, flagged: Raised, acme: Company, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work.claim(actor=other, item_id=flagged.item_id)
        work.claim(actor=other, item_id=flagged.item_id)
        with pytest.raises(Refused, match="Anna Berg is working on this"):
            work.claim(actor=reviewer, item_id=flagged.item_id)
        with pytest.raises(Refused) as refused:
            work.decide(actor=reviewer, item_id=flagged.item_id, outcome="dismiss", reason="x")
        assert refused.value.code == "claimed"
        work.claim(actor=reviewer, item_id=flagged.item_id, take_over=True)
        assert deeds(acme) == ["flagged", "claimed", "claimed"]
        work.release(actor=reviewer, item_id=flagged.item_id)
        work.claim(actor=other, item_id=flagged.item_id)
        later(monkeypatch, seconds=rules.CLAIM.total_seconds() + 1)
        work.decide(actor=reviewer, item_id=flagged.item_id, outcome="dismiss", reason="x")

    def test_several_are_decided_together_or_not_at_all(
        self, reviewer: Actor, officer: Actor, member: Actor, flagged: Raised, item_now: ItemNow
    ) -> None:
        second = raise_flag(
            actor=reviewer, request_id=generation(member).request_id, source="hand", reason="x"
        )
        both = [flagged.item_id, second.item_id]
        work.claim(actor=officer, item_id=second.item_id)
        with pytest.raises(Refused):
            work.decide_many(actor=reviewer, item_ids=both, outcome="dismiss", reason="Routine.")
        assert item_now(flagged.item_id).state == "open"
        work.release(actor=officer, item_id=second.item_id)
        assert len(work.decide_many(actor=reviewer, item_ids=both, outcome="dismiss", reason="Routine.")) == 2
        assert {item_now(item_id).state for item_id in both} == {"decided"}


class TestRecords:
    def test_every_deed_is_an_event_with_its_words_known_only_in_the_room(
        self, reviewer: Actor, other: Actor, severe: UUID, acme: Company
    ) -> None:
        work.open_item(actor=reviewer, item_id=severe)
        work.comment(actor=reviewer, item_id=severe, text="Look.")
        work.decide(actor=reviewer, item_id=severe, outcome="dismiss", reason="No.")
        seconds.give_back(actor=other, item_id=severe, comment="Yes.")
        work.decide(actor=reviewer, item_id=severe, outcome="confirm", reason="Then yes.")
        seconds.approve(actor=other, item_id=severe)
        found = events(acme)
        assert [kind.removeprefix("review.") for kind, _who, _detail in found] == deeds(acme)
        assert [detail.get("words", "") for _kind, _who, detail in found] == [
            "x",
            "",
            "Look.",
            "No.",
            "Yes.",
            "Then yes.",
            "",
        ]
        with tenant_scope(acme.tenant.pk):
            room = ReviewItem.objects.get().room_id
            rows = AuditRecord.objects.filter(kind__startswith="review.")
            assert set(rows.values_list("confined_to", flat=True)) == {room}
            opening = AuditRecord.objects.get(kind="audit.read")
            reason = open_json(handle_of(opening), field="input", sealed=opening.input)["reason"]
        assert (opening.confined_to, reason) == (room, "Review of a flag (By hand): x")

    def test_what_cannot_be_recorded_is_not_done(
        self, reviewer: Actor, flagged: Raised, item_now: ItemNow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(**values: object) -> None:
            raise IntegrityError("down")

        monkeypatch.setattr("audit.review.steps.record_event", fail)
        for deed in (
            lambda: work.decide(actor=reviewer, item_id=flagged.item_id, outcome="dismiss", reason="x"),
            lambda: work.claim(actor=reviewer, item_id=flagged.item_id),
        ):
            with pytest.raises(IntegrityError):
                deed()
        item = item_now(flagged.item_id)
        assert (item.state, item.claimed_by_id) == ("open", None)

    def test_the_content_stays_closed_where_the_opening_cannot_be_recorded(
        self, reviewer: Actor, flagged: Raised, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(**values: object) -> None:
            raise IntegrityError("down")

        monkeypatch.setattr("audit.selectors.record_event", fail)
        monkeypatch.setattr(envelope.RecordCipher, "open", lambda *args: pytest.fail("decrypted"))
        with pytest.raises(IntegrityError):
            work.open_item(actor=reviewer, item_id=flagged.item_id)


def test_whoever_has_lost_the_right_meanwhile_decides_nothing(
    reviewer: Actor, flagged: Raised, acme: Company
) -> None:
    with tenant_scope(acme.tenant.pk):
        Membership.objects.filter(user=acme.reviewer).update(role="member")
    with pytest.raises(NotVisible):
        work.decide(actor=reviewer, item_id=flagged.item_id, outcome="dismiss", reason="x")
