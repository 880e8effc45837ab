"""A case from its opening to its end: what it holds, who may do what, and that two people close it."""

import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connections

from audit.cases import attachments, decisions, deeds, opening, selectors, work
from audit.cases.access import cases_of
from audit.cases.models import (
    Case,
    CaseDecision,
    CaseEvent,
    CaseFile,
    CaseMember,
    CaseReading,
    CaseRecord,
    CaseSignature,
    CaseVersion,
)
from audit.models import AuditRecord
from audit.retention import holds
from audit.review import flags, hooks
from audit.review.models import ReviewItem
from tenants import clock
from tenants.access import Actor, NotVisible
from tenants.errors import Refused
from tenants.ids import uuid7
from tenants.models import Membership
from tenants.scope import tenant_scope
from tests.audit.cases.conftest import TITLE, ask, open_case
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

Put = Callable[..., None]


def look(actor: Actor, case: Case) -> selectors.CaseView:
    with tenant_scope(actor.tenant_id):
        return selectors.open_one(actor, case.pk)


def refused(code: str, call: Callable[[], object]) -> None:
    with pytest.raises(Refused) as error:
        call()
    assert error.value.code == code


def decide(actor: Actor, case: Case, outcome: str = "report") -> decisions.Decision:
    return decisions.decide(actor=actor, case_id=case.pk, outcome=outcome, reason="Clear pattern.")


def sign(actor: Actor, case: Case, decision: decisions.Decision, is_approved: bool = True) -> None:
    decisions.sign(
        actor=actor,
        case_id=case.pk,
        decision_id=decision.id,
        is_approved=is_approved,
        reason="I came to the same view.",
    )


