"""Figures: right, of one's own queues, never about oneself, and of people only for whoever manages them."""

from datetime import timedelta
from uuid import UUID

import pytest

from audit.review import queues, seconds, statistics, work
from audit.review.flags import raise_flag
from audit.review.models import ReviewItem, ReviewStep
from tenants import clock
from tenants.access import Actor, NotVisible
from tenants.models import User
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)


def flag(actor: Actor, of: Actor, severity: str = "medium", source: str = "rule") -> UUID:
    request_id = generation(of).request_id
    return raise_flag(
        actor=actor, request_id=request_id, source=source, source_id="r", severity=severity, reason="x"
    ).item_id


def figures(actor: Actor) -> statistics.Figures:
    with tenant_scope(actor.tenant_id):
        return statistics.figures(actor)


def test_what_waits_and_what_was_decided_is_counted(
    reviewer: Actor, officer: Actor, member: Actor, acme: Company, anna: User
) -> None:
    other = acme.actor(anna)
    severe, returned, plain = (flag(officer, member, each) for each in ("high", "high", "low"))
    flag(officer, member)
    sampled = flag(officer, member, source="sample")
    work.decide(actor=reviewer, item_id=severe, outcome="confirm", reason="x")
    seconds.approve(actor=other, item_id=severe)
    work.decide(actor=reviewer, item_id=returned, outcome="dismiss", reason="x")
    seconds.give_back(actor=other, item_id=returned, comment="x")
    work.decide(actor=other, item_id=plain, outcome="confirm", reason="x")
    work.withdraw(actor=other, item_id=plain)
    work.decide(actor=other, item_id=plain, outcome="dismiss", reason="x")
    with tenant_scope(acme.tenant.pk):
        ReviewItem.objects.filter(pk=sampled).update(due=clock.now())
        found = statistics.figures(officer)
        waits = statistics.waiting(reviewer)
    assert (found.open, found.late, found.second) == (3, 1, 0)
    assert found.ages == {"1": 3, "3": 0, "7": 0, "30": 0, "more": 0}
    assert found.outcomes == {"dismiss": 2, "confirm": 1, "escalate": 0}
    assert (found.signed, found.returned, found.agreement) == (1, 1, 0.5)
    assert found.days[-1][1] == found.outcomes
    assert found.median_hours is not None
    assert 0 <= found.median_hours < 1
    by_source = {row.label: (row.open, sum(row.decided.values())) for row in found.sources}
    assert by_source == {"By hand": (0, 0), "Saved search": (0, 0), "Sample": (1, 0), "Rule": (2, 3)}
    loads = {load.label: (load.assigned, load.decided, load.signed, load.returned) for load in found.loads}
    assert loads == {"reviewer@acme-bank.example": (1, 2, 0, 0), "Anna Berg": (0, 1, 1, 1)}
    assert waits[None] == {"open": 3, "mine": 1, "free": 2, "late": 1, "second": 0}


def test_of_others_queues_and_of_oneself_nothing_is_counted(
    reviewer: Actor, officer: Actor, member: Actor, acme: Company, anna: User
) -> None:
    queues.create_queue(actor=officer, name="Sanctions", severities=["high"], member_ids=[anna.pk])
    flag(officer, member, "high")
    own = flag(officer, reviewer)
    work.decide(actor=officer, item_id=own, outcome="dismiss", reason="x")
    found = figures(reviewer)
    assert (found.open, sum(found.outcomes.values()), found.loads) == (0, 0, [])
    assert [row.label for row in found.queues] == [""]
    everything = figures(officer)
    assert (everything.open, sum(everything.outcomes.values())) == (1, 1)


def test_they_are_of_one_tenant_and_for_reviewers(
    officer: Actor, member: Actor, north: Company, acme: Company
) -> None:
    flag(officer, member)
    assert figures(north.actor(north.officer)).open == 0
    for person in (acme.auditor, acme.owner, acme.member):
        with pytest.raises(NotVisible):
            figures(acme.actor(person))


def test_age_is_counted_from_when_it_last_began_to_wait(officer: Actor, member: Actor, acme: Company) -> None:
    ages = (0, 2, 5, 20, 40)
    for days in ages:
        item_id = flag(officer, member)
        with tenant_scope(acme.tenant.pk):
            ReviewItem.objects.filter(pk=item_id).update(opened=clock.now() - timedelta(days=days))
    assert figures(officer).ages == {"1": 1, "3": 1, "7": 1, "30": 1, "more": 1}
    with tenant_scope(acme.tenant.pk):
        assert ReviewStep.objects.count() == len(ages)
