"""Flags: one item a record, one flag a source, and a record of each."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connection

from audit.models import AuditRecord
from audit.record import AuditUnavailable, handle_of, open_json
from audit.review import flags
from audit.review.flags import Raised, raise_flag
from audit.review.models import Flag, ReviewItem, ReviewStep
from tenants.access import Actor, NotVisible
from tenants.errors import Refused
from tenants.ids import uuid7
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_flag_by_hand_makes_an_item_with_its_reason_sealed(
    reviewer: Actor, asked: UUID, acme: Company, owner: psycopg.Connection
) -> None:
    raised = raise_flag(
        actor=reviewer, request_id=asked, source="hand", reason="canary-reason-51c", severity="high"
    )
    assert raised.is_new
    with tenant_scope(acme.tenant.pk):
        item = ReviewItem.objects.get(pk=raised.item_id)
        flag = Flag.objects.get(pk=raised.flag_id)
        words = flags.words_of(flag)
    assert (item.request_id, item.subject_user_id, item.severity) == (asked, acme.member.pk, "high")
    assert words is not None
    assert words.reason == "canary-reason-51c"
    for table in ("audit_review_flag", "audit_review_reviewitem", "audit_review_reviewstep"):
        rows = owner.execute(f"SELECT t::text FROM {table} t").fetchall()
        assert rows
        assert not any("canary-reason" in row for (row,) in rows), table


def test_one_source_flags_a_record_once_and_several_are_gathered_in_one_item(
    reviewer: Actor, officer: Actor, asked: UUID, acme: Company
) -> None:
    first = raise_flag(actor=reviewer, request_id=asked, source="rule", source_id="r1", severity="low")
    again = raise_flag(actor=reviewer, request_id=asked, source="rule", source_id="r1", severity="high")
    other = raise_flag(actor=reviewer, request_id=asked, source="rule", source_id="r2", severity="high")
    by_hand = raise_flag(actor=officer, request_id=asked, source="hand", reason="Also odd.")
    assert (again.flag_id, again.is_new) == (first.flag_id, False)
    assert {first.item_id, other.item_id, by_hand.item_id} == {first.item_id}
    with tenant_scope(acme.tenant.pk):
        item = ReviewItem.objects.get()
        assert Flag.objects.count() == 3
    assert item.severity == "high"


def test_two_flags_at_one_moment_make_one_item(reviewer: Actor, asked: UUID, acme: Company) -> None:
    def flag(source_id: str) -> Raised:
        try:
            return raise_flag(actor=reviewer, request_id=asked, source="rule", source_id=source_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        raised = list(pool.map(flag, ["r1", "r1", "r2", "r2"]))
    assert len({each.item_id for each in raised}) == 1
    assert len({each.flag_id for each in raised}) == 2
    with tenant_scope(acme.tenant.pk):
        assert sorted(ReviewStep.objects.values_list("seq", flat=True)) == [1, 2]


def test_every_flag_is_an_event_that_names_the_record_and_the_reason(
    flagged: Raised, asked: UUID, acme: Company
) -> None:
    with tenant_scope(acme.tenant.pk):
        event = AuditRecord.objects.get(kind="review.flagged")
        detail = open_json(handle_of(event), field="input", sealed=event.input)
        item = ReviewItem.objects.get()
    assert (event.user_label, event.subject_id) == (acme.reviewer.email, flagged.item_id)
    assert (detail["record"], detail["words"]) == (str(asked), "It smells.")
    assert event.confined_to == item.room_id


def test_what_cannot_be_recorded_is_not_flagged(
    reviewer: Actor, asked: UUID, acme: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**values: object) -> None:
        raise AuditUnavailable("down")

    monkeypatch.setattr("audit.review.steps.record_event", fail)
    with pytest.raises(AuditUnavailable):
        raise_flag(actor=reviewer, request_id=asked, source="rule", source_id="r1")
    with tenant_scope(acme.tenant.pk):
        assert not ReviewItem.objects.exists()
        assert not Flag.objects.exists()


@pytest.mark.parametrize("role", ["owner", "administrator", "operator", "curator", "member", "auditor"])
def test_who_does_not_review_flags_nothing(acme: Company, asked: UUID, role: str) -> None:
    with pytest.raises(NotVisible):
        raise_flag(actor=acme.actor(getattr(acme, role)), request_id=asked, source="hand", reason="x")


def test_the_other_tenants_records_are_not_there_to_flag(outsider: Actor, asked: UUID) -> None:
    for request_id in (asked, uuid7(), uuid4()):
        with pytest.raises(NotVisible):
            raise_flag(actor=outsider, request_id=request_id, source="hand", reason="x")


def test_nobody_flags_their_own_record_and_is_not_told_whether_it_is_flagged(
    reviewer: Actor, officer: Actor
) -> None:
    own = generation(reviewer).request_id
    messages = set()
    for _round in range(2):
        with pytest.raises(Refused) as refused:
            raise_flag(actor=reviewer, request_id=own, source="hand", reason="x")
        messages.add(refused.value.message)
        raise_flag(actor=officer, request_id=own, source="hand", reason="x")
    assert len(messages) == 1


def test_an_event_is_nothing_to_flag(flagged: Raised, officer: Actor, acme: Company) -> None:
    with tenant_scope(acme.tenant.pk):
        event = AuditRecord.objects.get(kind="review.flagged")
    with pytest.raises(NotVisible):
        raise_flag(actor=officer, request_id=event.id, source="hand", reason="x")


def test_by_hand_a_reason_is_needed(reviewer: Actor, asked: UUID) -> None:
    for reason in ("", "  ", "x" * 2001):
        with pytest.raises(Refused):
            raise_flag(actor=reviewer, request_id=asked, source="hand", reason=reason)


def test_history_can_be_added_to_and_never_changed(
    flagged: Raised, acme: Company, item_now: Callable[[UUID], ReviewItem]
) -> None:
    for model in (Flag, ReviewStep):
        with tenant_scope(acme.tenant.pk):
            row = model.objects.first()
        for change in (row.delete, row.save):
            with pytest.raises(Exception, match="permission denied"), tenant_scope(acme.tenant.pk):
                change()
