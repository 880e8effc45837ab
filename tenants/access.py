"""Permissions on single objects: the only importer of guardian.

Objects are fetched with `access_object` and listed with `visible_objects`. What is missing and what is forbidden raise
the same NotVisible, which callers show as 404. Actors come from `tenants.actors` and can be imported from here too;
`tenants.grants` changes who was granted what, and `tenants.explain` says why.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any, ClassVar, NamedTuple, TypeVar
from uuid import UUID

from django.contrib.auth.models import Permission
from django.db import models
from django.db.models import F, Q, Value
from guardian.ctypes import get_content_type
from guardian.managers import UserObjectPermissionManager
from guardian.models import UserObjectPermissionBase
from guardian.models.models import BaseObjectPermission

from tenants.actors import (
    Actor,
    NotVisible,
    actor_for_key,
    actor_for_user,
    create_api_key,
    memberships_of,
    require,
)
from tenants.kinds import Kind, Level, granted_kinds, kind_of, register
from tenants.models import Group, TenantManager, TenantOwned
from tenants.places import groups_in_sql, groups_of_people

__all__ = [
    "Actor",
    "GroupGrant",
    "Kind",
    "Level",
    "Need",
    "NotVisible",
    "UserGrant",
    "access_object",
    "actor_for_key",
    "actor_for_user",
    "create_api_key",
    "granted_kinds",
    "kind_of",
    "lost",
    "memberships_of",
    "permission_levels",
    "put_grant",
    "register",
    "require",
    "take_grant",
    "visible_objects",
]

M = TypeVar("M", bound=models.Model)


class _UserGrants(TenantManager, UserObjectPermissionManager):
    """Guardian's manager, within the tenant's scope."""


class UserGrant(TenantOwned, UserObjectPermissionBase):
    """The base of a model's grants to people: subclass with a `content_object` foreign key."""

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE, DELETE"

    objects: ClassVar[Any] = _UserGrants()

    class Meta(UserObjectPermissionBase.Meta):
        abstract = True


class GroupGrant(TenantOwned, BaseObjectPermission):
    """The base of a model's grants to groups: subclass with a `content_object` foreign key.

    Guardian's own base for groups means Django's, which belong to no tenant.
    """

    privileges: ClassVar[str] = "SELECT, INSERT, UPDATE, DELETE"

    group = models.ForeignKey(Group, on_delete=models.CASCADE)

    objects = TenantManager()

    class Meta:
        abstract = True
        unique_together = ["group", "permission", "content_object"]


class Need(NamedTuple):
    """Something that goes on for as long as this permission (a codename) on this object lasts."""

    model: type[models.Model]
    object_id: UUID
    permission: str


def visible_objects(actor: Actor, queryset: models.QuerySet[M], permission: str) -> models.QuerySet[M]:
    """Those of a tenant-scoped queryset on which the actor was granted the permission (a codename).

    In one query: to them, to a group they are in or one above it, or to everyone. Programs have what everyone has. The
    actor's role must allow the use of such objects at all, and a key's list of names must name them.
    """
    kind = kind_of(queryset.model)
    if not kind.requires & actor.permissions or not _may_hold_grants(actor):
        return queryset.none()
    granted = _on(kind, kind.group_grants, permission, actor.tenant_id).filter(
        group_id__in=groups_in_sql(actor.tenant_id, actor.user_id)
    )
    ids = granted.values("content_object_id")
    if actor.user_id is not None:
        own = _on(kind, kind.user_grants, permission, actor.tenant_id).filter(user_id=actor.user_id)
        ids = own.values("content_object_id").union(ids, all=True)
    found = queryset.filter(tenant_id=actor.tenant_id, pk__in=ids)
    if kind.limit is not None:
        found = found.filter(kind.limit())
    if kind.named_in_keys and actor.allowed_routes is not None:
        found = found.filter(**{f"{kind.named_in_keys}__in": actor.allowed_routes})
    return found


def access_object(actor: Actor, queryset: models.QuerySet[M], permission: str, **lookup: Any) -> M:
    """The one object of the lookup, if the actor was granted the permission on it. Raises NotVisible otherwise."""
    found = visible_objects(actor, queryset.filter(**lookup), permission).first()
    if found is None:
        raise NotVisible(permission)
    return found


