"""Queues: which flags they take, who works there, and how long an item may wait. All inside the tenant's scope."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from audit.review.models import Queue, QueueSeat, ReviewItem, Severity, Source, State
from tenants import clock, words
from tenants.access import Actor, NotVisible, require
from tenants.changes import change, difference, record_change
from tenants.errors import Refused
from tenants.models import CustomRole, Membership
from tenants.roles import PERMISSIONS, REVIEW_MANAGE, REVIEW_WORK

MOST_QUEUES = 50
MOST_HOURS = 24 * 365
_FIELDS = (
    "name",
    "position",
    "sources",
    "severities",
    "roles",
    "assigns_in_turn",
    "seconds_escalations",
    "hours_low",
    "hours_medium",
    "hours_high",
)


def default_queue() -> Queue:
    """The queue that takes what no other does, made when it is first needed."""
    found = Queue.objects.filter(is_default=True).first()
    if found is None:
        # Another process may make it at this moment: the first to commit wins and both read that one.
        Queue.objects.bulk_create([Queue(name="", is_default=True)], ignore_conflicts=True)
        found = Queue.objects.get(is_default=True)
    return found


def queue_for(source: str, severity: str) -> Queue:
    """The first queue that takes such a flag."""
    for queue in Queue.objects.filter(retired=None, is_default=False).order_by("position", "name", "pk"):
        if (not queue.sources or source in queue.sources) and (
            not queue.severities or severity in queue.severities
        ):
            return queue
    return default_queue()


def due(queue: Queue, severity: str) -> datetime:
    """By when an item that begins to wait now is to be decided."""
    return clock.now() + timedelta(hours=queue.hours_for(severity))


def queues(actor: Actor) -> QuerySet[Queue]:
    """All queues that are in use, the default one first. Raises NotVisible without review.manage."""
    require(actor, REVIEW_MANAGE)
    default_queue()
    return Queue.objects.filter(retired=None).order_by("-is_default", "position", "name")


def own_queue(actor: Actor, queue_id: UUID) -> Queue:
    found = queues(actor).filter(pk=queue_id).first()
    if found is None:
        raise NotVisible("review queue")
    return found


def members(queue: Queue) -> list[UUID]:
    """The people who are in the queue by name."""
    return list(QueueSeat.objects.filter(queue=queue, is_member=True).values_list("user_id", flat=True))


def reviewing_roles() -> list[str]:
    """The roles whose holders review, built in and the tenant's own."""
    built_in = [str(role) for role, permissions in PERMISSIONS.items() if REVIEW_WORK in permissions]
    own = CustomRole.objects.filter(permissions__contains=[REVIEW_WORK]).order_by("slug")
    return [*built_in, *own.values_list("slug", flat=True)]


@change
def create_queue(*, actor: Actor, name: str, member_ids: Collection[UUID] = (), **fields: Any) -> Queue:
    """A further queue. member_ids: people by their user ids."""
    require(actor, REVIEW_MANAGE)
    if queues(actor).count() >= MOST_QUEUES:
        message = _("There are %(most)d queues, which is the most. Close one first.") % {"most": MOST_QUEUES}
        raise Refused("too_many_queues", message)
    queue = Queue(tenant_id=actor.tenant_id)
    _put(queue, {"name": name, **fields})
    _save(queue)
    _seat(queue, member_ids)
    record_change(actor, "review.queue_created", subject_id=queue.pk, after=_shown(queue))
    return queue


@change
def update_queue(
    *, actor: Actor, queue_id: UUID, member_ids: Collection[UUID] | None = None, **changes: Any
) -> Queue:
    """Change fields of a queue, and who is in it by name. Items that wait keep their due times."""
    queue = own_queue(actor, queue_id)
    before = _shown(queue)
    if queue.is_default:
        # It takes the rest and has no name of its own; everything else of it can be chosen.
        changes = {
            name: value for name, value in changes.items() if name not in ("name", "sources", "severities")
        }
    _put(queue, changes)
    _save(queue)
    if member_ids is not None:
        _seat(queue, member_ids)
    old, new = difference(before, _shown(queue))
    if new:
        record_change(actor, "review.queue_changed", subject_id=queue.pk, before=old, after=new)
    return queue


@change
def retire_queue(*, actor: Actor, queue_id: UUID) -> None:
    """Close a queue; refused while items wait in it, and for the default one."""
    queue = own_queue(actor, queue_id)
    if queue.is_default:
        raise Refused("queue_is_default", _("The default queue takes what no other does, so it stays."))
    if ReviewItem.objects.filter(queue=queue).exclude(state=State.CLOSED).exists():
        raise Refused(
            "queue_not_empty", _("Items still wait in this queue. Decide them, or move them, first.")
        )
    record_change(actor, "review.queue_retired", subject_id=queue.pk, before=_shown(queue))
    queue.retired = clock.now()
    queue.save(update_fields=["retired"])


def _put(queue: Queue, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if name not in _FIELDS:
            raise TypeError(f"a queue has no field {name}")
        setattr(queue, name, _CLEANERS.get(name, lambda value, field: value)(value, name))


def _save(queue: Queue) -> None:
    try:
        with transaction.atomic():
            queue.save()
    except IntegrityError as error:
        raise Refused(
            "name_in_use", _("Another queue has this name. Choose a different one."), "name"
        ) from error


def _seat(queue: Queue, user_ids: Collection[UUID]) -> None:
    """These people, who are in the tenant, are in the queue by name, and no others."""
    known = set(Membership.objects.filter(user_id__in=user_ids).values_list("user_id", flat=True))
    QueueSeat.objects.filter(queue=queue).exclude(user_id__in=known).update(is_member=False)
    fresh = [QueueSeat(queue=queue, user_id=user_id) for user_id in sorted(known)]
    QueueSeat.objects.bulk_create(fresh, ignore_conflicts=True)
    QueueSeat.objects.filter(queue=queue, user_id__in=known).update(is_member=True)


def _shown(queue: Queue) -> dict[str, Any]:
    return {
        **{name: getattr(queue, name) for name in _FIELDS},
        "members": sorted(str(user_id) for user_id in members(queue)),
    }


def _some_of(known: Collection[str]) -> Any:
    def clean(values: Collection[str], field: str) -> list[str]:
        if set(values) - set(known):
            raise Refused("choice_unknown", _("Choose among those offered."), field)
        return [value for value in known if value in values]

    return clean


def _roles(values: Collection[str], field: str) -> list[str]:
    return _some_of(reviewing_roles())(values, field)


def _hours(value: int, field: str) -> int:
    if isinstance(value, bool) or not 1 <= value <= MOST_HOURS:
        message = _("Choose a number of hours from 1 to %(most)d.") % {"most": MOST_HOURS}
        raise Refused("hours_invalid", message, field)
    return value


_CLEANERS: dict[str, Any] = {
    "name": lambda value, field: words.clean_name(value, field=field, most=80),
    "sources": _some_of(Source.values),
    "severities": _some_of(Severity.values),
    "roles": _roles,
    "hours_low": _hours,
    "hours_medium": _hours,
    "hours_high": _hours,
}
