"""The people of a review: what they are called, and acting on behalf of one. Inside the tenant's scope."""

from collections.abc import Iterable
from uuid import UUID

from audit.review.models import ReviewStep
from tenants.access import Actor, NotVisible
from tenants.actors import permissions_of
from tenants.models import Membership, Tenant, User


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


def on_behalf_of(tenant: Tenant, user_id: UUID | None) -> Actor:
    """The person as an actor with the rights they have now, for what Custos does later because of them.

    They come from nowhere and are not seen by this, so networks do not matter. Raises NotVisible for who has left.
    """
    found = Membership.objects.filter(user_id__in=[user_id], disabled=None, user__is_active=True)
    membership = found.select_related("user").first()
    if membership is None:
        raise NotVisible("person")
    return Actor(
        tenant_id=tenant.pk,
        tenant_slug=tenant.slug,
        tenant_name=tenant.name,
        label=membership.user.email,
        role=membership.role,
        permissions=permissions_of([membership.role])[membership.role],
        user_id=membership.user_id,
        membership_id=membership.pk,
    )
