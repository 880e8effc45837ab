"""Service accounts and API keys. Readers run in the tenant's scope, writers open it. Raises NotVisible and Refused.

Whoever manages keys manages those of service accounts, and takes away anybody's; everybody who may use the API makes
personal keys, which can never do more than their owner and are shown to nobody else. A program with a role that has a
duty, and each of its keys, is made by whoever may give that role to people. No program reads content. A key makes no
personal keys, and none for its own program.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from tenants import clock, networks, words
from tenants.actors import Actor, NotVisible, people_behind, require
from tenants.changes import change, difference, record_change
from tenants.custom_roles import require_giving
from tenants.errors import Refused
from tenants.models import ApiKey, ServiceAccount
from tenants.roles import (
    ADMINISTRATION_VIEW,
    API_USE,
    KEYS_MANAGE,
    Duty,
    Role,
    Scope,
    duties_of,
)

LONGEST_OVERLAP = timedelta(days=30)
LONGEST_LIFE = timedelta(days=3650)
KEYS_PER_OWNER = 100
MOST_ROUTES = 100


def service_accounts(actor: Actor) -> QuerySet[ServiceAccount]:
    """All programs of the tenant, by name."""
    _require_any(actor, KEYS_MANAGE, ADMINISTRATION_VIEW)
    return ServiceAccount.objects.select_related("created_by").order_by("name")


@change
def create_service_account(
    *, actor: Actor, name: str, description: str = "", role: str = Role.MEMBER
) -> ServiceAccount:
    """A program with rights of its own."""
    require(actor, KEYS_MANAGE)
    _require_giving(actor, role)
    account = ServiceAccount(
        name=words.clean_name(name), description=words.clean_text(description), role=role
    )
    account.created_by_id = _maker(actor)
    try:
        with transaction.atomic():
            account.save(force_insert=True)
    except IntegrityError:
        message = _("There is a service account “%(name)s” already. Choose another name.")
        raise Refused("name_taken", message % {"name": account.name}, "name") from None
    record_change(actor, "service_account.created", subject_id=account.pk, after=_shown_account(account))
    return account


@change
def update_service_account(*, actor: Actor, account_id: UUID, **changes: Any) -> ServiceAccount:
    """Change description or role."""
    require(actor, KEYS_MANAGE)
    account = _others_account(actor, account_id)
    _require_giving(actor, account.role)
    before = _shown_account(account)
    if "description" in changes:
        account.description = words.clean_text(changes["description"])
    if "role" in changes:
        _require_giving(actor, changes["role"])
        account.role = changes["role"]
    account.save()
    old, new = difference(before, _shown_account(account))
    if new:
        record_change(actor, "service_account.changed", subject_id=account.pk, before=old, after=new)
    return account


@change
def set_service_account_enabled(*, actor: Actor, account_id: UUID, enabled: bool) -> ServiceAccount:
    """Stop a program, with all its keys, within a second; or let it work again."""
    require(actor, KEYS_MANAGE)
    account = _others_account(actor, account_id)
    if enabled:
        _require_giving(actor, account.role)
    if (account.disabled is None) != enabled:
        account.disabled = None if enabled else clock.now()
        account.save(update_fields=["disabled"])
        kind = "service_account.enabled" if enabled else "service_account.disabled"
        before, after = {"active": not enabled}, {"active": enabled}
        detail = {"name": account.name}
        record_change(actor, kind, subject_id=account.pk, before=before, after=after, detail=detail)
    return account


def keys(actor: Actor) -> QuerySet[ApiKey]:
    """Those the actor manages: all of the tenant, or one's own. Newest first."""
    found = ApiKey.objects.select_related("service_account", "user", "created_by").order_by("-pk")
    if actor.can(KEYS_MANAGE) or actor.can(ADMINISTRATION_VIEW):
        return found
    require(actor, API_USE)
    return found.filter(user_id=actor.user_id) if actor.user_id else found.none()


@change
def create_key(
    *,
    actor: Actor,
    name: str,
    service_account_id: UUID | None = None,
    scopes: Collection[str] = (Scope.INFERENCE,),
    expires: datetime | None = None,
    allowed_routes: Collection[str] = (),
    allowed_networks: Collection[str] = (),
) -> tuple[ApiKey, str]:
    """A key of a service account, or the actor's own without one; and its text, which cannot be had again."""
    key = ApiKey(tenant_id=actor.tenant_id, name=words.clean_name(name), created_by_id=_maker(actor))
    if service_account_id is None:
        require(actor, API_USE)
        if actor.api_key_id is not None:
            raise Refused("key_makes_no_key", _("A key makes keys for service accounts only: name one."))
        key.user_id = actor.user_id
    else:
        require(actor, KEYS_MANAGE)
        key.service_account = _others_account(actor, service_account_id)
        _require_giving(actor, key.service_account.role)
    key.scopes, key.expires = _cleaned_scopes(scopes), _cleaned_expiry(expires)
    key.allowed_routes = _cleaned_routes(allowed_routes)
    key.networks = networks.parse(list(allowed_networks))
    _refuse_too_many(key)
    text = key.set_new_secret(actor.tenant_id)
    _insert(key)
    record_change(actor, "key.created", subject_id=key.pk, after=_shown(key))
    return key, text


