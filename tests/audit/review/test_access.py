"""Who learns of a review at all: nobody without the right, nobody about themselves, nobody of another queue or tenant."""

from collections.abc import Callable
from uuid import UUID

import pytest

from audit import selectors
from audit.models import AuditRecord
from audit.review import access, assignment, queues, seconds, work
from audit.review.flags import Raised, raise_flag
from audit.review.models import QueueSeat, ReviewItem, ReviewStep
from tenants.access import Actor, NotVisible
from tenants.errors import Refused
from tenants.models import Membership, User
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)

ItemNow = Callable[[UUID], ReviewItem]
EVERYTHING = selectors.RecordFilters(kinds=())


def seen(actor: Actor) -> list[UUID]:
    with tenant_scope(actor.tenant_id):
        return list(access.items_of(actor).values_list("pk", flat=True))


def kinds_seen(actor: Actor) -> list[str]:
    return [record.kind for record in selectors.list_records(actor, EVERYTHING).records]


@pytest.mark.parametrize("role", ["owner", "administrator", "operator", "curator", "member", "auditor"])
def test_to_whoever_does_not_review_there_are_no_items(acme: Company, flagged: Raised, role: str) -> None:
    actor = acme.actor(getattr(acme, role))
    with pytest.raises(NotVisible):
        seen(actor)
    for deed in (
        lambda: work.open_item(actor=actor, item_id=flagged.item_id),
        lambda: work.decide(actor=actor, item_id=flagged.item_id, outcome="dismiss", reason="x"),
        lambda: work.comment(actor=actor, item_id=flagged.item_id, text="x"),
        lambda: seconds.approve(actor=actor, item_id=flagged.item_id),
        lambda: assignment.take_next(actor=actor),
        lambda: assignment.assign(actor=actor, item_ids=[flagged.item_id], user_id=actor.user_id),
    ):
        with pytest.raises(NotVisible):
            deed()


def test_an_auditors_list_is_the_same_whether_a_record_is_under_review_or_not(
    acme: Company, reviewer: Actor, officer: Actor, asked: UUID
) -> None:
    auditor = acme.actor(acme.auditor)
    with tenant_scope(acme.tenant.pk):
        before = selectors.list_records(auditor, EVERYTHING), selectors.survey(auditor, EVERYTHING)
    item_id = raise_flag(actor=reviewer, request_id=asked, source="hand", reason="x").item_id
    work.open_item(actor=reviewer, item_id=item_id)
    work.decide(actor=reviewer, item_id=item_id, outcome="dismiss", reason="x")
    with tenant_scope(acme.tenant.pk):
        after = selectors.list_records(auditor, EVERYTHING), selectors.survey(auditor, EVERYTHING)
    assert after == before
    assert {"review.flagged", "review.decided", "audit.read"} <= set(kinds_seen(officer)), "the control"


def test_nobody_learns_of_a_review_of_their_own_record(
    reviewer: Actor, officer: Actor, acme: Company, item_now: ItemNow
) -> None:
    own = generation(reviewer).request_id
    item_id = raise_flag(actor=officer, request_id=own, source="hand", reason="Odd.").item_id
    work.open_item(actor=officer, item_id=item_id)
    assert seen(reviewer) == []
    assert seen(officer) == [item_id]
    assert kinds_seen(reviewer) == ["generation"]
    for deed in (
        lambda: work.open_item(actor=reviewer, item_id=item_id),
        lambda: work.decide(actor=reviewer, item_id=item_id, outcome="dismiss", reason="x"),
        lambda: work.claim(actor=reviewer, item_id=item_id),
        lambda: assignment.assign(actor=reviewer, item_ids=[item_id], user_id=reviewer.user_id),
    ):
        with pytest.raises(NotVisible):
            deed()
    assert assignment.take_next(actor=reviewer) is None
    opened = selectors.open_record(reviewer, own, reason="My own")
    assert [reading.user_label for reading in opened.history] == [acme.reviewer.email]
    assert len(selectors.open_record(officer, own, reason="Control").history) == 3
    with pytest.raises(Refused) as refused:
        assignment.assign(actor=officer, item_ids=[item_id], user_id=reviewer.user_id)
    assert refused.value.code == "not_assignable"
    work.decide(actor=officer, item_id=item_id, outcome="confirm", reason="x")


def test_the_database_refuses_whoever_the_record_is_about(
    reviewer: Actor, officer: Actor, acme: Company
) -> None:
    own = generation(reviewer).request_id
    item_id = raise_flag(actor=officer, request_id=own, source="hand", reason="Odd.").item_id
    for who in ("assignee_id", "claimed_by_id", "decided_by_id", "approved_by_id"):
        with (
            pytest.raises(Exception, match=f"review_{who[:-3]}_is_not_subject"),
            tenant_scope(acme.tenant.pk),
        ):
            ReviewItem.objects.filter(pk=item_id).update(**{who: reviewer.user_id})


