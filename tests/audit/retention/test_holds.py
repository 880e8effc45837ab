"""What a case holds outlives its day, opens to those inside alone, and is let go by two people."""

import hashlib
import json
from collections.abc import Callable
from datetime import date, timedelta
from threading import Event, Thread
from uuid import UUID

import psycopg
import pytest
from django.db import DatabaseError, connection, connections

from audit import record, secrecy
from audit.models import AuditRecord
from audit.output import text_of
from audit.record import Handle
from audit.retention import destruction, holds
from audit.retention.models import Deed, Hold, Verdict
from audit.selectors import State, find_record, list_records, open_record
from audit.tree.models import Leaf, Statement
from tenants import envelope
from tenants.access import Actor, NotVisible
from tenants.errors import Refused
from tenants.ids import uuid7
from tenants.keyring import shards
from tenants.models import DataKey
from tenants.scope import tenant_scope
from tests.audit.conftest import begin, generation, id_at
from tests.audit.retention.conftest import Clocks
from tests.conftest import Company
from tests.support.services import Services

pytestmark = pytest.mark.django_db(transaction=True)

CASE = UUID("01900000-0000-7000-8000-000000000001")
OTHER_CASE = UUID("01900000-0000-7000-8000-000000000002")


@pytest.fixture(autouse=True)
def inside(
    monkeypatch: pytest.MonkeyPatch, officer: Actor, second_officer: Actor, reviewer: Actor
) -> dict[UUID | None, set[UUID]]:
    """Who is inside of which case: both officers of the one; the other's is the reviewer."""
    known = {officer.user_id: {CASE}, second_officer.user_id: {CASE}, reviewer.user_id: {OTHER_CASE}}
    monkeypatch.setattr(secrecy, "_insides", [lambda actor: known.get(actor.user_id, set())])
    return known


def place(actor: Actor, *handles: Handle, case_id: UUID = CASE) -> None:
    holds.place(
        actor=actor,
        request_ids=[each.request_id for each in handles],
        case_id=case_id,
        reason="It belongs to the case",
    )


def release(first: Actor, second: Actor, case_id: UUID = CASE) -> Deed:
    deed = holds.request_release(actor=first, case_id=case_id, reason="The case is closed")
    holds.approve_release(actor=second, deed_id=deed.pk, reason="Agreed")
    return deed


