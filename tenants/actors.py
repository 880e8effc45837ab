"""From a credential to an actor: who acts, in which tenant, with which permissions.

Views, consumers and API operations call these for every message anew. What is missing and what is forbidden raise the
same NotVisible, which callers show as 404.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

from django.db.models import F, Q

from tenants import clock, floods, networks
from tenants.incidents import record_incident
from tenants.models import ApiKey, CustomRole, Membership, ServiceAccount, Tenant, TenantSettings, User
from tenants.roles import PERMISSIONS, PLATFORM_MANAGE, Role, Scope, permissions_in_scopes
from tenants.scope import actor_scope, tenant_scope

LAST_USED_PRECISION = timedelta(minutes=1)
PLATFORM_ROLE = "platform administrator"
KEY_ROLE = "api key"


class NotVisible(Exception):
    """It does not exist, or not for this actor; which of the two is not told."""


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A person or a program acting in one tenant.

    user_id: the person, also behind a personal key. service_account_id: the program of any other key.
    allowed_routes: names that the key is confined to; None: not confined. scopes: of the key; None: no key.
    address: where the request came from.
    """

    tenant_id: UUID
    tenant_slug: str
    tenant_name: str
    label: str
    role: str
    permissions: frozenset[str]
    user_id: UUID | None = None
    membership_id: UUID | None = None
    api_key_id: UUID | None = None
    service_account_id: UUID | None = None
    allowed_routes: frozenset[str] | None = None
    scopes: frozenset[str] | None = None
    address: str = ""
    session_ref: str = field(default="", repr=False)

    def can(self, permission: str) -> bool:
        return permission in self.permissions

    @property
    def is_platform(self) -> bool:
        return PLATFORM_MANAGE in self.permissions


def require(actor: Actor, permission: str) -> None:
    """Raises NotVisible unless the actor holds the permission."""
    if not actor.can(permission):
        raise NotVisible(permission)


def permissions_of(roles: Collection[str]) -> dict[str, frozenset[str]]:
    """What each of these roles may do; nothing for a role that does not exist. Inside the tenant's scope."""
    found = {role: PERMISSIONS[role] for role in roles if role in PERMISSIONS}
    if missing := set(roles) - set(found):
        custom = CustomRole.objects.filter(slug__in=missing).values_list("slug", "permissions")
        found.update({slug: frozenset(permissions) for slug, permissions in custom})
    return {role: found.get(role, frozenset()) for role in roles}


def memberships_of(user: User) -> list[Membership]:
    """The user's memberships in active tenants, by tenant name."""
    with actor_scope(user.pk):
        own = Membership.objects.with_scopes_disabled().filter(
            user=user, disabled=None, tenant__status=Tenant.Status.ACTIVE
        )
        return list(own.select_related("tenant").order_by("tenant__name"))


def actor_for_user(*, user: User, tenant_slug: str, session_ref: str = "", address: str = "") -> Actor:
    """The user as an actor in the tenant.

    Raises NotVisible for strangers, inactive users, tenants that are not active, and addresses outside the tenant's
    networks.
    """
    if not (user.is_authenticated and user.is_active):
        raise NotVisible(tenant_slug)
    tenant = Tenant.objects.filter(slug=tenant_slug, status=Tenant.Status.ACTIVE).first()
    if tenant is None:
        raise NotVisible(tenant_slug)
    with tenant_scope(tenant.pk):
        membership = Membership.objects.filter(user=user, disabled=None, user__is_active=True).first()
        if membership is None or not networks.admit(address, tenant_networks()):
            raise NotVisible(tenant_slug)
        _seen(membership)
        return Actor(
            tenant_id=tenant.pk,
            tenant_slug=tenant.slug,
            tenant_name=tenant.name,
            label=user.email,
            role=membership.role,
            permissions=permissions_of([membership.role])[membership.role],
            user_id=user.pk,
            membership_id=membership.pk,
            address=address,
            session_ref=session_ref,
        )


def platform_actor(*, user: User, tenant: Tenant, address: str = "", session_ref: str = "") -> Actor:
    """A platform administrator acting on a tenant from outside, whatever its state. Raises NotVisible for others."""
    if not (user.is_active and user.is_platform_administrator):
        raise NotVisible(tenant.slug)
    return Actor(
        tenant_id=tenant.pk,
        tenant_slug=tenant.slug,
        tenant_name=tenant.name,
        label=user.email,
        role=PLATFORM_ROLE,
        permissions=frozenset({PLATFORM_MANAGE}),
        user_id=user.pk,
        address=address,
        session_ref=session_ref,
    )


def system_actor(tenant: Tenant, label: str, permissions: frozenset[str] = frozenset()) -> Actor:
    """Custos itself, in a task or command of its own, which `label` names in records: may just these things."""
    return Actor(
        tenant_id=tenant.pk,
        tenant_slug=tenant.slug,
        tenant_name=tenant.name,
        label=label,
        role="system",
        permissions=permissions,
    )


def refreshed(actor: Actor) -> Actor:
    """The actor with what is left, at this moment, of what they could do. Inside the tenant's scope."""
    if actor.api_key_id is not None:
        held = permissions_of_keys([actor.api_key_id]).get(actor.api_key_id)
    elif actor.user_id is None:
        return actor  # Custos itself.
    elif actor.is_platform:
        found = User.objects.filter(pk=actor.user_id, is_active=True, is_platform_administrator=True)
        held = actor.permissions if found.exists() else None
    else:
        held = permissions_of_people([actor.user_id]).get(actor.user_id)
    return replace(actor, permissions=actor.permissions & (held or frozenset()))