def test_the_other_tenant_has_no_part_in_it(outsider: Actor, flagged: Raised, north: Company) -> None:
    assert seen(outsider) == []
    with pytest.raises(NotVisible):
        work.open_item(actor=outsider, item_id=flagged.item_id)
    assert assignment.take_next(actor=outsider) is None
    with tenant_scope(north.tenant.pk):
        assert not ReviewStep.objects.exists()


def test_a_queue_of_named_people_is_for_them_and_for_managers(
    reviewer: Actor, officer: Actor, acme: Company, anna: User, member: Actor
) -> None:
    queues.create_queue(actor=officer, name="Sanctions", sources=["rule"], member_ids=[anna.pk])
    raised = raise_flag(
        actor=reviewer, request_id=generation(member).request_id, source="rule", source_id="r"
    )
    assert seen(reviewer) == []
    assert seen(acme.actor(anna)) == seen(officer) == [raised.item_id]
    assert kinds_seen(reviewer) == ["generation", "review.queue_created"]
    assert "review.flagged" in kinds_seen(acme.actor(anna))
    with pytest.raises(NotVisible):
        work.comment(actor=reviewer, item_id=raised.item_id, text="x")


def test_a_queue_of_a_role_is_for_its_holders(
    reviewer: Actor, officer: Actor, asked: UUID, acme: Company
) -> None:
    queues.create_queue(actor=officer, name="Severe", severities=["high"], roles=["officer"])
    raise_flag(actor=reviewer, request_id=asked, source="hand", reason="x", severity="high")
    assert seen(reviewer) == []
    assert len(seen(officer)) == 1


def test_the_default_queue_takes_what_no_other_does(
    reviewer: Actor, officer: Actor, asked: UUID, item_now: ItemNow
) -> None:
    queues.create_queue(actor=officer, name="Samples", sources=["sample"], severities=["low"])
    first = raise_flag(actor=reviewer, request_id=asked, source="sample", source_id="s", severity="medium")
    assert item_now(first.item_id).queue.is_default


def test_who_opens_a_record_for_another_reason_does_not_see_that_it_was_reviewed(
    reviewer: Actor, officer: Actor, acme: Company, asked: UUID, anna: User
) -> None:
    queues.create_queue(actor=officer, name="Sanctions", member_ids=[anna.pk])
    item_id = raise_flag(actor=officer, request_id=asked, source="hand", reason="Odd.").item_id
    work.open_item(actor=officer, item_id=item_id)
    history = selectors.open_record(reviewer, asked, reason="Routine").history
    assert [reading.reason for reading in history] == ["Routine"]


class TestAssignment:
    def test_two_who_ask_for_the_next_get_two_and_the_most_urgent_first(
        self, reviewer: Actor, officer: Actor, member: Actor, asked: UUID, acme: Company, anna: User
    ) -> None:
        low = raise_flag(actor=officer, request_id=asked, source="hand", reason="x", severity="low")
        high = raise_flag(
            actor=officer,
            request_id=generation(member).request_id,
            source="hand",
            reason="x",
            severity="high",
        )
        first = assignment.take_next(actor=reviewer)
        second = assignment.take_next(actor=acme.actor(anna))
        assert first is not None
        assert second is not None
        assert (first.pk, second.pk) == (high.item_id, low.item_id)
        assert assignment.take_next(actor=officer) is None
        with tenant_scope(acme.tenant.pk):
            given = ReviewStep.objects.filter(deed="assigned").values_list("item", "about_id")
            assert set(given) == {(high.item_id, acme.reviewer.pk), (low.item_id, anna.pk)}

    def test_in_turn_everybody_gets_the_same_and_nobody_their_own(
        self, reviewer: Actor, officer: Actor, member: Actor, acme: Company, anna: User, item_now: ItemNow
    ) -> None:
        queues.create_queue(
            actor=officer,
            name="In turn",
            assigns_in_turn=True,
            member_ids=[acme.reviewer.pk, anna.pk, acme.officer.pk, acme.member.pk],
        )

        def given(whose: Actor) -> UUID | None:
            request_id = generation(whose).request_id
            raised = raise_flag(actor=officer, request_id=request_id, source="rule", source_id="r")
            return item_now(raised.item_id).assignee_id

        people = [given(member) for _each in range(6)]
        assert {person: people.count(person) for person in people} == {
            acme.reviewer.pk: 2,
            anna.pk: 2,
            acme.officer.pk: 2,
        }
        own = {given(acme.actor(anna)) for _each in range(4)}
        assert own == {acme.reviewer.pk, acme.officer.pk}

    def test_what_is_anothers_is_moved_by_managers_only(
        self, reviewer: Actor, officer: Actor, flagged: Raised, acme: Company, anna: User, item_now: ItemNow
    ) -> None:
        assert assignment.assign(actor=officer, item_ids=[flagged.item_id], user_id=anna.pk) == 1
        assert assignment.assign(actor=officer, item_ids=[flagged.item_id], user_id=anna.pk) == 0
        for user_id in (reviewer.user_id, None):
            with pytest.raises(NotVisible):
                assignment.assign(actor=reviewer, item_ids=[flagged.item_id], user_id=user_id)
        with pytest.raises(Refused) as refused:
            work.decide(actor=reviewer, item_id=flagged.item_id, outcome="dismiss", reason="x")
        assert refused.value.code == "assigned"
        assert assignment.assign(actor=acme.actor(anna), item_ids=[flagged.item_id], user_id=None) == 1
        assert assignment.assign(actor=reviewer, item_ids=[flagged.item_id], user_id=reviewer.user_id) == 1
        assert item_now(flagged.item_id).assignee_id == reviewer.user_id

    def test_nothing_is_given_to_whoever_does_not_review(
        self, officer: Actor, flagged: Raised, acme: Company
    ) -> None:
        for person in (acme.member, acme.auditor, acme.owner):
            with pytest.raises(Refused) as refused:
                assignment.assign(actor=officer, item_ids=[flagged.item_id], user_id=person.pk)
            assert refused.value.code == "not_assignable"


