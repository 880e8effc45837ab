"""Changes of an account, recorded in every tenant that the person belongs to.

An account belongs to no tenant, and what happens to it concerns all of them.
"""

from typing import Any

from allauth.core import context
from django.db import transaction
from django.http import HttpRequest

from console.tenancy import session_reference
from tenants.actors import Actor, memberships_of
from tenants.changes import record_change
from tenants.models import Membership, User
from tenants.scope import tenant_scope


def client_address(request: HttpRequest | None) -> str:
    """The address that a request came from; "" when it is not known."""
    return (request.META.get("REMOTE_ADDR") or "") if request is not None else ""


def record_account_change(
    user: User,
    kind: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Record that the person changed their account ("account.password_changed"), in all their tenants or none.

    Call inside the transaction of the change and outside every tenant's scope: a tenant that cannot record the change
    prevents it.
    """
    with transaction.atomic():
        for membership in memberships_of(user):
            with tenant_scope(membership.tenant_id):
                actor = person_as_actor(user, membership)
                record_change(actor, kind, subject_id=user.pk, before=before, after=after, detail=detail)


def person_as_actor(user: User, membership: Membership) -> Actor:
    """The person as themselves, without permissions: whether they may change their account is no tenant's business."""
    request = context.request
    session = getattr(request, "session", None)
    return Actor(
        tenant_id=membership.tenant_id,
        tenant_slug=membership.tenant.slug,
        tenant_name=membership.tenant.name,
        label=user.email,
        role=membership.role,
        permissions=frozenset(),
        user_id=user.pk,
        membership_id=membership.pk,
        address=client_address(request),
        session_ref=session_reference(session.session_key if session else None),
    )