class TestHeld:
    def test_a_held_record_survives_its_day_whole(
        self, old: Handle, officer: Actor, yesterday: date, pass_days: Callable[..., None]
    ) -> None:
        before = open_record(officer, old.request_id, reason="before")
        place(officer, old)
        pass_days(yesterday, 7)
        assert destruction.run_all() == 1
        assert find_record(officer, old.request_id) == before.summary
        view = open_record(officer, old.request_id, reason="afterwards")
        assert view.state == State.INTACT
        assert (view.input, view.parameters, view.output) == (before.input, before.parameters, before.output)
        assert view.summary == before.summary
        assert [reading.reason for reading in view.history] == ["afterwards", "before"]

    def test_passages_and_an_answer_in_parts_too(
        self, member: Actor, officer: Actor, noon: object, yesterday: date, pass_days: Callable[..., None]
    ) -> None:
        handle = generation(
            member,
            request_id=id_at(noon),  # type: ignore[arg-type]
            texts=tuple(f"{number} " for number in range(1, 13)),
            passages=[{"document": "Policy", "text": "KYC"}],
        )
        place(officer, handle)
        pass_days(yesterday, 7)
        destruction.run_all()
        view = open_record(officer, handle.request_id, reason="afterwards")
        assert view.passages == [{"document": "Policy", "text": "KYC"}]
        assert text_of(view.output).split() == [str(number) for number in range(1, 13)]

    def test_its_ciphertexts_still_give_the_leaf_in_the_log(
        self, old: Handle, officer: Actor, yesterday: date, pass_days: Callable[..., None]
    ) -> None:
        place(officer, old)
        pass_days(yesterday, 7)
        destruction.run_all()
        with tenant_scope(officer.tenant_id):
            hold = Hold.objects.get()
            content = holds.evidence(hold)
            assert bytes(Leaf.objects.get(request_id=old.request_id).hash) == bytes(hold.leaf_digest)
            assert holds._is_intact(hold, content)
            hold.metadata["record"]["model"] = "another"
            assert not holds._is_intact(hold, content)
        assert {part.field for part in content.parts} == {"input", "parameters", "output"}

    def test_a_bundle_proves_it_for_those_inside(
        self, old: Handle, officer: Actor, reviewer: Actor, yesterday: date, pass_days: Callable[..., None]
    ) -> None:
        place(officer, old)
        pass_days(yesterday, 7)
        destruction.run_all()
        with tenant_scope(officer.tenant_id):
            kept = holds.kept(officer, old.request_id)
            assert kept is not None and kept.sealed is not None and kept.key is not None
            framed = b"".join(len(each).to_bytes(8, "big") + each for each in kept.sealed)
            assert hashlib.sha256(framed).digest() == kept.ciphertext_digest
            assert kept.metadata["record"]["id"] == str(old.request_id)
            assert holds.kept(reviewer, old.request_id) is None

    def test_a_bundle_is_not_held_up_by_a_copy_that_was_altered(
        self,
        old: Handle,
        officer: Actor,
        yesterday: date,
        pass_days: Callable[..., None],
        owner: psycopg.Connection,
    ) -> None:
        place(officer, old)
        pass_days(yesterday, 7)
        destruction.run_all()
        owner.execute("UPDATE audit_hold SET sealed = set_bit(sealed, 300, 1 - get_bit(sealed, 300))")
        with tenant_scope(officer.tenant_id):
            kept = holds.kept(officer, old.request_id)
        assert kept is not None and (kept.key, kept.sealed) == (None, None)

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE audit_hold SET metadata = jsonb_set(metadata, '{record,user_label}', '\"someone\"')",
            "UPDATE audit_hold SET sealed = set_bit(sealed, 300, 1 - get_bit(sealed, 300))",
            "UPDATE audit_hold SET ciphertext_digest = sha256('x')",
        ],
    )
    def test_a_copy_that_was_altered_is_told_so(
        self,
        old: Handle,
        officer: Actor,
        yesterday: date,
        pass_days: Callable[..., None],
        owner: psycopg.Connection,
        change: str,
    ) -> None:
        place(officer, old)
        pass_days(yesterday, 7)
        destruction.run_all()
        owner.execute(change)
        view = open_record(officer, old.request_id, reason="afterwards")
        assert (view.state, view.input, view.output) == (State.ALTERED, None, [])

    def test_placing_twice_holds_once(self, old: Handle, member: Actor, officer: Actor) -> None:
        place(officer, old)
        place(officer, old, generation(member))
        with tenant_scope(officer.tenant_id):
            assert Hold.objects.count() == 2
            assert Statement.objects.filter(kind="hold").count() == 2

    def test_events_can_be_held(
        self, member: Actor, officer: Actor, noon: object, owner: psycopg.Connection
    ) -> None:
        handle = record.record_event(actor=member, kind="member.role_changed", detail={"before": "member"})
        place(officer, handle)
        with tenant_scope(officer.tenant_id):
            assert holds.view_of(Hold.objects.get()).input == {"before": "member"}

    def test_what_is_running_gone_foreign_or_erased_is_refused(
        self,
        old: Handle,
        member: Actor,
        officer: Actor,
        outsider: Actor,
        yesterday: date,
        pass_days: Callable[..., None],
        owner: psycopg.Connection,
    ) -> None:
        with pytest.raises(Refused, match="still running"):
            place(officer, begin(member))
        for missing in (generation(outsider), Handle(officer.tenant_id, uuid7())):
            with pytest.raises(NotVisible):
                place(officer, missing)
        with pytest.raises(NotVisible):
            place(officer, Handle(officer.tenant_id, UUID(int=5)))
        altered = generation(member)
        owner.execute("DELETE FROM audit_chunk WHERE request_id = %s AND seq = 2", [altered.request_id])
        with pytest.raises(Refused, match="altered"):
            place(officer, altered)
        pass_days(yesterday, 7)
        destruction.run_all()
        with pytest.raises(NotVisible):
            place(officer, old)
        with tenant_scope(officer.tenant_id):
            assert not Hold.objects.exists() and not Statement.objects.filter(kind="hold").exists()

    @pytest.mark.parametrize("role", ["owner", "administrator", "operator", "curator", "member", "auditor"])
    def test_only_reviewers_hold(self, old: Handle, acme: Company, role: str) -> None:
        with pytest.raises(NotVisible):
            place(acme.actor(getattr(acme, role)), old)

    def test_the_day_waits_for_a_hold_that_is_being_placed(
        self, old: Handle, officer: Actor, yesterday: date, pass_days: Callable[..., None]
    ) -> None:
        """Whichever comes first wins; a hold that was placed in time is never overtaken."""
        destruction.tree.extend(officer.tenant_id)
        pass_days(yesterday, 7)
        placed, finish, went = Event(), Event(), []

        def hold() -> None:
            with tenant_scope(officer.tenant_id):
                place(officer, old)
                placed.set()
                finish.wait(10)
            connections.close_all()

        def destroy() -> None:
            went.append(destruction.run_all())
            connections.close_all()

        first = Thread(target=hold)
        first.start()
        assert placed.wait(10)
        second = Thread(target=destroy)
        second.start()
        second.join(1.5)
        assert second.is_alive() and went == [], "it waits for the lock of the day"
        finish.set()
        first.join(10)
        second.join(20)
        assert went == [1]
        assert open_record(officer, old.request_id, reason="held in time").state == State.INTACT