def lost(tenant_id: UUID, held: Collection[tuple[Actor, Need]]) -> set[tuple[Actor, Need]]:
    """Those of the needs of actors of the tenant in scope that no grant meets any more. Two queries for all of them.

    As `visible_objects`, but for what the actor carries: role permissions and a key's list are as they were found.
    """
    if not held:
        return set()
    wanted: dict[tuple[type[models.Model], str], set[UUID]] = defaultdict(set)
    for _actor, need in held:
        wanted[need.model, need.permission].add(need.object_id)
    people = {actor.user_id for actor, _need in held if actor.user_id is not None}
    places = groups_of_people(tenant_id, people)
    parts: list[models.QuerySet[Any]] = []
    for number, ((model, permission), object_ids) in enumerate(wanted.items()):
        parts += _principals(kind_of(model), permission, tenant_id, object_ids, people, number)
    granted = set(parts[0].union(*parts[1:], all=True))
    numbers = {key: number for number, key in enumerate(wanted)}

    def is_met(actor: Actor, need: Need) -> bool:
        principals = places[None] | places.get(actor.user_id, set()) | {actor.user_id}
        number = numbers[need.model, need.permission]
        return any((number, each, need.object_id) in granted for each in principals)

    return {(actor, need) for actor, need in held if not (_may_hold_grants(actor) and is_met(actor, need))}


def permission_levels(kind: Kind) -> dict[int, Level]:
    """The level that each of a kind's permissions (by the id of its row) adds."""
    adds = {kind.permission(level): level for level in Level}
    rows = Permission.objects.filter(content_type=get_content_type(kind.model), codename__in=adds)
    return {pk: adds[codename] for pk, codename in rows.values_list("pk", "codename")}


def put_grant(obj: models.Model, principal: models.Model, level: Level) -> None:
    """Grant a person or a group exactly this level on an object, whatever they had. Inside the tenant's scope.

    Whether the caller may is for the caller to ask: see `tenants.grants`.
    """
    kind, field = kind_of(type(obj)), _field_of(principal)
    permissions = kind.permissions(level)
    grants = _table_for(kind, principal)
    found = Permission.objects.filter(content_type=get_content_type(obj), codename__in=permissions)
    if len(found) != len(permissions):
        raise RuntimeError(
            f"{obj._meta.label} has not all of the permissions {permissions}: run manage.py prepare"
        )
    held = grants._default_manager.filter(content_object=obj, **{field: principal})
    held.exclude(permission__in=found).delete()
    rows = [grants(permission=each, content_object=obj, **{field: principal}) for each in found]
    grants._default_manager.bulk_create(rows, ignore_conflicts=True)


def take_grant(obj: models.Model, principal: models.Model) -> None:
    """Take back all that a person or a group was granted on an object. As `put_grant`."""
    grants = _table_for(kind_of(type(obj)), principal)
    grants._default_manager.filter(content_object=obj, **{_field_of(principal): principal}).delete()


def _may_hold_grants(actor: Actor) -> bool:
    """People and programs of the tenant do; whoever acts on it from outside, and Custos itself, never."""
    return not actor.is_platform and not (actor.user_id is None and actor.service_account_id is None)


def _on(kind: Kind, table: type[models.Model], permission: str, tenant_id: UUID) -> models.QuerySet[Any]:
    """The grants of one permission, of the kind's table for people or for groups."""
    content_type = get_content_type(kind.model)
    return table._default_manager.filter(
        tenant_id=tenant_id, permission__codename=permission, permission__content_type=content_type
    )


def _principals(
    kind: Kind, permission: str, tenant_id: UUID, objects: set[UUID], people: Iterable[UUID], number: int
) -> list[models.QuerySet[Any]]:
    """(number, person or group, object) of each grant to these people, and to any group, on these objects."""
    on_these = Q(content_object__in=objects)
    if kind.limit is not None:
        on_these = Q(content_object__in=kind.model._default_manager.filter(kind.limit(), pk__in=objects))
    to_people = _on(kind, kind.user_grants, permission, tenant_id).filter(on_these, user_id__in=people)
    to_groups = _on(kind, kind.group_grants, permission, tenant_id).filter(on_these)
    columns = ("number", "principal", "content_object_id")
    return [
        grants.annotate(number=Value(number), principal=F(field)).values_list(*columns)
        for grants, field in ((to_people, "user_id"), (to_groups, "group_id"))
    ]


def _table_for(kind: Kind, principal: models.Model) -> type[models.Model]:
    return kind.group_grants if isinstance(principal, Group) else kind.user_grants


def _field_of(principal: models.Model) -> str:
    return "group" if isinstance(principal, Group) else "user"