class TestQueues:
    def test_they_are_managers_to_make_and_each_change_is_recorded(
        self, reviewer: Actor, officer: Actor, acme: Company
    ) -> None:
        with pytest.raises(NotVisible):
            queues.create_queue(actor=reviewer, name="Mine")
        queue = queues.create_queue(actor=officer, name="Sanctions", hours_high=4)
        queues.update_queue(actor=officer, queue_id=queue.pk, name="Sanctions lists", member_ids=[])
        queues.retire_queue(actor=officer, queue_id=queue.pk)
        assert kinds_seen(officer) == [
            "review.queue_retired",
            "review.queue_changed",
            "review.queue_created",
        ]

    def test_what_makes_no_sense_is_refused(self, officer: Actor, flagged: Raised, item_now: ItemNow) -> None:
        queues.create_queue(actor=officer, name="One")
        for fields in (
            {"name": "ONE"},
            {"name": ""},
            {"name": "x", "hours_low": 0},
            {"name": "x", "sources": ["rumour"]},
            {"name": "x", "roles": ["member"]},
        ):
            with pytest.raises(Refused):
                queues.create_queue(actor=officer, **fields)
        default = item_now(flagged.item_id).queue
        with pytest.raises(Refused) as refused:
            queues.retire_queue(actor=officer, queue_id=default.pk)
        assert refused.value.code == "queue_is_default"

    def test_one_in_which_items_wait_stays_until_they_are_moved(
        self, reviewer: Actor, officer: Actor, asked: UUID, item_now: ItemNow
    ) -> None:
        queue = queues.create_queue(actor=officer, name="One", sources=["rule"])
        item_id = raise_flag(actor=reviewer, request_id=asked, source="rule", source_id="r").item_id
        with pytest.raises(Refused) as refused:
            queues.retire_queue(actor=officer, queue_id=queue.pk)
        assert refused.value.code == "queue_not_empty"
        other = queues.create_queue(actor=officer, name="Two", roles=["officer"])
        assert work.move(actor=officer, item_ids=[item_id], queue_id=other.pk) == 1
        queues.retire_queue(actor=officer, queue_id=queue.pk)
        assert seen(reviewer) == []

    def test_a_person_is_in_a_queue_by_name_once(
        self, officer: Actor, acme: Company, anna: User, stranger: User
    ) -> None:
        queue = queues.create_queue(actor=officer, name="One", member_ids=[anna.pk, stranger.pk])
        queues.update_queue(actor=officer, queue_id=queue.pk, member_ids=[anna.pk, acme.reviewer.pk])
        queues.update_queue(actor=officer, queue_id=queue.pk, member_ids=[acme.reviewer.pk])
        with tenant_scope(acme.tenant.pk):
            assert queues.members(queue) == [acme.reviewer.pk]
            assert QueueSeat.objects.count() == 2

    def test_due_times_follow_the_severity(
        self, reviewer: Actor, officer: Actor, asked: UUID, item_now: ItemNow
    ) -> None:
        queues.create_queue(actor=officer, name="One", hours_low=100, hours_high=2)
        item_id = raise_flag(
            actor=reviewer, request_id=asked, source="rule", source_id="r1", severity="low"
        ).item_id
        first = item_now(item_id)
        assert round((first.due - first.opened).total_seconds() / 3600) == 100
        raise_flag(actor=reviewer, request_id=asked, source="rule", source_id="r2", severity="high")
        assert round((item_now(item_id).due - first.opened).total_seconds() / 3600) == 2


def test_a_custom_role_that_reviews_works_in_the_default_queue_only_while_it_may(
    acme: Company, flagged: Raised, anna: User
) -> None:
    assert seen(acme.actor(anna)) == [flagged.item_id]
    with tenant_scope(acme.tenant.pk):
        Membership.objects.filter(user=anna).update(role="member")
        assert AuditRecord.objects.exists()
    with pytest.raises(NotVisible):
        seen(acme.actor(anna))
