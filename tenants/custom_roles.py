"""Roles of a tenant's own. Writers open the tenant's scope; raise NotVisible and Refused.

ROLES_MANAGE defines the roles without a duty; those with one are for whoever may give them, PEOPLE_APPOINT. Nobody
changes the role that they hold.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import translation
from django.utils.translation import gettext as _

from tenants import words
from tenants.actors import Actor, NotVisible, people_behind, require
from tenants.changes import change, difference, record_change
from tenants.errors import Refused
from tenants.models import CustomRole, Invitation, Membership, ServiceAccount
from tenants.roles import CATALOGUE, PEOPLE_APPOINT, PERMISSIONS, ROLES_MANAGE, Role, duties_of

_KNOWN = frozenset(permission.code for permission in CATALOGUE)


@change
def create_role(
    *, actor: Actor, slug: str, name: str, permissions: Collection[str], description: str = ""
) -> CustomRole:
    """A role that can be given from now on."""
    require(actor, ROLES_MANAGE)
    role = CustomRole(slug=words.clean_slug(slug), name=_cleaned_name(name))
    if role.slug in Role.values:
        message = _("This is the name of a role that every workspace has. Choose another.")
        raise Refused("name_taken", message, "slug")
    role.description, role.permissions = words.clean_text(description), _cleaned(permissions)
    _refuse_duties(actor, role)
    _save(role)
    record_change(actor, "role.created", subject_id=role.pk, after=_shown(role))
    return role


@change
def update_role(*, actor: Actor, role_id: UUID, **changes: Any) -> CustomRole:
    """Change name, description or permissions: whoever holds the role is affected at once."""
    require(actor, ROLES_MANAGE)
    role = _own(role_id)
    _refuse_own(actor, role)
    _refuse_duties(actor, role)
    before = _shown(role)
    if "name" in changes:
        role.name = _cleaned_name(changes["name"])
    if "description" in changes:
        role.description = words.clean_text(changes["description"])
    if "permissions" in changes:
        role.permissions = _cleaned(changes["permissions"])
    _refuse_duties(actor, role)
    _save(role)
    old, new = difference(before, _shown(role))
    if new:
        record_change(actor, "role.changed", subject_id=role.pk, before=old, after=new)
    return role


@change
def delete_role(*, actor: Actor, role_id: UUID) -> None:
    """Take a role away that nobody holds."""
    require(actor, ROLES_MANAGE)
    role = _own(role_id)
    _refuse_duties(actor, role)
    holders = Membership.objects.filter(role=role.slug).count()
    holders += ServiceAccount.objects.filter(role=role.slug).count()
    holders += Invitation.objects.filter(role=role.slug, accepted=None, revoked=None).count()
    if holders:
        message = _("%(count)d people, programs or invitations have this role. Give them another first.")
        raise Refused("role_in_use", message % {"count": holders})
    record_change(actor, "role.deleted", subject_id=role.pk, before=_shown(role))
    role.delete()


def roles() -> list[tuple[str, str, frozenset[str]]]:
    """(code, name, permissions) of every role that can be given here: the built-in ones, then the tenant's own."""
    built_in = [(role.value, str(role.label), PERMISSIONS[role]) for role in Role]
    own = CustomRole.objects.order_by("name").values_list("slug", "name", "permissions")
    return built_in + [(slug, name, frozenset(permissions)) for slug, name, permissions in own]


def require_giving(
    actor: Actor, role: str, known: list[tuple[str, str, frozenset[str]]] | None = None
) -> frozenset[str]:
    """What the role may do. Raises Refused unless it exists and the actor may give it. `known`: from `roles`."""
    found = {code: held for code, _name, held in (roles() if known is None else known)}
    if role not in found:
        raise Refused("role_unknown", _("There is no role “%(role)s”.") % {"role": role[:50]}, "role")
    require_appointing(actor, role, found[role])
    return found[role]


def require_appointing(actor: Actor, role: str, permissions: frozenset[str]) -> None:
    """Raises Refused unless the actor may give to others, and take from them, a role with these permissions."""
    if duties_of(permissions) and not actor.can(PEOPLE_APPOINT):
        message = _("Only an owner gives or takes the role “%(role)s”.")
        raise Refused("role_not_yours", message % {"role": role}, "role")


def _own(role_id: UUID) -> CustomRole:
    role = CustomRole.objects.filter(pk=role_id).first()
    if role is None:
        raise NotVisible("role")
    return role


def _refuse_own(actor: Actor, role: CustomRole) -> None:
    people = Membership.objects.filter(role=role.slug, user_id__in=people_behind(actor))
    programs = ServiceAccount.objects.filter(role=role.slug, pk=actor.service_account_id)
    if people.exists() or programs.exists():
        message = _("You hold this role, and nobody changes their own rights. Ask another owner.")
        raise Refused("own_role", message)


def _refuse_duties(actor: Actor, role: CustomRole) -> None:
    if duties_of(frozenset(role.permissions)) and not actor.can(PEOPLE_APPOINT):
        message = _("Only whoever appoints people defines roles that administer or read content.")
        raise Refused("role_not_yours", message, "permissions")


def _cleaned_name(text: str) -> str:
    name = words.clean_name(text)
    for language, _name in settings.LANGUAGES:
        with translation.override(language):
            taken = {str(label).casefold() for label in Role.labels} | set(Role.values)
        if name.casefold() in taken:
            message = _("This is the name of a role that every workspace has. Choose another.")
            raise Refused("name_taken", message, "name")
    return name


def _cleaned(permissions: Collection[str]) -> list[str]:
    wanted = frozenset(permissions)
    if unknown := sorted(wanted - _KNOWN):
        message = _("There is no permission “%(code)s”.")
        raise Refused("permission_unknown", message % {"code": unknown[0][:50]}, "permissions")
    if not wanted:
        raise Refused("permissions_missing", _("Choose at least one permission."), "permissions")
    if len(duties_of(wanted)) > 1:
        message = _("Administering and reading content are duties that no role may join. Make two roles.")
        raise Refused("duties_joined", message, "permissions")
    return sorted(wanted)


def _save(role: CustomRole) -> None:
    try:
        with transaction.atomic():
            role.save()
    except IntegrityError:
        message = _("There is a role of this name already. Choose another.")
        raise Refused("name_taken", message, "name") from None


def _shown(role: CustomRole) -> dict[str, Any]:
    return {
        "slug": role.slug,
        "name": role.name,
        "description": role.description,
        "permissions": role.permissions,
    }
