"""The history of items: one row for each deed, and the same as an event of the audit, in one transaction.

Without the event there is no deed: audit.record.AuditUnavailable ends the transaction.
"""

from typing import Any
from uuid import UUID

from django.db.models import Max

from audit.record import record_event
from audit.review import sealing
from audit.review.models import Queue, ReviewItem, ReviewStep, Room
from tenants.access import Actor
from tenants.ids import uuid7

FIELD = "words"


def add(
    actor: Actor,
    item: ReviewItem,
    deed: str,
    *,
    words: str = "",
    about_id: UUID | None = None,
    outcome: str = "",
    data: dict[str, Any] | None = None,
) -> ReviewStep:
    """What `actor` did to the item, which is locked. words: theirs, sealed; data: codes and ids, plain."""
    last = ReviewStep.objects.filter(item=item).aggregate(last=Max("seq"))["last"] or 0
    step_id = uuid7()
    step = ReviewStep.objects.create(
        id=step_id,
        item=item,
        seq=last + 1,
        deed=deed,
        actor_id=actor.user_id,
        actor=actor.label,
        about_id=about_id,
        outcome=outcome,
        data=data or {},
        sealed=sealing.seal(words, tenant_id=actor.tenant_id, row_id=step_id, field=FIELD) if words else None,
    )
    told = {"outcome": outcome, "words": words, "about": str(about_id) if about_id else "", **(data or {})}
    record_event(
        actor=actor,
        kind=f"review.{deed}",
        detail={"record": str(item.request_id), **{name: value for name, value in told.items() if value}},
        subject_id=item.pk,
        client_address=actor.address,
        confined_to=item.room_id,
    )
    return step


def words_of(step: ReviewStep) -> str | None:
    """What was written with a step; "" for nothing, None when its key is gone."""
    if step.sealed is None:
        return ""
    return sealing.unseal(step.sealed, tenant_id=step.tenant_id, row_id=step.pk, field=FIELD)


def room(queue: Queue, subject_user_id: UUID | None) -> Room:
    """The room of a queue and a person, made when it is first needed."""
    wanted = {"queue": queue, "user_id": subject_user_id}
    found = Room.objects.filter(**wanted).first()
    if found is None:
        # Another process may make the same one at this moment: the first to commit wins and both read that one.
        Room.objects.bulk_create([Room(**wanted)], ignore_conflicts=True)
        found = Room.objects.get(**wanted)
    return found
