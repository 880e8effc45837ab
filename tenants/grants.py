"""Who was granted what on an object: reading it, sharing, taking back, handing over. Inside the tenant's scope.

Objects that hold content are shared by their owners alone, so no administrator comes to read them by granting it to
themselves. All others are shared by whoever holds one of the permissions that their kind names. Raises NotVisible and
Refused.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from django.db import models
from django.db.models import Case, Max, Q, When
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext as _

from tenants.access import permission_levels, put_grant, take_grant, visible_objects
from tenants.actors import Actor, NotVisible
from tenants.changes import change, record_change
from tenants.errors import Refused
from tenants.kinds import Kind, Level, granted_kinds, kind_of
from tenants.models import Group, Membership, TenantModel, User
from tenants.roles import ADMINISTRATION_VIEW, GRANTS_MANAGE
from tenants.words import search_words

PAGE_SIZE = 50


@dataclass(frozen=True)
class Principal:
    """Somebody, or some people, to whom something can be granted."""

    sort: Literal["everyone", "group", "person"]
    id: UUID
    label: str


@dataclass(frozen=True)
class Grant:
    """A level that a principal has on an object."""

    principal: Principal
    level: Level


@dataclass(frozen=True)
class Row:
    """An object with the levels that were granted on it, by the principal's id."""

    id: UUID
    label: str
    levels: dict[UUID, Level]


@dataclass(frozen=True)
class Matrix:
    """A page of a kind's objects against all to whom something on them was granted. `total`: objects on all pages."""

    kind: Kind
    rows: list[Row]
    principals: list[Principal]
    total: int
    page: int
    pages: int


# --- Who may -----------------------------------------------------------------------------------


def may_share(actor: Actor, obj: TenantModel) -> bool:
    """Whether the actor may change who was granted what on the object."""
    kind = kind_of(type(obj))
    return obj.tenant_id == actor.tenant_id and (_manages(actor, kind) or _owns(actor, kind, obj))


def may_inspect(actor: Actor, obj: TenantModel) -> bool:
    """Whether the actor may know who was granted what on the object: never what it says."""
    kind = kind_of(type(obj))
    return obj.tenant_id == actor.tenant_id and (_inspects(actor, kind) or _owns(actor, kind, obj))


def _manages(actor: Actor, kind: Kind) -> bool:
    return bool(kind.managed_by & actor.permissions)


def _inspects(actor: Actor, kind: Kind) -> bool:
    return _manages(actor, kind) or actor.can(GRANTS_MANAGE) or actor.can(ADMINISTRATION_VIEW)


def _owns(actor: Actor, kind: Kind, obj: TenantModel) -> bool:
    mine = kind.model._default_manager.filter(pk=obj.pk)
    return visible_objects(actor, mine, kind.permission(Level.OWNER)).exists()


# --- Reading -----------------------------------------------------------------------------------


def grants_of(*, actor: Actor, obj: TenantModel) -> list[Grant]:
    """Everything granted on an object: to everyone, to groups, to people."""
    if not may_inspect(actor, obj):
        raise NotVisible("grants")
    levels, principals = _granted(kind_of(type(obj)), [obj.pk])
    held = levels.get(obj.pk, {})
    return [Grant(each, held[each.id]) for each in principals]


