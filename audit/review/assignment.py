"""Who works on what: given by hand, taken as the next one, or given in turn. Never to whom the record is about."""

from collections.abc import Collection
from uuid import UUID

from django.db.models import F, Q
from django.utils.translation import gettext as _

from audit.review import access, steps
from audit.review.deeds import deed
from audit.review.models import Deed, Queue, QueueSeat, ReviewItem, State
from audit.review.rules import CLAIM
from tenants import clock
from tenants.access import Actor, require
from tenants.errors import Refused
from tenants.roles import REVIEW_MANAGE, REVIEW_WORK

MOST_AT_ONCE = 500


@deed
def assign(*, actor: Actor, item_ids: Collection[UUID], user_id: UUID | None) -> int:
    """Give open items to somebody who works in their queue, or (None) back to everybody; how many changed hands.

    Everybody may take an item that is nobody's and give their own back; other people's hands are review.manage's.
    Raises Refused when one of them cannot be given to that person: then none is.
    """
    if len(item_ids) > MOST_AT_ONCE:
        raise Refused("too_many", _("Select at most %(most)d at once.") % {"most": MOST_AT_ONCE})
    return sum(_assign(actor, item_id, user_id) for item_id in sorted(set(item_ids)))


@deed
def take_next(*, actor: Actor, queue_id: UUID | None = None) -> ReviewItem | None:
    """The most urgent open item that is nobody's, now the actor's; None when none waits.

    Two people who ask at one moment get two items.
    """
    require(actor, REVIEW_WORK)
    free = access.items_of(actor).filter(state=State.OPEN, assignee_id=None)
    free = free.filter(
        Q(claimed_until=None) | Q(claimed_until__lt=clock.now()) | Q(claimed_by_id=actor.user_id)
    )
    if queue_id is not None:
        free = free.filter(queue_id=queue_id)
    item = free.select_for_update(of=("self",), skip_locked=True).order_by("-rank", "due", "pk").first()
    if item is not None:
        item.claimed_by_id, item.claimed_until = actor.user_id, clock.now() + CLAIM
        _give(actor, item, actor.user_id)
    return item


def give_in_turn(actor: Actor, item: ReviewItem) -> None:
    """Give a fresh item to whoever of its queue has gone longest without one. Inside the transaction that made it."""
    # One after the other, so that two items at a moment go to two people.
    Queue.objects.select_for_update(no_key=True).get(pk=item.queue_id)
    people = [user_id for user_id in access.reviewers(item.queue) if user_id != item.subject_user_id]
    if not people:
        return
    QueueSeat.objects.bulk_create(
        [QueueSeat(queue=item.queue, user_id=user_id) for user_id in people], ignore_conflicts=True
    )
    seats = QueueSeat.objects.filter(queue=item.queue, user_id__in=people)
    seat = seats.order_by(F("last_given").asc(nulls_first=True), "user_id")[0]
    seat.last_given = clock.now()
    seat.save(update_fields=["last_given"])
    _give(actor, item, seat.user_id)


def _assign(actor: Actor, item_id: UUID, user_id: UUID | None) -> bool:
    item = access.item_of(actor, item_id, lock=True)
    if item.assignee_id == user_id:
        return False
    if item.state != State.OPEN:
        raise Refused("not_open", _("One of these is not open any more. Select again."))
    mine = {None, actor.user_id}
    if not (item.assignee_id in mine and user_id in mine):
        require(actor, REVIEW_MANAGE)
    if user_id is not None and not _can_be_given(actor, item, user_id):
        # The same words whether the person does not work there or the record is their own: the one must not be told.
        raise Refused("not_assignable", _("One of these cannot be given to this person."), "user_id")
    _give(actor, item, user_id)
    return True


def _can_be_given(actor: Actor, item: ReviewItem, user_id: UUID) -> bool:
    # Whoever sees an item may take it: a manager is in every queue.
    return user_id == actor.user_id or access.may_work_on(item, user_id)


def _give(actor: Actor, item: ReviewItem, user_id: UUID | None) -> None:
    former, item.assignee_id = item.assignee_id, user_id
    if item.claimed_by_id not in (None, user_id):
        item.claimed_by_id, item.claimed_until = None, None
    item.save(update_fields=["assignee_id", "claimed_by_id", "claimed_until"])
    if user_id is None:
        steps.add(actor, item, Deed.UNASSIGNED, about_id=former)
    else:
        steps.add(actor, item, Deed.ASSIGNED, about_id=user_id)
