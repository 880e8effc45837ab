"""A tenant's life: founded, suspended, resumed, archived, deleted with its keys; and its settings.

Whatever changes something opens the tenant's scope. Raises NotVisible without the permission and Refused for what makes
no sense.
"""

import logging
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, models, transaction
from django.utils.translation import gettext as _

from tenants import clock, isolation, networks, words
from tenants.actors import Actor, NotVisible, platform_actor, require, system_actor
from tenants.changes import change, difference, record_change
from tenants.errors import Refused
from tenants.keyring import shards
from tenants.models import Group, Tenant, TenantSettings, User
from tenants.roles import PLATFORM_MANAGE, SETTINGS_MANAGE, TENANT_CLOSE
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)

GRACE = timedelta(days=30)
MOST_DOMAINS = 50
MOST_MODELS = 1000

_S = Tenant.Status
_FROM: dict[str, frozenset[str]] = {
    _S.SUSPENDED: frozenset({_S.ACTIVE}),
    _S.ACTIVE: frozenset({_S.SUSPENDED, _S.ARCHIVED}),
    _S.ARCHIVED: frozenset({_S.ACTIVE, _S.SUSPENDED}),
    _S.DELETING: frozenset({_S.ACTIVE, _S.SUSPENDED, _S.ARCHIVED}),
}


def furnish(tenant: Tenant) -> None:
    """Give a tenant what every one has: settings and the group of everyone. Idempotent; opens the scope."""
    with tenant_scope(tenant.pk):
        TenantSettings.objects.get_or_create(tenant=tenant)
        Group.objects.get_or_create(
            tenant=tenant, is_everyone=True, defaults={"name": "Everyone", "description": ""}
        )


def create_tenant(*, user: User, slug: str, name: str, address: str = "") -> Tenant:
    """A new tenant, founded by a platform administrator; its first owner is invited next."""
    tenant = Tenant(slug=slug, name=name)
    return _founded(tenant, platform_actor(user=user, tenant=tenant, address=address))


def create_tenant_by_system(*, slug: str, name: str, label: str) -> Tenant:
    """A new tenant, founded by whoever runs a command on the machine itself; `label` names the command in records."""
    tenant = Tenant(slug=slug, name=name)
    return _founded(tenant, system_actor(tenant, label))


def _founded(tenant: Tenant, actor: Actor) -> Tenant:
    tenant.slug, tenant.name = words.clean_slug(tenant.slug), words.clean_name(tenant.name)
    actor = replace(actor, tenant_slug=tenant.slug, tenant_name=tenant.name)
    with transaction.atomic():
        try:
            with transaction.atomic():
                tenant.save(force_insert=True)
        except IntegrityError:
            message = _("There is or was a tenant “%(slug)s”. Choose another name for its addresses.")
            raise Refused("slug_taken", message % {"slug": tenant.slug}, "slug") from None
        furnish(tenant)
        after = {"slug": tenant.slug, "name": tenant.name}
        record_change(actor, "tenant.created", subject_id=tenant.pk, after=after)
    return tenant


@change
def suspend(*, actor: Actor) -> Tenant:
    """Nobody enters and nothing runs until it is resumed: sockets and answers end within a second."""
    return _turn(actor, _S.SUSPENDED, "tenant.suspended", PLATFORM_MANAGE)


@change
def resume(*, actor: Actor) -> Tenant:
    """Back to work, from suspended or archived."""
    return _turn(actor, _S.ACTIVE, "tenant.resumed", PLATFORM_MANAGE)


@change
def archive(*, actor: Actor) -> Tenant:
    """Closed and kept: as suspended, but meant to last."""
    return _turn(actor, _S.ARCHIVED, "tenant.archived", PLATFORM_MANAGE, TENANT_CLOSE)


@change
def request_deletion(*, actor: Actor, confirm_slug: str) -> Tenant:
    """Close it now, and after GRACE delete what it owns and destroy its keys. `confirm_slug`: typed by whoever asks."""
    _require_any(actor, PLATFORM_MANAGE, TENANT_CLOSE)
    if confirm_slug != actor.tenant_slug:
        message = _("To confirm, type the tenant's short name exactly: %(slug)s")
        raise Refused("not_confirmed", message % {"slug": actor.tenant_slug}, "confirm_slug")
    return _turn(actor, _S.DELETING, "tenant.deletion_requested", PLATFORM_MANAGE, TENANT_CLOSE)


@change
def cancel_deletion(*, actor: Actor) -> Tenant:
    """Keep the tenant after all: it is archived then."""
    require(actor, PLATFORM_MANAGE)
    tenant = _tenant(actor)
    if tenant.status != _S.DELETING:
        raise Refused("wrong_state", _("This tenant is not being deleted."))
    return _set_status(actor, tenant, _S.ARCHIVED, "tenant.deletion_cancelled")


def destroy_due() -> int:
    """Delete the rows and destroy the keys of every tenant whose grace is over; how many there were.

    What the audit recorded stays as sealed bytes that no key opens any more.
    """
    due = Tenant.objects.filter(status=_S.DELETING, delete_after__lte=clock.now()).order_by("pk")
    return sum(_destroyed(tenant) for tenant in due)


def settings_of(actor: Actor) -> TenantSettings:
    """The tenant's settings, for any of its people."""
    return TenantSettings.objects.get(tenant_id=actor.tenant_id)


