"""Permissions on single objects: the only importer of guardian.

Objects are fetched with `access_object` and listed with `visible_objects`. What is missing and what is forbidden raise
the same NotVisible, which callers show as 404. Actors come from `tenants.actors` and can be imported from here too.
"""

from typing import Any, ClassVar, TypeVar
from uuid import UUID

from django.contrib.auth.models import Permission
from django.db import models
from guardian.ctypes import get_content_type
from guardian.models import UserObjectPermissionBase
from guardian.shortcuts import get_objects_for_user, remove_perm
from guardian.utils import get_user_obj_perms_model

from tenants.actors import (
    Actor,
    NotVisible,
    actor_for_key,
    actor_for_user,
    create_api_key,
    memberships_of,
    require,
)
from tenants.models import TenantOwned, User

__all__ = [
    "Actor",
    "NotVisible",
    "UserGrant",
    "access_object",
    "actor_for_key",
    "actor_for_user",
    "create_api_key",
    "grant",
    "memberships_of",
    "require",
    "revoke",
    "visible_objects",
]

M = TypeVar("M", bound=models.Model)


class UserGrant(TenantOwned, UserObjectPermissionBase):
    """The base of a model's direct foreign-key grants: subclass with a `content_object` foreign key."""

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE, DELETE"

    class Meta(UserObjectPermissionBase.Meta):
        abstract = True


def grant(*, user_id: UUID, obj: models.Model, permissions: list[str]) -> None:
    """Give a user permissions (codenames such as "view_conversation") on an object, inside the tenant's scope.

    Two queries, where guardian's assign_perm takes six for each permission. Granting again changes nothing.
    """
    grants = get_user_obj_perms_model(obj)
    found = Permission.objects.filter(content_type=get_content_type(obj), codename__in=permissions)
    if len(found) != len(set(permissions)):
        raise ValueError(f"{obj._meta.label} has not all of the permissions {permissions}")
    rows = [grants(user_id=user_id, permission=permission, content_object=obj) for permission in found]
    grants._default_manager.bulk_create(rows, ignore_conflicts=True)


def revoke(*, user_id: UUID, obj: models.Model, permissions: list[str]) -> None:
    """Take permissions on an object back from a user, inside the tenant's scope."""
    for permission in permissions:
        remove_perm(permission, User(pk=user_id), obj)


def visible_objects(actor: Actor, queryset: models.QuerySet[M], permission: str) -> models.QuerySet[M]:
    """Those of a tenant-scoped queryset on which the actor was granted the permission (a codename)."""
    if actor.user_id is None:
        return queryset.none()
    return get_objects_for_user(
        User(pk=actor.user_id),
        permission,
        queryset,
        use_groups=False,
        with_superuser=False,
        accept_global_perms=False,
    )


def access_object(actor: Actor, queryset: models.QuerySet[M], permission: str, **lookup: Any) -> M:
    """The one object of the lookup, if the actor was granted the permission on it. Raises NotVisible otherwise."""
    found = visible_objects(actor, queryset.filter(**lookup), permission).first()
    if found is None:
        raise NotVisible(permission)
    return found