class TestSecrecy:
    def test_to_all_outside_of_the_case_it_is_gone_as_without_the_hold(
        self,
        old: Handle,
        member: Actor,
        noon: object,
        officer: Actor,
        reviewer: Actor,
        yesterday: date,
        pass_days: Callable[..., None],
    ) -> None:
        unheld = generation(member, request_id=id_at(noon + timedelta(seconds=1)))  # type: ignore[operator]
        place(officer, old)
        pass_days(yesterday, 7)
        assert destruction.run_all() == 1
        views = [open_record(reviewer, each.request_id, reason="r") for each in (old, unheld)]
        assert [view.state for view in views] == [State.GONE, State.GONE]
        assert [view.summary.user_label for view in views] == ["", ""]
        assert old.request_id not in {each.id for each in list_records(officer).records}

    def test_its_events_are_the_cases(self, old: Handle, officer: Actor, reviewer: Actor) -> None:
        place(officer, old)
        with tenant_scope(officer.tenant_id):
            [event] = AuditRecord.objects.filter(kind="hold.placed")
            assert event.confined_to == CASE
            assert secrecy.visible(officer, AuditRecord.objects.filter(pk=event.pk)).exists()
            assert not secrecy.visible(reviewer, AuditRecord.objects.filter(pk=event.pk)).exists()

    def test_the_statement_says_neither_who_nor_what(self, old: Handle, officer: Actor) -> None:
        place(officer, old)
        with tenant_scope(officer.tenant_id):
            hold, [statement] = Hold.objects.get(), Statement.objects.filter(kind="hold")
        body = json.loads(statement.text)["statement"]["body"]
        assert body == {"case": str(CASE), "commitment": holds.commitment(bytes(hold.salt), [hold])}
        for secret in (str(old.request_id), "member@", bytes(hold.leaf_digest).hex()):
            assert secret not in statement.text

    def test_two_cases_hold_one_record_and_know_nothing_of_each_other(
        self,
        old: Handle,
        officer: Actor,
        second_officer: Actor,
        reviewer: Actor,
        yesterday: date,
        clocks: Clocks,
        pass_days: Callable[..., None],
    ) -> None:
        place(officer, old)
        place(reviewer, old, case_id=OTHER_CASE)
        assert [each.case_id for each in holds.of(officer, CASE)] == [CASE]
        with pytest.raises(NotVisible):
            holds.of(officer, OTHER_CASE)
        pass_days(yesterday, 7)
        destruction.run_all()
        release(officer, second_officer)
        clocks.shift(clocks.ahead + timedelta(hours=25))
        destruction.run_all()
        assert open_record(officer, old.request_id, reason="released").state == State.GONE
        assert open_record(reviewer, old.request_id, reason="still held").state == State.INTACT

    def test_opening_a_held_record_for_the_case_is_known_inside_alone(
        self, old: Handle, officer: Actor, reviewer: Actor
    ) -> None:
        place(officer, old)
        assert holds.open_held(officer, CASE, old.request_id, reason="case work").state == State.INTACT
        with pytest.raises(NotVisible):
            holds.open_held(reviewer, CASE, old.request_id, reason="curious")
        history = open_record(reviewer, old.request_id, reason="routine").history
        assert [reading.reason for reading in history] == ["routine"]