@change
def update_settings(*, actor: Actor, **changes: Any) -> TenantSettings:
    """Change some of the tenant's settings, by the names of TenantSettings' fields; `name` is the tenant's own."""
    require(actor, SETTINGS_MANAGE)
    row, tenant = settings_of(actor), _tenant(actor)
    before = _shown(row, tenant)
    for field, value in changes.items():
        if field == "name":
            tenant.name = words.clean_name(value)
        elif field in _CLEANERS:
            setattr(row, field, _CLEANERS[field](value, field))
        else:
            raise Refused("setting_unknown", _("There is no such setting: %(name)s") % {"name": field}, field)
    _refuse_locking_out(actor, row)
    row.save()
    tenant.save(update_fields=["name"])
    old, new = difference(before, _shown(row, tenant))
    if new:
        record_change(actor, "tenant.settings_changed", subject_id=tenant.pk, before=old, after=new)
    return row


@change
def set_logo(*, actor: Actor, logo: bytes | None) -> None:
    """A picture that was checked and scaled already (WebP), or None to take it away."""
    require(actor, SETTINGS_MANAGE)
    row = settings_of(actor)
    before, row.logo = {"logo": row.logo is not None}, logo
    row.save(update_fields=["logo"])
    after = {"logo": logo is not None}
    record_change(actor, "tenant.logo_changed", subject_id=actor.tenant_id, before=before, after=after)


def _require_any(actor: Actor, *permissions: str) -> None:
    if not any(actor.can(permission) for permission in permissions):
        raise NotVisible(permissions[0])


def _tenant(actor: Actor) -> Tenant:
    return Tenant.objects.get(pk=actor.tenant_id)


def _turn(actor: Actor, status: str, kind: str, *permissions: str) -> Tenant:
    _require_any(actor, *permissions)
    tenant = _tenant(actor)
    if tenant.status not in _FROM[status]:
        message = _("The tenant is “%(status)s”, from which this is not possible.")
        raise Refused("wrong_state", message % {"status": tenant.get_status_display()})
    return _set_status(actor, tenant, status, kind)


def _set_status(actor: Actor, tenant: Tenant, status: str, kind: str) -> Tenant:
    before = _state(tenant)
    tenant.status, tenant.status_changed = status, clock.now()
    tenant.delete_after = clock.now() + GRACE if status == _S.DELETING else None
    tenant.save(update_fields=["status", "status_changed", "delete_after"])
    old, new = difference(before, _state(tenant))
    record_change(actor, kind, subject_id=tenant.pk, before=old, after=new)
    return tenant


def _state(tenant: Tenant) -> dict[str, str | None]:
    return {
        "status": tenant.status,
        "delete_after": tenant.delete_after.isoformat() if tenant.delete_after else None,
    }


def _destroyed(tenant: Tenant) -> bool:
    """Whether it was; what stands in the way of one tenant's end is logged, and the others go on."""
    try:
        return _destroy(tenant)
    except Exception:
        logger.exception("tenant %s is due and was not deleted", tenant.slug)
        return False


def _destroy(tenant: Tenant) -> bool:
    with tenant_scope(tenant.pk):
        # Not as `changing` does: no row that refers to the tenant may be on its way in.
        locked = Tenant.objects.select_for_update().get(pk=tenant.pk)
        if locked.status != _S.DELETING:
            return False
        record_change(system_actor(locked, "grace period"), "tenant.destroyed", subject_id=tenant.pk)
        for model in isolation.isolated_models():
            if "DELETE" in isolation.privileges_of(model):
                _empty(model)
        with connection.cursor() as cursor:
            cursor.execute("SELECT tenants_destroy_keys(%s)", [tenant.pk])
        transaction.on_commit(partial(shards.remove_all, tenant.pk))
        locked.status, locked.status_changed = _S.DELETED, clock.now()
        locked.save(update_fields=["status", "status_changed"])
    logger.warning("tenant %s was deleted and its keys destroyed", tenant.slug)
    return True


def _empty(model: type[models.Model]) -> None:
    """Delete the tenant's rows, whatever refers to them: the references are checked at the commit, and all go."""
    rows = model._default_manager.all()
    rows._raw_delete(rows.db)


def _shown(row: TenantSettings, tenant: Tenant) -> dict[str, Any]:
    return {"name": tenant.name, **{field: getattr(row, field) for field in _CLEANERS}}


def _refuse_locking_out(actor: Actor, row: TenantSettings) -> None:
    if actor.address and not networks.admit(actor.address, row.networks):
        message = _("You come from %(address)s, which these networks leave out: you would lock yourself out.")
        raise Refused("locks_out", message % {"address": actor.address}, "networks")


def _language(value: str, field: str) -> str:
    if value and value not in dict(settings.LANGUAGES):
        raise Refused("language_unknown", _("Choose one of the languages offered."), field)
    return value


def _choice(choices: type[models.TextChoices]) -> Any:
    def clean(value: str, field: str) -> str:
        if value not in choices.values:
            raise Refused("choice_unknown", _("Choose one of those offered."), field)
        return value

    return clean


def _domains(values: list[str], field: str) -> list[str]:
    if len(values) > MOST_DOMAINS:
        raise Refused("too_many_domains", _("Name at most %(most)d domains.") % {"most": MOST_DOMAINS}, field)
    domains = (value.strip().removeprefix("@") for value in values)
    return sorted({words.clean_email(f"x@{domain}", field=field)[2:] for domain in domains})


def _names(values: list[str], field: str) -> list[str]:
    if len(values) > MOST_MODELS:
        raise Refused("too_many_models", _("Name at most %(most)d models.") % {"most": MOST_MODELS}, field)
    return sorted({words.clean_name(value, field=field, most=100) for value in values})


_CLEANERS: dict[str, Any] = {
    "default_language": _language,
    "allowed_models": _names,
    "registration": _choice(TenantSettings.Registration),
    "registration_domains": _domains,
    "networks": lambda values, field: networks.parse(values, field=field),
    "mfa_required": lambda value, field: bool(value),
    "display_name": lambda value, field: words.clean_text(value, field=field, most=120),
    "accent": _choice(TenantSettings.Accent),
}