def people_behind(actor: Actor) -> frozenset[UUID]:
    """Whose own rights the actor must not change: the person, or whoever was shown the program's key."""
    if actor.user_id is not None:
        return frozenset({actor.user_id})
    makers = ApiKey.objects.filter(pk=actor.api_key_id).values_list("created_by_id", flat=True)
    return frozenset(maker for maker in makers if maker is not None)


def actor_for_key(text: str, address: str = "") -> Actor | None:
    """The program whose API key this is.

    None when the key is unknown, revoked or expired, its owner is gone, its tenant is not active, or the address is
    outside the networks of the key or the tenant; that a key which there is was refused is recorded. So is its first use.
    Whatever the audit raises when that cannot be recorded goes on to the caller.
    """
    parsed = ApiKey.parse(text)
    if parsed is None:
        return None
    tenant_id, prefix, secret = parsed
    with tenant_scope(tenant_id):
        owners = ("tenant", "service_account", "user")
        key = ApiKey.objects.filter(prefix=prefix).select_related(*owners).first()
        if key is None:
            return None
        is_right = key.matches(secret)
        permissions = permissions_of_keys([key.pk], address=address).get(key.pk) if is_right else None
        actor = _program(key, permissions or frozenset(), address)
        if permissions is None:
            _note_refusal(actor, key, "not valid here and now" if is_right else "wrong secret")
            return None
        _note_use(actor, key)
    return actor


def _program(key: ApiKey, permissions: frozenset[str], address: str) -> Actor:
    return Actor(
        tenant_id=key.tenant.pk,
        tenant_slug=key.tenant.slug,
        tenant_name=key.tenant.name,
        label=key.name if key.user is None else f"{key.user.email} · {key.name}",
        role=KEY_ROLE,
        permissions=permissions,
        user_id=key.user_id,
        api_key_id=key.pk,
        service_account_id=key.service_account_id,
        allowed_routes=frozenset(key.allowed_routes) or None,
        scopes=frozenset(key.scopes),
        address=address,
    )


def _note_use(actor: Actor, key: ApiKey) -> None:
    row = ApiKey.objects.filter(pk=key.pk)
    if key.last_used is None and row.filter(last_used=None).update(last_used=clock.now()):
        record_incident(actor, "key.first_used", subject_id=key.pk, detail={})
    elif key.last_used is not None and key.last_used < clock.now() - LAST_USED_PRECISION:
        row.update(last_used=clock.now())


def _note_refusal(actor: Actor, key: ApiKey, why: str) -> None:
    if key.tenant.status == Tenant.Status.ACTIVE and (count := floods.due("key", key.pk, why)):
        record_incident(actor, "key.refused", subject_id=key.pk, detail={"why": why, "count": count})


def permissions_of_people(user_ids: Collection[UUID]) -> dict[UUID, frozenset[str]]:
    """What each of these people may do now in the tenant in scope; those who are not in it are left out."""
    members = Membership.objects.filter(
        user_id__in=user_ids, disabled=None, user__is_active=True, tenant__status=Tenant.Status.ACTIVE
    )
    roles = dict(members.values_list("user_id", "role"))
    held = permissions_of(set(roles.values()))
    return {user_id: held[role] for user_id, role in roles.items()}


def permissions_of_keys(key_ids: Collection[UUID], address: str | None = None) -> dict[UUID, frozenset[str]]:
    """What each of these keys may do now in the tenant in scope; those that are not valid are left out.

    With an address: neither are those valid whose networks, or whose tenant's, it lies outside.
    """
    valid = ApiKey.objects.filter(
        Q(expires=None) | Q(expires__gt=clock.now()),
        Q(service_account=None) | Q(service_account__disabled=None),
        pk__in=key_ids,
        revoked=None,
        tenant__status=Tenant.Status.ACTIVE,
    )
    keys = list(valid.annotate(account_role=F("service_account__role")))
    if address is not None:
        around = tenant_networks() if keys else []
        keys = [k for k in keys if networks.admit(address, around) and networks.admit(address, k.networks)]
    people = {key.user_id for key in keys if key.user_id}
    of_people = permissions_of_people(people) if people else {}
    of_roles = permissions_of({key.account_role for key in keys if key.account_role})
    held = {}
    for key in keys:
        owned = of_people.get(key.user_id) if key.user_id else of_roles[key.account_role]
        if owned is not None:
            held[key.pk] = permissions_in_scopes(owned, key.scopes)
    return held


def tenant_networks() -> list[str]:
    """Those from which the tenant in scope admits anybody; none: from everywhere."""
    found = TenantSettings.objects.values_list("networks", flat=True).first()
    return found or []


def create_api_key(*, tenant_slug: str, name: str) -> str:
    """A key of a new service account of that name; its whole text, shown once. For the command line and demonstrations.

    Raises NotVisible, or ValueError for a name in use.
    """
    tenant = Tenant.objects.filter(slug=tenant_slug).first()
    if tenant is None:
        raise NotVisible(tenant_slug)
    with tenant_scope(tenant.pk):
        if ServiceAccount.objects.filter(name=name).exists() or ApiKey.objects.filter(name=name).exists():
            raise ValueError(f"{tenant_slug} already has a key named {name!r}; choose another name")
        account = ServiceAccount.objects.create(name=name, role=Role.MEMBER)
        key = ApiKey(tenant_id=tenant.pk, name=name, service_account=account, scopes=[Scope.INFERENCE])
        text = key.set_new_secret(tenant.pk)
        key.save(force_insert=True)
    return text


def _seen(membership: Membership) -> None:
    if membership.last_seen is None or membership.last_seen < clock.now() - LAST_USED_PRECISION:
        Membership.objects.filter(pk=membership.pk).update(last_seen=clock.now())