def matrix(
    *, actor: Actor, kind: Kind, search: str = "", page: int = 1, page_size: int = PAGE_SIZE
) -> Matrix:
    """A page of the objects of a kind, and who was granted what on them: a constant number of queries.

    For those who may inspect the kind: all objects. For others: what they own. A page that is not there is the last.
    """
    rows = kind.model._default_manager.filter(tenant_id=actor.tenant_id)
    if not _inspects(actor, kind):
        if not kind.requires & actor.permissions:
            raise NotVisible(kind.code)
        rows = visible_objects(actor, rows, kind.permission(Level.OWNER))
    for word in search_words(search):
        rows = rows.filter(Q(*[(f"{field}__icontains", word) for field in kind.search], _connector=Q.OR))
    total = rows.count()
    pages = max(-(-total // page_size), 1)
    page = min(max(page, 1), pages)
    start = (page - 1) * page_size
    listed = list(rows.prefetch_related(*kind.related).order_by(*kind.ordering)[start : start + page_size])
    levels, principals = _granted(kind, [obj.pk for obj in listed])
    return Matrix(
        kind=kind,
        rows=[Row(obj.pk, kind.describe(obj), levels.get(obj.pk, {})) for obj in listed],
        principals=principals,
        total=total,
        page=page,
        pages=pages,
    )


def _granted(
    kind: Kind, object_ids: Collection[UUID]
) -> tuple[dict[UUID, dict[UUID, Level]], list[Principal]]:
    """The levels by object and principal, and the principals: everyone, groups by name, people by address.

    Five queries without a join: what row security does to PostgreSQL's estimates makes joins of long lists slow.
    """
    adds = permission_levels(kind)
    levels: dict[UUID, dict[UUID, Level]] = defaultdict(dict)
    to_groups = _collect(kind.group_grants, "group_id", object_ids, adds, levels)
    to_people = _collect(kind.user_grants, "user_id", object_ids, adds, levels)
    people = User.objects.filter(pk__in=to_people).order_by("email").values_list("pk", "email")
    groups = Group.objects.filter(pk__in=to_groups).order_by("-is_everyone", "name")
    principals = [_principal_of(group) for group in groups]
    return levels, principals + [Principal("person", pk, email) for pk, email in people]


def _collect(
    table: type[models.Model],
    column: str,
    object_ids: Collection[UUID],
    adds: dict[int, Level],
    levels: dict[UUID, dict[UUID, Level]],
) -> set[UUID]:
    """Put the highest level of each principal on each object into `levels`; the principals."""
    ranked = {level.rank: level for level in Level}
    rank = Max(Case(*(When(permission_id=pk, then=level.rank) for pk, level in adds.items())))
    held = table._default_manager.filter(_on_one_of(table, object_ids)).values("content_object_id", column)
    rows = held.annotate(rank=rank).values_list("content_object_id", column, "rank")
    principals: set[UUID] = set()
    for object_id, principal_id, highest in rows:
        levels[object_id][principal_id] = ranked[highest]
        principals.add(principal_id)
    return principals


def _on_one_of(table: type[models.Model], object_ids: Collection[UUID]) -> RawSQL:
    """As `content_object_id__in`, with one array in place of thousands of parameters, which take longer than the answer."""
    column = f'"{table._meta.db_table}"."content_object_id"'
    return RawSQL(f"{column} = ANY(%s)", [list(object_ids)], output_field=models.BooleanField())


# --- Changing ----------------------------------------------------------------------------------


@change
def set_level(*, actor: Actor, obj: TenantModel, principal: User | Group, level: str) -> Grant:
    """Grant a member or a group of this tenant a level on an object, instead of what they had on it."""
    kind = _shared_by(actor, obj)
    if level not in Level:
        raise Refused("level_unknown", _("Choose viewer, editor or owner."), "level")
    granted = _known(principal)
    before = _level_of(kind, obj, granted)
    if before == level:
        return Grant(granted, Level(level))
    if before == Level.OWNER:
        _require_another_owner(kind, obj, granted)
    put_grant(obj, principal, Level(level))
    _record(actor, "grant.set", kind, obj, granted, before, Level(level))
    return Grant(granted, Level(level))


@change
def remove(*, actor: Actor, obj: TenantModel, principal: User | Group) -> None:
    """Take back what was granted on an object; what depends on it ends within a second. Anybody gives up their own."""
    gives_up = isinstance(principal, User) and principal.pk == actor.user_id and not actor.is_platform
    kind = kind_of(type(obj)) if gives_up else _shared_by(actor, obj)
    taken = _principal_of(principal)
    before = _level_of(kind, obj, taken)
    if before is None:
        raise NotVisible("grant")
    if before == Level.OWNER:
        _require_another_owner(kind, obj, taken)
    take_grant(obj, principal)
    _record(actor, "grant.removed", kind, obj, taken, before, None)


@change
def transfer_ownership(*, actor: Actor, obj: TenantModel, to: User) -> None:
    """Make another member the owner of an object; an owner who hands it over goes on as an editor."""
    kind = _shared_by(actor, obj)
    heir = _known(to)
    if heir.id == actor.user_id:
        raise Refused("own_already", _("Choose somebody else: it would stay with you."), "to")
    before = _level_of(kind, obj, heir)
    put_grant(obj, to, Level.OWNER)
    _record(actor, "grant.set", kind, obj, heir, before, Level.OWNER)
    giver = User.objects.filter(pk=actor.user_id).first() if actor.user_id else None
    if giver is not None and _level_of(kind, obj, mine := _principal_of(giver)) == Level.OWNER:
        put_grant(obj, giver, Level.EDITOR)
        _record(actor, "grant.set", kind, obj, mine, Level.OWNER, Level.EDITOR)
    if kind.owner_field:
        kind.model._default_manager.filter(pk=obj.pk).update(**{kind.owner_field: to})


def open_to_everyone(obj: TenantModel, level: Level) -> None:
    """What a new object starts with, where that is for everyone. Asks nobody and is part of making the object."""
    put_grant(obj, Group.objects.get(is_everyone=True), level)


def drop_shares(*, user_id: UUID) -> int:
    """Take back what others shared with somebody who leaves the tenant; how many objects it was.

    What they own stays theirs, closed to everybody: should they come back, they find it again and nothing else.
    """
    dropped = 0
    for kind in granted_kinds():
        held = kind.user_grants._default_manager.filter(user_id=user_id)
        owned = held.filter(permission__codename=kind.permission(Level.OWNER)).values("content_object_id")
        shared = held.exclude(content_object_id__in=list(owned.values_list("content_object_id", flat=True)))
        dropped += shared.values("content_object_id").distinct().count()
        shared.delete()
    return dropped


def opens_content(group_ids: Collection[UUID]) -> bool:
    """Whether whoever comes into one of these groups can read what somebody shared with it."""
    kinds = [kind for kind in granted_kinds() if kind.holds_content]
    return any(kind.group_grants._default_manager.filter(group_id__in=group_ids).exists() for kind in kinds)


def _shared_by(actor: Actor, obj: TenantModel) -> Kind:
    """The object's kind. Raises NotVisible unless the actor may share it, and when it is gone meanwhile."""
    kind = kind_of(type(obj))
    if not (may_share(actor, obj) and kind.model._default_manager.filter(pk=obj.pk).exists()):
        raise NotVisible(kind.code)
    return kind


def _principal_of(principal: User | Group) -> Principal:
    if isinstance(principal, User):
        return Principal("person", principal.pk, principal.email)
    return Principal("everyone" if principal.is_everyone else "group", principal.pk, principal.name)


def _known(principal: User | Group) -> Principal:
    """Raises Refused for people and groups of elsewhere."""
    if isinstance(principal, User):
        if not Membership.objects.filter(user=principal).exists():
            message = _("%(email)s is not a member of this workspace. Invite them first.")
            raise Refused("member_unknown", message % {"email": principal.email}, "principal")
    elif not Group.objects.filter(pk=principal.pk).exists():
        raise Refused("group_unknown", _("There is no such group. Choose from the list."), "principal")
    return _principal_of(principal)


def _level_of(kind: Kind, obj: TenantModel, principal: Principal) -> Level | None:
    is_person = principal.sort == "person"
    table: type[models.Model] = kind.user_grants if is_person else kind.group_grants
    held = table._default_manager.filter(content_object_id=obj.pk)
    held = held.filter(user_id=principal.id) if is_person else held.filter(group_id=principal.id)
    return kind.level_of(held.values_list("permission__codename", flat=True))


def _require_another_owner(kind: Kind, obj: TenantModel, leaving: Principal) -> None:
    """Content keeps a person who can reach it and share it. Other objects are managed by permission."""
    if not kind.holds_content or leaving.sort != "person":
        return
    owners = kind.user_grants._default_manager.filter(
        content_object_id=obj.pk, permission__codename=kind.permission(Level.OWNER)
    ).exclude(user_id=leaving.id)
    active = Membership.objects.filter(disabled=None, user__is_active=True)
    if not owners.filter(user_id__in=active.values("user_id")).exists():
        message = _("%(name)s is the last owner. Make somebody else an owner first.")
        raise Refused("last_owner", message % {"name": leaving.label}, "principal")


def _record(
    actor: Actor,
    what: str,
    kind: Kind,
    obj: TenantModel,
    principal: Principal,
    before: Level | None,
    after: Level | None,
) -> None:
    detail: dict[str, Any] = {
        "object": kind.code,
        "name": kind.describe(obj),
        "to": principal.sort,
        "to_id": str(principal.id),
        "to_name": principal.label,
    }
    states = [{"level": each.value} if each else None for each in (before, after)]
    record_change(actor, what, subject_id=obj.pk, before=states[0], after=states[1], detail=detail)