class TestRelease:
    def test_needs_two_people(
        self, old: Handle, officer: Actor, second_officer: Actor, clocks: Clocks
    ) -> None:
        place(officer, old)
        deed = holds.request_release(actor=officer, case_id=CASE, reason="closed")
        with pytest.raises(Refused, match="Somebody else decides"):
            holds.approve_release(actor=officer, deed_id=deed.pk, reason="me again")
        clocks.shift(timedelta(days=2))
        destruction.run_all()
        assert len(holds.of(officer, CASE)) == 1, "nobody approved it"
        holds.approve_release(actor=second_officer, deed_id=deed.pk, reason="Agreed")
        destruction.run_all()
        assert len(holds.of(officer, CASE)) == 1, "its day of grace is not over"
        clocks.shift(timedelta(days=3, minutes=1))
        destruction.run_all()
        assert holds.of(officer, CASE) == []

    def test_the_database_holds_to_that_too(
        self, old: Handle, officer: Actor, second_officer: Actor, clocks: Clocks
    ) -> None:
        place(officer, old)
        deed = holds.request_release(actor=officer, case_id=CASE, reason="closed")
        assert officer.user_id is not None
        with pytest.raises(DatabaseError, match="asked for themselves"), tenant_scope(officer.tenant_id):
            Verdict.objects.create(deed=deed, outcome="approved", reason=b"", decided_by=officer.user_id)
        holds.approve_release(actor=second_officer, deed_id=deed.pk, reason="Agreed")
        for statement in (
            "SELECT audit_release(%s)",
            "DELETE FROM audit_hold WHERE %s IS NOT NULL",
            "UPDATE audit_retention_verdict SET created = '2000-01-01' WHERE %s IS NOT NULL",
            "UPDATE audit_retention_deed SET requested_by = gen_random_uuid() WHERE id = %s",
        ):
            with pytest.raises(DatabaseError), tenant_scope(officer.tenant_id), connection.cursor() as cursor:
                cursor.execute(statement, [deed.pk])
                pytest.fail(statement)
        with pytest.raises(DatabaseError, match="not due"), tenant_scope(officer.tenant_id):
            envelope.destroy(officer.tenant_id, f"case:{CASE}:held", Hold.objects.get().key_day)
        assert len(holds.of(officer, CASE)) == 1

    def test_destroys_the_copies_and_the_key_of_the_case_with_a_statement(
        self,
        old: Handle,
        officer: Actor,
        second_officer: Actor,
        yesterday: date,
        clocks: Clocks,
        pass_days: Callable[..., None],
    ) -> None:
        place(officer, old)
        pass_days(yesterday, 7)
        destruction.run_all()
        with tenant_scope(officer.tenant_id):
            hold = Hold.objects.get()
        purpose = f"case:{CASE}:held"
        assert shards.path_of(officer.tenant_id, purpose, hold.key_day).exists()
        deed = release(officer, second_officer)
        clocks.shift(clocks.ahead + timedelta(hours=25))
        destruction.run_all()
        with tenant_scope(officer.tenant_id):
            assert not Hold.objects.exists() and not DataKey.objects.filter(purpose=purpose).exists()
            assert Statement.objects.filter(kind="release").count() == 1
            assert (Deed.objects.get().done is not None, Deed.objects.get().count) == (True, 1)
            with pytest.raises(envelope.KeyDestroyed):
                holds._unsealed(hold)
        assert not shards.path_of(officer.tenant_id, purpose, hold.key_day).exists()
        destruction.run_all()
        with tenant_scope(officer.tenant_id):
            assert Statement.objects.filter(kind="release").count() == 1
        with pytest.raises(Refused):
            holds.withdraw_release(actor=officer, deed_id=deed.pk, reason="too late")

    def test_is_called_off_by_one_in_time(
        self, old: Handle, officer: Actor, second_officer: Actor, clocks: Clocks
    ) -> None:
        place(officer, old)
        deed = release(officer, second_officer)
        holds.withdraw_release(actor=officer, deed_id=deed.pk, reason="We need it after all")
        clocks.shift(timedelta(hours=30))
        destruction.run_all()
        assert len(holds.of(officer, CASE)) == 1
        [view] = holds.releases(officer, CASE)
        assert view.state == "withdrawn" and view.reason == "The case is closed"
        assert [reason for _verdict, reason in view.verdicts] == ["Agreed", "We need it after all"]

    def test_is_not_called_off_while_it_is_done(
        self,
        old: Handle,
        officer: Actor,
        second_officer: Actor,
        clocks: Clocks,
        services: Services,
    ) -> None:
        """Who calls it off is told that it is too late, and not that it is called off."""
        place(officer, old)
        deed = release(officer, second_officer)
        clocks.shift(timedelta(hours=25))
        with psycopg.connect(services.postgres.url) as worker:
            worker.execute("SELECT set_config('custos.tenant', %s, true)", [str(officer.tenant_id)])
            assert worker.execute("SELECT audit_release(%s)", [deed.pk]).fetchone() == (1,)
            with pytest.raises(DatabaseError), tenant_scope(officer.tenant_id), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '300ms'")
                holds.withdraw_release(actor=officer, deed_id=deed.pk, reason="We need it after all")
            worker.commit()
        with pytest.raises(Refused):
            holds.withdraw_release(actor=officer, deed_id=deed.pk, reason="We need it after all")
        with tenant_scope(officer.tenant_id):
            assert not Verdict.objects.filter(outcome="withdrawn").exists()

    def test_refused_is_refused(
        self, old: Handle, officer: Actor, second_officer: Actor, clocks: Clocks
    ) -> None:
        place(officer, old)
        deed = holds.request_release(actor=officer, case_id=CASE, reason="closed")
        holds.refuse_release(actor=second_officer, deed_id=deed.pk, reason="No")
        with pytest.raises(Refused, match="decided already"):
            holds.approve_release(actor=second_officer, deed_id=deed.pk, reason="Yes")
        clocks.shift(timedelta(days=9))
        destruction.run_all()
        assert len(holds.of(officer, CASE)) == 1

    def test_of_one_record_leaves_the_others_and_their_key(
        self, old: Handle, member: Actor, officer: Actor, second_officer: Actor, clocks: Clocks
    ) -> None:
        other = generation(member)
        place(officer, old, other)
        deed = holds.request_release(
            actor=officer, case_id=CASE, reason="not that one", request_ids=[old.request_id]
        )
        holds.approve_release(actor=second_officer, deed_id=deed.pk, reason="Agreed")
        clocks.shift(timedelta(hours=25))
        destruction.run_all()
        [left] = holds.of(officer, CASE)
        assert left.summary.id == other.request_id
        with tenant_scope(officer.tenant_id):
            assert holds.view_of(Hold.objects.get()).state == State.INTACT

    def test_is_for_those_inside(self, old: Handle, officer: Actor, reviewer: Actor, acme: Company) -> None:
        place(officer, old)
        deed = holds.request_release(actor=officer, case_id=CASE, reason="closed")
        for call in (
            lambda: holds.request_release(actor=reviewer, case_id=CASE, reason="r"),
            lambda: holds.approve_release(actor=reviewer, deed_id=deed.pk, reason="r"),
            lambda: holds.releases(reviewer, CASE),
            lambda: holds.of(reviewer, CASE),
        ):
            with pytest.raises(NotVisible):
                call()

    def test_a_hold_placed_after_the_request_stays(
        self, old: Handle, member: Actor, officer: Actor, second_officer: Actor, clocks: Clocks
    ) -> None:
        place(officer, old)
        release(officer, second_officer)
        clocks.shift(timedelta(hours=1))
        later = generation(member)
        place(officer, later)
        clocks.shift(timedelta(hours=26))
        destruction.run_all()
        assert [each.summary.id for each in holds.of(officer, CASE)] == [later.request_id]
