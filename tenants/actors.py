"""From a credential to an actor: who acts, in which tenant, with which permissions.

Views, consumers and API operations call these for every message anew. What is missing and what is forbidden raise the
same NotVisible, which callers show as 404.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from tenants import clock
from tenants.models import ApiKey, Membership, Tenant, User
from tenants.roles import KEY_PERMISSIONS, PERMISSIONS
from tenants.scope import actor_scope, tenant_scope

LAST_USED_PRECISION = timedelta(minutes=1)


class NotVisible(Exception):
    """It does not exist, or not for this actor; which of the two is not told."""


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A person or a program acting in one tenant."""

    tenant_id: UUID
    tenant_slug: str
    tenant_name: str
    label: str
    role: str
    permissions: frozenset[str]
    user_id: UUID | None = None
    api_key_id: UUID | None = None
    session_ref: str = field(default="", repr=False)

    def can(self, permission: str) -> bool:
        return permission in self.permissions


def require(actor: Actor, permission: str) -> None:
    """Raises NotVisible unless the actor holds the permission."""
    if not actor.can(permission):
        raise NotVisible(permission)


def memberships_of(user: User) -> list[Membership]:
    """The user's memberships in active tenants, by tenant name."""
    with actor_scope(user.pk):
        own = Membership.objects.with_scopes_disabled().filter(user=user, tenant__status=Tenant.Status.ACTIVE)
        return list(own.select_related("tenant").order_by("tenant__name"))


def actor_for_user(*, user: User, tenant_slug: str, session_ref: str = "") -> Actor:
    """The user as an actor in the tenant. Raises NotVisible for strangers, inactive users and suspended tenants."""
    if not (user.is_authenticated and user.is_active):
        raise NotVisible(tenant_slug)
    with actor_scope(user.pk):
        own = Membership.objects.with_scopes_disabled().filter(user=user, user__is_active=True)
        membership = (
            own.filter(tenant__slug=tenant_slug, tenant__status=Tenant.Status.ACTIVE)
            .select_related("tenant")
            .first()
        )
    if membership is None:
        raise NotVisible(tenant_slug)
    return Actor(
        tenant_id=membership.tenant.pk,
        tenant_slug=membership.tenant.slug,
        tenant_name=membership.tenant.name,
        label=user.email,
        role=membership.role,
        permissions=PERMISSIONS.get(membership.role, frozenset()),
        user_id=user.pk,
        session_ref=session_ref,
    )


def actor_for_key(text: str) -> Actor | None:
    """The program whose API key this is, or None when it is unknown, revoked or its tenant is not active."""
    parsed = ApiKey.parse(text)
    if parsed is None:
        return None
    tenant_id, prefix, secret = parsed
    with tenant_scope(tenant_id):
        key = ApiKey.objects.filter(prefix=prefix, revoked=None).select_related("tenant").first()
        if key is None or not key.matches(secret) or key.tenant.status != Tenant.Status.ACTIVE:
            return None
        if key.last_used is None or key.last_used < clock.now() - LAST_USED_PRECISION:
            ApiKey.objects.filter(pk=key.pk).update(last_used=clock.now())
    return Actor(
        tenant_id=key.tenant.pk,
        tenant_slug=key.tenant.slug,
        tenant_name=key.tenant.name,
        label=key.name,
        role="api key",
        permissions=KEY_PERMISSIONS,
        api_key_id=key.pk,
    )


def create_api_key(*, tenant_slug: str, name: str) -> str:
    """A new key of a tenant; its whole text, shown once. Raises NotVisible, or ValueError for a name in use."""
    tenant = Tenant.objects.filter(slug=tenant_slug).first()
    if tenant is None:
        raise NotVisible(tenant_slug)
    with tenant_scope(tenant.pk):
        if ApiKey.objects.filter(name=name).exists():
            raise ValueError(f"{tenant_slug} already has a key named {name!r}; choose another name")
        key = ApiKey(tenant_id=tenant.pk, name=name)
        text = key.set_new_secret(tenant.pk)
        key.save(force_insert=True)
    return text