@change
def rotate_key(*, actor: Actor, key_id: UUID, overlap: timedelta = timedelta(days=1)) -> tuple[ApiKey, str]:
    """A successor with the same rights and span of life, and its text. The old key works on for `overlap`, if it lasts."""
    old = _managed(actor, key_id)
    if old.service_account_id is None:
        if old.user_id != actor.user_id or actor.api_key_id is not None:
            message = _("A personal key is replaced by its owner alone, in the console. You can revoke it.")
            raise Refused("key_of_another", message)
    else:
        account = _others_account(actor, old.service_account_id)
        _require_giving(actor, account.role)
    if not old.is_valid:
        raise Refused("key_ended", _("This key has ended. Make a new one instead."))
    if old.successor_made:
        raise Refused("key_rotated", _("This key has a successor already. Rotate that one."))
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        message = _("Let the old key work on for 0 to %(days)d days.")
        raise Refused("overlap_invalid", message % {"days": LONGEST_OVERLAP.days}, "overlap")
    fresh = ApiKey(
        tenant_id=actor.tenant_id,
        name=old.name,
        user_id=old.user_id,
        service_account_id=old.service_account_id,
        scopes=old.scopes,
        allowed_routes=old.allowed_routes,
        networks=old.networks,
        created_by_id=_maker(actor),
        expires=clock.now() + (old.expires - old.created) if old.expires else None,
        rotates=old,
    )
    _refuse_too_many(fresh)
    text = fresh.set_new_secret(actor.tenant_id)
    until, before = clock.now() + overlap, _expiry(old)
    old.successor_made, old.expires = clock.now(), min(until, old.expires) if old.expires else until
    old.save(update_fields=["successor_made", "expires"])
    _insert(fresh)
    detail = {"name": old.name, "successor": str(fresh.pk)}
    record_change(actor, "key.rotated", subject_id=old.pk, before=before, after=_expiry(old), detail=detail)
    return fresh, text


@change
def revoke_key(*, actor: Actor, key_id: UUID) -> ApiKey:
    """End a key; what runs with it ends within a second."""
    key = _managed(actor, key_id)
    if key.revoked is None:
        key.revoked = clock.now()
        key.save(update_fields=["revoked"])
        record_change(actor, "key.revoked", subject_id=key.pk, before=_shown(key))
    return key


def _managed(actor: Actor, key_id: UUID) -> ApiKey:
    """Any key for whoever manages them; for people, their own."""
    key = ApiKey.objects.select_related("service_account", "user").filter(pk=key_id).first()
    is_own = key is not None and actor.api_key_id is None and key.user_id == actor.user_id
    if key is None or not (is_own or actor.can(KEYS_MANAGE)):
        raise NotVisible("key")
    return key


def _maker(actor: Actor) -> UUID | None:
    """The person who is shown what the actor makes, also through one program after another."""
    return next(iter(people_behind(actor)), None)


def _others_account(actor: Actor, account_id: UUID) -> ServiceAccount:
    """A service account other than that which acts."""
    account = ServiceAccount.objects.filter(pk=account_id).first()
    if account is None:
        raise NotVisible("service account")
    if account.pk == actor.service_account_id:
        raise Refused("own_account", _("No program changes its own rights. Ask somebody who manages keys."))
    return account


def _refuse_too_many(key: ApiKey) -> None:
    living = ApiKey.objects.filter(Q(expires=None) | Q(expires__gt=clock.now()), revoked=None)
    if (
        living.filter(user_id=key.user_id, service_account_id=key.service_account_id).count()
        >= KEYS_PER_OWNER
    ):
        message = _("There are %(most)d keys already. Revoke some.")
        raise Refused("too_many_keys", message % {"most": KEYS_PER_OWNER})


def _require_giving(actor: Actor, role: str) -> None:
    """Raises Refused for roles that do not exist, that the actor may give to nobody, or that read content."""
    if Duty.REVIEW in duties_of(require_giving(actor, role)):
        message = _("People read content, programs never. Choose a role without.")
        raise Refused("role_reads_content", message, "role")


def _require_any(actor: Actor, *permissions: str) -> None:
    if not any(actor.can(permission) for permission in permissions):
        raise NotVisible(permissions[0])


def _cleaned_scopes(scopes: Collection[str]) -> list[str]:
    wanted = sorted(set(scopes))
    if not wanted or set(wanted) - set(Scope.values):
        raise Refused("scope_unknown", _("Choose at least one of the scopes offered."), "scopes")
    return wanted


def _cleaned_expiry(expires: datetime | None) -> datetime | None:
    if expires is not None and (
        expires.tzinfo is None or not clock.now() < expires <= clock.now() + LONGEST_LIFE
    ):
        raise Refused("expiry_invalid", _("Choose a time in the future, within ten years."), "expires")
    return expires


def _cleaned_routes(names: Collection[str]) -> list[str]:
    if len(names) > MOST_ROUTES:
        message = _("Name at most %(most)d models.")
        raise Refused("too_many_routes", message % {"most": MOST_ROUTES}, "allowed_routes")
    return sorted({words.clean_name(name, field="allowed_routes", most=100) for name in names})


def _insert(key: ApiKey) -> None:
    try:
        with transaction.atomic():
            key.save(force_insert=True)
    except IntegrityError:
        message = _("There is a key “%(name)s” already. Choose another name, or rotate that key.")
        raise Refused("name_taken", message % {"name": key.name}, "name") from None


def _expiry(key: ApiKey) -> dict[str, str | None]:
    return {"expires": key.expires.isoformat() if key.expires else None}


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "owner": key.user.email if key.user else str(key.service_account),
        "scopes": key.scopes,
        **_expiry(key),
        "allowed_routes": key.allowed_routes,
        "networks": key.networks,
    }


def _shown_account(account: ServiceAccount) -> dict[str, Any]:
    return {"name": account.name, "description": account.description, "role": account.role}
