"""A person's content goes on request: two people decide, a day passes, and the log says why it is not there."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from threading import Event, Thread
from uuid import UUID, uuid4

import pytest
from django.db import DatabaseError, connection, connections

from audit import leaf, record, secrecy
from audit.models import AuditChunk, AuditCompletion, AuditRecord
from audit.output import text_of
from audit.record import Handle
from audit.retention import destruction, erasure, holds
from audit.retention.models import Deed, Erased
from audit.search import index
from audit.search.entries import SearchEntry
from audit.selectors import State, open_record
from audit.tree import merkle
from audit.tree.models import Leaf, Statement
from tenants.access import Actor, NotVisible
from tenants.errors import Refused
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.audit.retention.conftest import Clocks
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)


def asked(officer: Actor, user_id: UUID | None, metadata: str = "kept") -> Deed:
    assert user_id is not None
    return erasure.request(
        actor=officer, user_id=user_id, basis="gdpr_17", metadata=metadata, reason="They asked us to"
    )


@pytest.fixture
def erase(officer: Actor, second_officer: Actor, clocks: Clocks) -> Callable[..., Deed]:
    """From the request to the deed."""

    def go(user_id: UUID | None, metadata: str = "kept") -> Deed:
        deed = asked(officer, user_id, metadata)
        erasure.approve(actor=second_officer, deed_id=deed.pk, reason="It is their right")
        clocks.shift(clocks.ahead + timedelta(hours=24, minutes=1))
        destruction.run_all()
        with tenant_scope(officer.tenant_id):
            return Deed.objects.get(pk=deed.pk)

    return go


def test_the_persons_content_is_gone_and_nobody_elses(
    member: Actor, officer: Actor, reviewer: Actor, acme: Company, erase: Callable[..., Deed]
) -> None:
    theirs = [generation(member), generation(member)]
    others = generation(acme.actor(acme.operator))
    change = record.record_event(actor=member, kind="member.left", detail={"why": "moved"})
    deed = erase(member.user_id)
    assert (deed.count, deed.done is not None) == (2, True)
    for handle in theirs:
        view = open_record(reviewer, handle.request_id, reason="after")
        assert (view.state, view.input, view.parameters, view.output) == (State.ERASED, None, {}, [])
        assert view.summary.user_label == "member@acme-bank.example"
    assert text_of(open_record(reviewer, others.request_id, reason="other").output) == "Whoever profits."
    assert open_record(reviewer, change.request_id, reason="change").input == {"why": "moved"}
    with tenant_scope(officer.tenant_id):
        gone = [each.request_id for each in theirs]
        assert not AuditChunk.objects.filter(request_id__in=gone).exists()
        assert {bytes(row.input) for row in AuditRecord.objects.filter(id__in=gone)} == {b""}


def test_words_that_are_being_indexed_meanwhile_go_too(
    member: Actor, officer: Actor, second_officer: Actor, clocks: Clocks
) -> None:
    handle = generation(member)
    deed = asked(officer, member.user_id)
    erasure.approve(actor=second_officer, deed_id=deed.pk, reason="It is their right")
    clocks.shift(timedelta(hours=24, minutes=1))
    indexed, finish = Event(), Event()

    def index_it() -> None:
        with tenant_scope(member.tenant_id):
            assert index.index_batch(member.tenant_id)
            indexed.set()
            finish.wait(10)
        connections.close_all()

    def erase_it() -> None:
        assert indexed.wait(10)
        erasure.carry_out(member.tenant_id)
        connections.close_all()

    threads = [Thread(target=index_it), Thread(target=erase_it)]
    for thread in threads:
        thread.start()
    threads[1].join(1)
    assert threads[1].is_alive(), "it waits for what is being indexed"
    finish.set()
    for thread in threads:
        thread.join(20)
    with tenant_scope(member.tenant_id):
        assert Erased.objects.filter(request_id=handle.request_id).exists()
        assert not SearchEntry.objects.filter(request_id=handle.request_id).exists()


def test_the_statement_names_the_leaves_and_no_person(
    member: Actor, officer: Actor, acme: Company, erase: Callable[..., Deed]
) -> None:
    first = generation(member)
    generation(acme.actor(acme.operator))
    last = generation(member)
    erase(member.user_id)
    with tenant_scope(officer.tenant_id):
        [statement] = Statement.objects.filter(kind="erasure")
        leaves = list(Leaf.objects.filter(request_id__in=[first.request_id, last.request_id]).order_by("seq"))
    body = json.loads(statement.text)["statement"]["body"]
    assert body["sequences"] == [[each.seq, each.seq] for each in leaves]
    assert body["root"] == merkle.root([bytes(each.hash) for each in leaves]).hex()
    assert (body["count"], body["metadata"], body["basis"]) == (2, "kept", "gdpr_17")
    assert str(member.user_id) not in statement.text and "member@" not in statement.text


def test_kept_facts_still_give_the_leaf(member: Actor, officer: Actor, erase: Callable[..., Deed]) -> None:
    handle = generation(member)
    erase(member.user_id)
    with tenant_scope(officer.tenant_id):
        row = AuditRecord.objects.get(id=handle.request_id)
        completion = AuditCompletion.objects.get(request_id=handle.request_id)
        assert leaf.digest(row, completion) == bytes(Leaf.objects.get(request_id=handle.request_id).hash)


def test_a_pseudonym_takes_the_persons_place(
    member: Actor, officer: Actor, reviewer: Actor, erase: Callable[..., Deed]
) -> None:
    handle, other = generation(member), generation(member)
    deed = erase(member.user_id, "pseudonymised")
    views = [open_record(reviewer, each.request_id, reason="after") for each in (handle, other)]
    for view in views:
        assert view.state == State.ERASED
        assert (view.summary.user_label, view.summary.user_id) == ("erased", deed.pk)
        assert (view.summary.client_address, view.summary.session_ref) == ("", "")
        assert view.summary.model == "smollm2-135m-instruct"


def test_what_comes_after_the_request_stays(
    member: Actor, officer: Actor, second_officer: Actor, reviewer: Actor, clocks: Clocks
) -> None:
    deed = asked(officer, member.user_id)
    later = generation(member)
    erasure.approve(actor=second_officer, deed_id=deed.pk, reason="It is their right")
    clocks.shift(timedelta(hours=25))
    destruction.run_all()
    assert open_record(reviewer, later.request_id, reason="later").state == State.INTACT


def test_nothing_happens_before_two_people_and_a_day(
    member: Actor, officer: Actor, second_officer: Actor, reviewer: Actor, clocks: Clocks
) -> None:
    handle = generation(member)
    deed = asked(officer, member.user_id)
    with pytest.raises(Refused, match="Somebody else decides"):
        erasure.approve(actor=officer, deed_id=deed.pk, reason="me again")
    clocks.shift(timedelta(days=2))
    destruction.run_all()
    erasure.approve(actor=second_officer, deed_id=deed.pk, reason="Agreed")
    clocks.shift(timedelta(days=2, hours=23, minutes=59))
    destruction.run_all()
    assert open_record(reviewer, handle.request_id, reason="not yet").state == State.INTACT
    with (
        pytest.raises(DatabaseError, match="not decided"),
        tenant_scope(officer.tenant_id),
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT audit_erase(%s)", [deed.pk])
    erasure.withdraw(actor=officer, deed_id=deed.pk, reason="They think again")
    clocks.shift(timedelta(days=9))
    destruction.run_all()
    assert open_record(reviewer, handle.request_id, reason="called off").state == State.INTACT


def test_refused_with_a_reason(member: Actor, officer: Actor, second_officer: Actor) -> None:
    deed = asked(officer, member.user_id)
    erasure.refuse(actor=second_officer, deed_id=deed.pk, reason="A legal claim is pending")
    [view] = erasure.listed(officer)
    assert (view.state, view.verdicts[0][1]) == ("refused", "A legal claim is pending")
    asked(officer, member.user_id)


def test_what_makes_no_sense_is_refused(member: Actor, officer: Actor) -> None:
    values = {"basis": "gdpr_17", "metadata": "kept", "reason": "r", "user_id": member.user_id}
    for wrong, code in (
        ({"basis": "whim"}, "choice_unknown"),
        ({"metadata": "sold"}, "choice_unknown"),
        ({"user_id": uuid4()}, "person_unknown"),
        ({"reason": ""}, "reason_required"),
    ):
        with pytest.raises(Refused) as error:
            erasure.request(actor=officer, **{**values, **wrong})  # type: ignore[arg-type]
        assert error.value.code == code
    asked(officer, member.user_id)
    with pytest.raises(Refused, match="asked for already"):
        asked(officer, member.user_id)


@pytest.mark.parametrize("role", ["owner", "administrator", "member", "reviewer", "auditor"])
def test_only_officers_ask_and_see(acme: Company, member: Actor, officer: Actor, role: str) -> None:
    actor = acme.actor(getattr(acme, role))
    deed = asked(officer, member.user_id)
    for call in (
        lambda: asked(actor, member.user_id),
        lambda: erasure.approve(actor=actor, deed_id=deed.pk, reason="r"),
        lambda: erasure.listed(actor),
    ):
        with pytest.raises(NotVisible):
            call()


def test_a_hold_wins_and_nobody_outside_can_tell(
    member: Actor,
    officer: Actor,
    reviewer: Actor,
    erase: Callable[..., Deed],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case_id = uuid4()
    monkeypatch.setattr(
        secrecy, "_insides", [lambda actor: {case_id} if actor.user_id == officer.user_id else set()]
    )
    held, free = generation(member), generation(member)
    holds.place(actor=officer, request_ids=[held.request_id], case_id=case_id, reason="Evidence")
    assert erase(member.user_id).count == 2
    for handle in (held, free):
        assert open_record(reviewer, handle.request_id, reason="outside").state == State.ERASED
    assert open_record(officer, free.request_id, reason="inside").state == State.ERASED
    view = open_record(officer, held.request_id, reason="inside")
    assert view.state == State.INTACT and text_of(view.output) == "Whoever profits."


def test_an_emptied_record_without_a_decision_is_altered_not_erased(
    member: Actor, reviewer: Actor, owner: object
) -> None:
    handle = generation(member)
    owner.execute("UPDATE audit_record SET input = '' WHERE id = %s", [handle.request_id])  # type: ignore[attr-defined]
    assert open_record(reviewer, handle.request_id, reason="who did that").state == State.ALTERED


def test_a_crash_in_the_middle_leaves_all_or_nothing(
    member: Actor,
    officer: Actor,
    second_officer: Actor,
    reviewer: Actor,
    clocks: Clocks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle = generation(member)
    deed = asked(officer, member.user_id)
    erasure.approve(actor=second_officer, deed_id=deed.pk, reason="Agreed")
    clocks.shift(timedelta(hours=25))
    with monkeypatch.context() as broken:
        broken.setattr(erasure, "system_actor", lambda *_args: 1 / 0)
        destruction.run_all()
    assert open_record(reviewer, handle.request_id, reason="r").state == State.INTACT
    with tenant_scope(officer.tenant_id):
        assert not Statement.objects.filter(kind="erasure").exists() and not Erased.objects.exists()
    destruction.run_all()
    destruction.run_all()
    assert open_record(reviewer, handle.request_id, reason="r").state == State.ERASED
    with tenant_scope(officer.tenant_id):
        assert Statement.objects.filter(kind="erasure").count() == 1


def test_its_day_goes_afterwards_as_any_other(
    old: Handle,
    member: Actor,
    officer: Actor,
    reviewer: Actor,
    yesterday: date,
    erase: Callable[..., Deed],
    pass_days: Callable[..., None],
) -> None:
    erase(member.user_id)
    assert open_record(reviewer, old.request_id, reason="r").state == State.ERASED
    pass_days(yesterday, 7)
    assert destruction.run_all() == 1
    assert open_record(reviewer, old.request_id, reason="r").state == State.GONE
    with tenant_scope(officer.tenant_id):
        assert not Erased.objects.exists()