class TestOpening:
    def test_whoever_opens_it_leads_it_and_finds_all_they_wrote(
        self, officer: Actor, case: Case, asked: UUID
    ) -> None:
        view = look(officer, case)
        assert (view.title, view.summary, view.typology) == (
            TITLE,
            "Several deposits just below the limit.",
            "structuring",
        )
        assert (view.version.status, view.version.severity, view.owner) == ("open", "high", officer.label)
        assert [(member.user_id, member.role) for member in view.members] == [(officer.user_id, "lead")]
        assert [(linked.request_id, linked.reason) for linked in view.records] == [
            (asked, "Asks how to avoid a report.")
        ]
        assert view.records[0].summary is not None
        assert [said["label"] for _deadline, said in view.deadlines] == ["Report to the authority"]
        assert view.deadlines[0][0].due - clock.now() > timedelta(days=29)
        assert [event.kind for event in view.timeline] == ["opened", "records_linked", "deadline_set"]
        assert {event.by for event in view.timeline} == {officer.label}

    def test_numbers_say_the_year_and_not_how_many_there_are(self, officer: Actor, acme: Company) -> None:
        with tenant_scope(acme.tenant.pk):
            assert opening._free_number(lambda most: 7) == f"{clock.today():%Y}-000007"
        numbers = [open_case(officer).number for _ in range(3)]
        assert all(number.startswith(f"{clock.today():%Y}-") and len(number) == 11 for number in numbers)
        last = [int(number[5:]) for number in numbers]
        assert last[1] - last[0] != 1 or last[2] - last[1] != 1
        draws = iter([int(numbers[0][5:]), 42])
        with tenant_scope(acme.tenant.pk):
            assert opening._free_number(lambda most: next(draws)).endswith("-000042"), (
                "one in use is not taken"
            )

    def test_nobody_opens_a_case_on_a_record_of_their_own(self, acme: Company) -> None:
        reviewer = acme.actor(acme.reviewer)
        own = ask(reviewer)
        refused("own_record", lambda: open_case(reviewer, own))
        with tenant_scope(acme.tenant.pk):
            assert not Case.objects.exists(), "and nothing of it stays"

    def test_records_that_do_not_exist_or_are_another_tenants_are_not_there(
        self, officer: Actor, north: Company
    ) -> None:
        foreign = ask(north.actor(north.member))
        for request_id in (uuid7(), uuid4(), foreign):
            with pytest.raises(NotVisible):
                open_case(officer, request_id)

    def test_two_cases_may_be_about_one_record(
        self, officer: Actor, case: Case, asked: UUID, acme: Company
    ) -> None:
        other = open_case(acme.actor(acme.reviewer), asked)
        assert [linked.request_id for linked in look(officer, other).records] == [asked]

    def test_a_record_leaves_with_a_reason_and_may_come_back(
        self, officer: Actor, case: Case, asked: UUID
    ) -> None:
        refused(
            "missing",
            lambda: opening.unlink_record(actor=officer, case_id=case.pk, request_id=asked, reason=" "),
        )
        opening.unlink_record(actor=officer, case_id=case.pk, request_id=asked, reason="Not his.")
        assert look(officer, case).records == []
        assert (
            opening.link_records(actor=officer, case_id=case.pk, request_ids=[asked, asked], reason="His.")
            == 1
        )
        assert opening.link_records(actor=officer, case_id=case.pk, request_ids=[asked], reason="Again.") == 0
        assert [linked.reason for linked in look(officer, case).records] == ["His."]

    @pytest.mark.parametrize(
        ("code", "changes"),
        [
            ("title_missing", {"title": " "}),
            ("too_long", {"title": "x" * 201}),
            ("typology_unknown", {"typology": "x"}),
            ("severity_unknown", {"severity": "x"}),
            ("days_invalid", {"days_to_report": 0}),
            ("missing", {"reason": ""}),
            ("invisible", {"summary": "a\x00b"}),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, officer: Actor, asked: UUID, code: str, changes: dict[str, object]
    ) -> None:
        refused(code, lambda: open_case(officer, asked, **changes))


class TestWork:
    def test_members_work_approvers_only_look_and_write_and_leads_choose_both(
        self, acme: Company, case: Case, put_in: Put, colleague: Actor
    ) -> None:
        reviewer = acme.actor(acme.reviewer)
        assert colleague.user_id is not None
        with pytest.raises(NotVisible):
            look(reviewer, case)
        put_in(reviewer)
        assert look(reviewer, case).may_work and not look(reviewer, case).may_lead
        opening.link_records(
            actor=reviewer, case_id=case.pk, request_ids=[ask(acme.actor(acme.curator))], reason="Alike."
        )
        for call in (
            lambda: work.set_member(
                actor=reviewer, case_id=case.pk, user_id=colleague.user_id, role="member"
            ),
            lambda: work.remove_member(actor=reviewer, case_id=case.pk, user_id=reviewer.user_id),
            lambda: decide(reviewer, case),
        ):
            with pytest.raises(NotVisible):
                call()
        put_in(colleague, "approver")
        work.add_note(actor=colleague, case_id=case.pk, text="I have questions.")
        for call in (
            lambda: opening.link_records(actor=colleague, case_id=case.pk, request_ids=[], reason="x"),
            lambda: work.set_deadline(actor=colleague, case_id=case.pk, label="x", due=clock.now()),
            lambda: attachments.attach(actor=colleague, case_id=case.pk, name="x", content=b"x"),
        ):
            with pytest.raises(NotVisible):
                call()
        put_in(reviewer, "lead")
        work.remove_member(actor=reviewer, case_id=case.pk, user_id=colleague.user_id)
        with pytest.raises(NotVisible):
            look(colleague, case)

    def test_somebody_always_leads(self, officer: Actor, case: Case, acme: Company, put_in: Put) -> None:
        reviewer = acme.actor(acme.reviewer)
        assert officer.user_id is not None
        refused(
            "last_lead", lambda: work.remove_member(actor=officer, case_id=case.pk, user_id=officer.user_id)
        )
        put_in(reviewer, "lead")
        work.remove_member(actor=officer, case_id=case.pk, user_id=officer.user_id)
        assert look(officer, case).may_lead, "an officer sees every case"

    def test_only_those_whose_role_reviews_are_put_in(
        self, officer: Actor, case: Case, acme: Company, north: Company
    ) -> None:
        for user in (acme.administrator, acme.curator, acme.auditor, north.reviewer):
            refused(
                "member_unfit",
                lambda user=user: work.set_member(
                    actor=officer, case_id=case.pk, user_id=user.pk, role="member"
                ),
            )

    def test_whoever_loses_their_role_is_outside_at_once(
        self, acme: Company, case: Case, put_in: Put
    ) -> None:
        reviewer = acme.actor(acme.reviewer)
        put_in(reviewer)
        with tenant_scope(acme.tenant.pk):
            Membership.objects.filter(user=acme.reviewer).update(role="auditor")
            assert cases_of(acme.actor(acme.reviewer)) == set()
        with pytest.raises(NotVisible):
            work.add_note(actor=reviewer, case_id=case.pk, text="with the rights of before")

    def test_details_change_and_a_change_upon_an_old_look_is_a_conflict(
        self, officer: Actor, case: Case
    ) -> None:
        seen = str(look(officer, case).version.seq)
        changes = {
            "summary": "More.",
            "typology": "fraud",
            "severity": "critical",
            "owner_id": officer.user_id,
        }
        work.change_case(actor=officer, case_id=case.pk, title="New title", expected=seen, **changes)
        view = look(officer, case)
        assert (view.title, view.version.severity) == ("New title", "critical")
        assert view.timeline[-1].detail["before"]["title"] == TITLE
        refused(
            "case_changed",
            lambda: work.change_case(actor=officer, case_id=case.pk, title="Mine", expected=seen, **changes),
        )

    def test_the_owner_is_one_of_the_leads(
        self, officer: Actor, case: Case, acme: Company, put_in: Put
    ) -> None:
        put_in(acme.actor(acme.reviewer))
        facts = {"title": "x", "summary": "", "typology": "fraud", "severity": "low"}
        refused(
            "owner_no_lead",
            lambda: work.change_case(actor=officer, case_id=case.pk, owner_id=acme.reviewer.pk, **facts),
        )

    def test_deadlines_are_set_moved_met_and_dropped(self, officer: Actor, case: Case) -> None:
        later = clock.now() + timedelta(days=3)
        deadline = work.set_deadline(actor=officer, case_id=case.pk, label="Answer the bank", due=later)
        work.set_deadline(
            actor=officer,
            case_id=case.pk,
            label="Answer it",
            due=later + timedelta(days=1),
            deadline_id=deadline,
        )
        view = look(officer, case)
        assert [said["label"] for _row, said in view.deadlines] == ["Answer it", "Report to the authority"]
        work.close_deadline(actor=officer, case_id=case.pk, deadline_id=deadline, state="met")
        report = view.deadlines[1][0].deadline_id
        refused(
            "missing",
            lambda: work.close_deadline(actor=officer, case_id=case.pk, deadline_id=report, state="dropped"),
        )
        work.close_deadline(
            actor=officer, case_id=case.pk, deadline_id=report, state="dropped", reason="No report needed."
        )
        assert [row.state for row, _said in look(officer, case).deadlines] == ["met", "dropped"]
        with pytest.raises(NotVisible):
            work.close_deadline(actor=officer, case_id=case.pk, deadline_id=report, state="met")
        refused(
            "due_invalid",
            lambda: work.set_deadline(actor=officer, case_id=case.pk, label="x", due=clock.now()),
        )


class TestFiles:
    def test_a_file_comes_back_as_it_was_and_its_download_is_recorded(
        self, officer: Actor, case: Case
    ) -> None:
        content = b"%PDF-1.7\n" + bytes(range(256))
        kept = attachments.attach(actor=officer, case_id=case.pk, name="../a/Statement.pdf", content=content)
        assert (kept.name, kept.media_type, kept.size) == ("Statement.pdf", "application/pdf", len(content))
        with tenant_scope(officer.tenant_id):
            found, back = attachments.download(officer, case_id=case.pk, file_id=kept.id)
            reading = CaseReading.objects.get(case=case, how="file")
        assert (found, back, reading.about) == (kept, content, kept.id)

    @pytest.mark.parametrize(
        ("content", "media_type"),
        [
            (b"\x89PNG\r\n\x1a\nrest", "image/png"),
            (b"<html><script>x</script>", "application/octet-stream"),
            (b"<svg xmlns='x'/>", "application/octet-stream"),
            ("说明 plain\n".encode(), "text/plain"),
            (b"MZ\x90\x00\x03", "application/octet-stream"),
            (b"\xff\xfe\x00", "application/octet-stream"),
            (b"a" * 4095 + "说".encode() + b"b", "text/plain"),
        ],
    )
    def test_a_files_kind_is_told_by_its_bytes(self, content: bytes, media_type: str) -> None:
        assert attachments.sniff(content) == media_type

    @pytest.mark.parametrize(
        ("name", "cleaned"),
        [
            ("C:\\Users\\x\\a.pdf", "a.pdf"),
            ("..", "file"),
            ("", "file"),
            ("invoice\u202efdp.exe", "invoice_fdp.exe"),
            ('a"b\r\nc.txt', "a_b__c.txt"),
            ("x" * 300 + ".docx", "x" * 145 + ".docx"),
            ("报告.pdf", "报告.pdf"),
        ],
    )
    def test_a_files_name_leads_nowhere_and_hides_nothing(self, name: str, cleaned: str) -> None:
        assert attachments.clean_file_name(name) == cleaned

    def test_empty_and_huge_files_are_refused(
        self, officer: Actor, case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refused(
            "file_empty", lambda: attachments.attach(actor=officer, case_id=case.pk, name="x", content=b"")
        )
        monkeypatch.setattr(attachments, "MOST_BYTES", 10)
        refused(
            "file_too_large",
            lambda: attachments.attach(actor=officer, case_id=case.pk, name="x", content=b"x" * 11),
        )


class TestDecisions:
    def test_a_second_person_closes_the_case_and_it_can_be_reopened(
        self, officer: Actor, second_officer: Actor, case: Case
    ) -> None:
        decisions.start_review(actor=officer, case_id=case.pk)
        assert look(officer, case).version.status == "under_review"
        decision = decide(officer, case)
        view = look(officer, case)
        assert view.version.status == "awaiting_signature" and not view.may_sign and view.may_withdraw
        assert look(second_officer, case).may_sign
        sign(second_officer, case, decision)
        view = look(officer, case)
        assert view.version.status == "closed_reported"
        signature = view.decisions[0].signature
        assert signature is not None
        assert (view.decisions[0].by, signature.by) == (officer.label, second_officer.label)
        refused("case_closed", lambda: work.add_note(actor=officer, case_id=case.pk, text="x"))
        decisions.reopen(actor=officer, case_id=case.pk, reason="New facts.")
        sign(second_officer, case, decide(officer, case, "no_report"))
        assert look(officer, case).version.status == "closed_not_reported"

    def test_whoever_decided_does_not_sign_whatever_their_role(
        self, officer: Actor, case: Case, owner: psycopg.Connection
    ) -> None:
        decision = decide(officer, case)
        refused("own_decision", lambda: sign(officer, case, decision))
        with (
            pytest.raises(Exception, match="another person"),
            tenant_scope(officer.tenant_id),
        ):
            CaseSignature.objects.create(
                case=case,
                seq=99,
                author_id=officer.user_id,
                decision_id=decision.id,
                is_approved=True,
                sealed=b"past the services",
            )

    def test_members_and_outsiders_do_not_sign_and_approvers_do(
        self, acme: Company, officer: Actor, case: Case, put_in: Put, colleague: Actor
    ) -> None:
        reviewer = acme.actor(acme.reviewer)
        put_in(reviewer)
        decision = decide(officer, case)
        for actor in (reviewer, colleague):
            with pytest.raises(NotVisible):
                sign(actor, case, decision)
        decisions.withdraw(actor=officer, case_id=case.pk)
        put_in(colleague, "approver")
        refused("nothing_waits", lambda: sign(colleague, case, decision))
        again = decide(officer, case)
        refused("decision_changed", lambda: sign(colleague, case, decision))
        sign(colleague, case, again)
        assert look(officer, case).version.status == "closed_reported"

    def test_sent_back_it_is_under_review_again(
        self, officer: Actor, second_officer: Actor, case: Case
    ) -> None:
        refused(
            "not_author",
            lambda: (decide(officer, case), decisions.withdraw(actor=second_officer, case_id=case.pk)),
        )
        sign(second_officer, case, look(officer, case).decisions[0], is_approved=False)
        view = look(officer, case)
        assert view.version.status == "under_review" and view.timeline[-1].kind == "sent_back"

    def test_while_a_decision_waits_nothing_it_was_based_on_changes(
        self, officer: Actor, case: Case, asked: UUID
    ) -> None:
        decide(officer, case)
        due = clock.now() + timedelta(days=1)
        facts = {"title": "x", "summary": "", "typology": "fraud", "severity": "low", "owner_id": None}
        for call in (
            lambda: work.change_case(actor=officer, case_id=case.pk, **facts),
            lambda: opening.unlink_record(actor=officer, case_id=case.pk, request_id=asked, reason="x"),
            lambda: opening.link_records(actor=officer, case_id=case.pk, request_ids=[uuid7()], reason="x"),
            lambda: attachments.attach(actor=officer, case_id=case.pk, name="x", content=b"x"),
            lambda: work.set_deadline(actor=officer, case_id=case.pk, label="x", due=due),
            lambda: decide(officer, case),
            lambda: decisions.start_review(actor=officer, case_id=case.pk),
        ):
            refused("case_awaits_signature", call)
        work.add_note(actor=officer, case_id=case.pk, text="A note may still be written.")

    def test_a_case_without_records_is_not_decided(self, officer: Actor) -> None:
        refused("no_records", lambda: decide(officer, open_case(officer)))

    def test_of_many_who_sign_at_once_one_does(
        self, officer: Actor, second_officer: Actor, acme: Company, case: Case, put_in: Put, colleague: Actor
    ) -> None:
        """The author is among them: no order of events lets them through."""
        put_in(colleague, "approver")
        decision = decide(officer, case)
        said: list[str] = []
        start = threading.Barrier(6)

        def run(actor: Actor) -> None:
            start.wait()
            try:
                sign(actor, case, decision)
                said.append("signed")
            except Refused as error:
                said.append(error.code)
            finally:
                connections.close_all()

        threads = [
            threading.Thread(target=run, args=[actor]) for actor in (officer, second_officer, colleague) * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert said.count("signed") == 1
        assert set(said) <= {"signed", "own_decision", "nothing_waits"}
        with tenant_scope(acme.tenant.pk):
            signature = CaseSignature.objects.get()
        assert signature.author_id != officer.user_id


class TestKeeping:
    def test_every_deed_is_an_event_confined_to_the_case(
        self, officer: Actor, second_officer: Actor, case: Case
    ) -> None:
        attachments.attach(actor=officer, case_id=case.pk, name="a.txt", content=b"text")
        sign(second_officer, case, decide(officer, case))
        with tenant_scope(officer.tenant_id):
            deeds_done = list(CaseEvent.objects.order_by("seq").values_list("kind", flat=True))
            events = AuditRecord.objects.filter(kind__startswith="case.").order_by("day", "id")
            assert [event.kind for event in events] == [f"case.{kind}" for kind in deeds_done]
            assert {event.confined_to for event in events} == {case.pk}
            assert {event.subject_id for event in events} == {case.pk}

    def test_without_the_audit_nothing_happens(
        self, officer: Actor, case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from audit.record import AuditUnavailable

        def refuse(**_: object) -> None:
            raise AuditUnavailable("down")

        monkeypatch.setattr(deeds, "record_event", refuse)
        with pytest.raises(AuditUnavailable):
            work.add_note(actor=officer, case_id=case.pk, text="unrecorded")
        assert [event.kind for event in look(officer, case).timeline].count("noted") == 0

    def test_a_case_is_not_shown_when_the_look_cannot_be_recorded(
        self, officer: Actor, case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from audit.cases import readings
        from audit.record import AuditUnavailable

        def refuse(**_: object) -> None:
            raise AuditUnavailable("down")

        monkeypatch.setattr(readings, "record_event", refuse)
        with tenant_scope(officer.tenant_id):
            for call in (
                lambda: selectors.open_one(officer, case.pk),
                lambda: selectors.list_cases(officer),
                lambda: selectors.joinable(officer),
            ):
                with pytest.raises(AuditUnavailable):
                    call()

    def test_the_applications_role_changes_and_deletes_nothing_of_a_case(
        self, officer: Actor, second_officer: Actor, case: Case
    ) -> None:
        sign(second_officer, case, decide(officer, case))
        for model in (
            Case,
            CaseEvent,
            CaseVersion,
            CaseMember,
            CaseRecord,
            CaseDecision,
            CaseSignature,
            CaseReading,
            CaseFile,
        ):
            for deed in ("update", "delete"):
                with pytest.raises(Exception, match="permission denied"), tenant_scope(officer.tenant_id):
                    rows = model.objects.all()
                    rows._raw_delete("default") if deed == "delete" else rows.update(created=clock.now())

    def test_no_word_of_a_case_is_in_plain_text(
        self, officer: Actor, second_officer: Actor, acme: Company, owner: psycopg.Connection
    ) -> None:
        canary = "canary-8c1f4e"
        other = open_case(
            officer,
            ask(acme.actor(acme.curator)),
            title=f"{canary} title",
            summary=f"{canary} summary",
            reason=f"{canary} reason",
        )
        work.add_note(actor=officer, case_id=other.pk, text=f"{canary} note")
        attachments.attach(
            actor=officer, case_id=other.pk, name=f"{canary}.txt", content=f"{canary} content".encode()
        )
        due = clock.now() + timedelta(days=1)
        work.set_deadline(actor=officer, case_id=other.pk, label=f"{canary} label", due=due)
        decision = decisions.decide(
            actor=officer, case_id=other.pk, outcome="report", reason=f"{canary} decision"
        )
        sign(second_officer, other, decision)
        tables = [
            name
            for (name,) in owner.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                "AND relkind IN ('r', 'p') AND NOT relispartition"
            ).fetchall()
        ]
        for name in tables:
            rows = str(owner.execute(f'SELECT t::text FROM "{name}" AS t').fetchall())
            assert canary not in rows and canary.encode().hex() not in rows, name


class TestEscalation:
    def test_an_escalated_flag_opens_a_case_about_its_record(
        self, acme: Company, officer: Actor, second_officer: Actor, asked: UUID
    ) -> None:
        raised = flags.raise_flag(
            actor=officer, request_id=asked, source="hand", severity="high", reason="Look at this."
        )
        with tenant_scope(acme.tenant.pk):
            item = ReviewItem.objects.get(pk=raised.item_id)
            case_id = hooks.escalate(actor=officer, item=item, reason="It goes on.")
            view = selectors.open_one(officer, case_id)
        assert [linked.request_id for linked in view.records] == [asked]
        assert (view.version.severity, view.summary) == ("high", "It goes on.")
        assert view.timeline[0].detail["flag"] == str(item.pk)
        assert [(member.user_id, member.role) for member in view.members] == [(officer.user_id, "lead")]

    def test_nobody_escalates_what_is_about_themselves(self, acme: Company, officer: Actor) -> None:
        own = ask(officer)
        with tenant_scope(acme.tenant.pk):
            item = ReviewItem(request_id=own, rank=1)
            refused("own_record", lambda: hooks.escalate(actor=officer, item=item, reason="x"))


class TestHolds:
    def test_what_joins_is_held_for_the_case_and_stays_so_when_it_leaves(
        self, officer: Actor, case: Case, asked: UUID
    ) -> None:
        with tenant_scope(officer.tenant_id):
            assert [held.summary.id for held in holds.of(officer, case.pk)] == [asked]
        opening.unlink_record(actor=officer, case_id=case.pk, request_id=asked, reason="Not his.")
        with tenant_scope(officer.tenant_id):
            assert [held.summary.id for held in holds.of(officer, case.pk)] == [asked]

    def test_what_cannot_be_held_does_not_join(
        self, officer: Actor, asked: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: object) -> None:
            raise Refused("gone", "gone")

        monkeypatch.setattr(holds, "place", refuse)
        refused("gone", lambda: open_case(officer, asked))
        with tenant_scope(officer.tenant_id):
            assert not Case.objects.exists()
