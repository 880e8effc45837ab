"""Who sees which readings and alerts. All inside the tenant's scope.

Officers see everybody's readings and the alerts on everybody but themselves; reviewers see their own readings. That an
alert was raised and what became of it are events of a room that those officers alone are inside of (audit.secrecy).
"""

from uuid import UUID, uuid5

from django.db.models import QuerySet

from audit.readers.models import ReaderAlert
from tenants.access import Actor
from tenants.roles import REVIEW_MANAGE

_ROOMS = UUID("5d3c0f0e-6a53-5c39-9d1e-7a0f6c0b7b51")


def sees_everybody(actor: Actor) -> bool:
    return actor.can(REVIEW_MANAGE)


def alerts_of(actor: Actor) -> QuerySet[ReaderAlert]:
    """The alerts that exist for the actor, newest first."""
    found = ReaderAlert.objects.order_by("-created", "-id")
    if not sees_everybody(actor) or actor.user_id is None:
        return found.none()
    return found.exclude(reader_id=actor.user_id)


def room_of(reader_id: UUID) -> UUID:
    """What the events about a person's alerts are confined to."""
    return uuid5(_ROOMS, str(reader_id))


def rooms_of(actor: Actor) -> list[UUID]:
    readers = alerts_of(actor).order_by().values_list("reader_id", flat=True).distinct()
    return [room_of(reader_id) for reader_id in readers]
