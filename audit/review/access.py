"""Who sees which items: whoever reviews, in the queues that they work in, and never what is about themselves.

To anybody else there is no such item: NotVisible, as for one that does not exist. All inside the tenant's scope.
"""

from collections.abc import Collection
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from audit.review.models import Queue, QueueSeat, ReviewItem, Room
from tenants.access import Actor, NotVisible, require
from tenants.actors import permissions_of_people
from tenants.models import Membership
from tenants.roles import AUDIT_READ, REVIEW_MANAGE, REVIEW_WORK


def queues_of(actor: Actor) -> QuerySet[Queue]:
    """The queues that the actor works in, or manages; none without review.work."""
    found = Queue.objects.filter(retired=None).order_by("-is_default", "position", "name")
    if not actor.can(REVIEW_WORK):
        return found.none()
    if actor.can(REVIEW_MANAGE):
        return found
    named = QueueSeat.objects.filter(queue=OuterRef("pk"), is_member=True)
    is_open = Q(roles=[]) & ~Exists(named)
    return found.filter(
        is_open | Q(roles__contains=[actor.role]) | Exists(named.filter(user_id=actor.user_id))
    )


def items_of(actor: Actor) -> QuerySet[ReviewItem]:
    """The items that exist for the actor. Raises NotVisible without review.work."""
    require(actor, REVIEW_WORK)
    return ReviewItem.objects.filter(_not_about(actor), queue__in=queues_of(actor).order_by())


def item_of(actor: Actor, item_id: UUID, *, lock: bool = False) -> ReviewItem:
    """One of them; lock: nobody else changes it until the transaction ends. Raises NotVisible."""
    found = items_of(actor).filter(pk=item_id)
    item = (found.select_for_update(of=("self",)) if lock else found).first()
    if item is None:
        raise NotVisible("review item")
    return item


def rooms_of(actor: Actor) -> list[UUID]:
    """What of the audit's confined events the actor is inside of."""
    if not actor.can(REVIEW_WORK):
        return []
    # A queue that is no longer worked in keeps its history for whoever manages.
    queues = Queue.objects.all() if actor.can(REVIEW_MANAGE) else queues_of(actor).order_by()
    return list(Room.objects.filter(_about_another(actor), queue__in=queues).values_list("pk", flat=True))


def reviewers(queue: Queue) -> list[UUID]:
    """Those who work in the queue now: not those who only manage it, unless they are among them."""
    seats = QueueSeat.objects.filter(queue=queue, is_member=True).values_list("user_id", flat=True)
    members = Membership.objects.filter(disabled=None, user__is_active=True)
    if queue.roles or seats:
        members = members.filter(Q(role__in=queue.roles) | Q(user_id__in=list(seats)))
    return working(members.values_list("user_id", flat=True))


def working(user_ids: Collection[UUID]) -> list[UUID]:
    """Those of these people who may review and open records now."""
    held = permissions_of_people(list(user_ids))
    return sorted(user_id for user_id, may in held.items() if {REVIEW_WORK, AUDIT_READ} <= may)


def may_work_on(item: ReviewItem, user_id: UUID) -> bool:
    """Whether the item can be given to this person."""
    return user_id != item.subject_user_id and user_id in reviewers(item.queue)


def _not_about(actor: Actor) -> Q:
    return Q() if actor.user_id is None else Q(subject_user_id=None) | ~Q(subject_user_id=actor.user_id)


def _about_another(actor: Actor) -> Q:
    return Q() if actor.user_id is None else Q(user_id=None) | ~Q(user_id=actor.user_id)
