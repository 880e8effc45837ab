"""What the people of a review are called. Inside the tenant's scope."""

from collections.abc import Iterable
from uuid import UUID

from audit.review.models import ReviewStep
from tenants.models import User


def names(user_ids: Iterable[UUID | None]) -> dict[UUID, str]:
    """The name, or else the address, of each of these people, who have worked here or do."""
    wanted = {user_id for user_id in user_ids if user_id is not None}
    found = User.objects.filter(pk__in=wanted).values_list("pk", "name", "email") if wanted else ()
    return {user_id: name or email for user_id, name, email in found}


def name(user_id: UUID | None) -> str:
    """As `names` of one; "" for nobody."""
    return names([user_id]).get(user_id, "") if user_id else ""


def actor_of(step: ReviewStep, known: dict[UUID, str]) -> str:
    """Who did it: by the name of today, or as it was recorded where the person is gone, or is Custos itself."""
    return known.get(step.actor_id, step.actor) if step.actor_id else step.actor
