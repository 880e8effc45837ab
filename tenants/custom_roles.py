"""Roles of a tenant's own. Inside the tenant's scope; raises NotVisible and Refused."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from tenants import words
from tenants.actors import Actor, NotVisible, require
from tenants.changes import difference, record_change
from tenants.errors import Refused
from tenants.models import CustomRole, Invitation, Membership, ServiceAccount
from tenants.roles import CATALOGUE, PERMISSIONS, ROLES_MANAGE, Role, duties_of

_KNOWN = frozenset(permission.code for permission in CATALOGUE)


def create_role(
    *, actor: Actor, slug: str, name: str, permissions: Collection[str], description: str = ""
) -> CustomRole:
    """A role that can be given from now on."""
    require(actor, ROLES_MANAGE)
    role = CustomRole(slug=words.clean_slug(slug), name=words.clean_name(name))
    if role.slug in Role.values or role.name.casefold() in {str(each).casefold() for each in Role.labels}:
        raise Refused(
            "name_taken", _("This is the name of a role that every tenant has. Choose another."), "slug"
        )
    role.description, role.permissions = words.clean_text(description), _cleaned(permissions)
    _save(role)
    record_change(actor, "role.created", subject_id=role.pk, after=_shown(role))
    return role


def update_role(*, actor: Actor, role_id: UUID, **changes: Any) -> CustomRole:
    """Change name, description or permissions: whoever holds the role is affected at once."""
    require(actor, ROLES_MANAGE)
    role = _own(role_id)
    if Membership.objects.filter(role=role.slug, user_id=actor.user_id).exists():
        raise Refused(
            "own_role", _("You hold this role, and nobody changes their own rights. Ask another owner.")
        )
    before = _shown(role)
    if "name" in changes:
        role.name = words.clean_name(changes["name"])
    if "description" in changes:
        role.description = words.clean_text(changes["description"])
    if "permissions" in changes:
        role.permissions = _cleaned(changes["permissions"])
    _save(role)
    old, new = difference(before, _shown(role))
    if new:
        record_change(actor, "role.changed", subject_id=role.pk, before=old, after=new)
    return role


def delete_role(*, actor: Actor, role_id: UUID) -> None:
    """Take a role away that nobody holds."""
    require(actor, ROLES_MANAGE)
    role = _own(role_id)
    holders = Membership.objects.filter(role=role.slug).count()
    holders += ServiceAccount.objects.filter(role=role.slug).count()
    if holders or Invitation.objects.filter(role=role.slug, accepted=None, revoked=None).exists():
        message = _("%(count)d people, programs or invitations have this role. Give them another first.")
        raise Refused("role_in_use", message % {"count": holders or 1})
    record_change(actor, "role.deleted", subject_id=role.pk, before=_shown(role))
    role.delete()


def roles() -> list[tuple[str, str, frozenset[str]]]:
    """(code, name, permissions) of every role that can be given here: the built-in ones, then the tenant's own."""
    built_in = [(role.value, str(role.label), PERMISSIONS[role]) for role in Role]
    own = CustomRole.objects.order_by("name").values_list("slug", "name", "permissions")
    return built_in + [(slug, name, frozenset(permissions)) for slug, name, permissions in own]


def _own(role_id: UUID) -> CustomRole:
    role = CustomRole.objects.select_for_update().filter(pk=role_id).first()
    if role is None:
        raise NotVisible("role")
    return role


def _cleaned(permissions: Collection[str]) -> list[str]:
    wanted = frozenset(permissions)
    if unknown := sorted(wanted - _KNOWN):
        message = _("There is no permission “%(code)s”.")
        raise Refused("permission_unknown", message % {"code": unknown[0]}, "permissions")
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
