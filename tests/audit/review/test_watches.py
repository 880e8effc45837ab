"""Saved searches that flag: new hits only, each once, on behalf of an owner who may still review."""

from datetime import timedelta
from uuid import UUID

import pytest

from audit.models import AuditRecord
from audit.record import AuditUnavailable, handle_of, open_json
from audit.review import flags, watches
from audit.review.models import Flag, ReviewItem
from audit.search import saved
from audit.search.asked import Asked
from audit.search.saved import Saved
from tenants import clock
from tenants.access import Actor
from tenants.models import Membership, TenantSettings
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.conftest import Company

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def watch(member: Actor, reviewer: Actor) -> Saved:
    """A search for one word that flags; something with that word was there before."""
    generation(member, texts=("Old smurfing.",))
    return saved.save(actor=reviewer, name="Layering", asked=Asked(text="smurfing"), flags=True)


def test_new_hits_are_flagged_once_and_old_ones_are_not(watch: Saved, member: Actor, acme: Company) -> None:
    hit = generation(member, texts=("New smurfing.",)).request_id
    generation(member, texts=("Something else.",))
    with tenant_scope(acme.tenant.pk):
        # The worker comes from no network at all.
        TenantSettings.objects.update_or_create(defaults={"networks": ["192.0.2.0/24"]})
    assert [watches.look(acme.tenant), watches.look(acme.tenant)] == [1, 0]
    with tenant_scope(acme.tenant.pk):
        assert list(ReviewItem.objects.values_list("request_id", flat=True)) == [hit]
        flag = Flag.objects.get()
        words = flags.words_of(flag)
    assert (flag.source, flag.source_id, flag.raised_by_id) == ("search", str(watch.id), None)
    assert words is not None
    assert (words.reason, words.detail) == ("Layering", {"query": "smurfing"})


def test_each_look_is_a_recorded_search_before_anything_is_opened(
    watch: Saved, member: Actor, acme: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation(member, texts=("New smurfing.",))
    watches.look(acme.tenant)
    with tenant_scope(acme.tenant.pk):
        event = AuditRecord.objects.filter(kind="audit.search").latest("id")
        detail = open_json(handle_of(event), field="input", sealed=event.input)
    assert (event.subject_id, detail["reason"]) == (watch.id, "Layering")

    def fail(**values: object) -> None:
        raise AuditUnavailable("down")

    monkeypatch.setattr(watches, "record_event", fail)
    monkeypatch.setattr("audit.search.engine.iterate", lambda *args, **values: pytest.fail("searched"))
    with pytest.raises(AuditUnavailable):
        watches.look(acme.tenant)


def test_a_search_whose_owner_reviews_no_more_flags_nothing(
    watch: Saved, member: Actor, acme: Company
) -> None:
    generation(member, texts=("New smurfing.",))
    with tenant_scope(acme.tenant.pk):
        Membership.objects.filter(user=acme.reviewer).update(role="member")
    assert watches.look(acme.tenant) == 0
    with tenant_scope(acme.tenant.pk):
        Membership.objects.filter(user=acme.reviewer).update(role="reviewer")
    assert watches.look(acme.tenant) == 1, "the control"


def test_a_hit_of_the_owners_own_comes_under_review_unseen_by_them(
    watch: Saved, reviewer: Actor, acme: Company
) -> None:
    own: UUID = generation(reviewer, texts=("My smurfing.",)).request_id
    assert watches.look(acme.tenant) == 1
    with tenant_scope(acme.tenant.pk):
        assert ReviewItem.objects.get().request_id == own


def test_a_search_that_flags_no_more_is_left_alone(
    watch: Saved, reviewer: Actor, member: Actor, acme: Company
) -> None:
    generation(member, texts=("New smurfing.",))
    saved.update(actor=reviewer, saved_id=watch.id, flags=False)
    assert watches.look(acme.tenant) == 0


def test_it_looks_back_for_answers_that_took_long(
    watch: Saved, member: Actor, acme: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation(member, texts=("New smurfing.",))
    moved = clock.now() + watches.OVERLAP - timedelta(minutes=5)
    monkeypatch.setattr(clock, "now", lambda: moved)
    with tenant_scope(acme.tenant.pk):
        saved.SavedSearch.objects.update(looked_until=moved)
    assert watches.look(acme.tenant) == 1
