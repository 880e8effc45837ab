"""Groups of the tenant and who is in them. Inside the tenant's scope; raises NotVisible, Refused and SCIMException.

A group may have thousands of members, so changes of its members are carried out as such, and only the rest of the group
goes through the general PATCH of a resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from scim2_models import InvalidValueException, Meta, MutabilityException, PatchOp, PatchOperation, Path
from scim2_models.path import FilterNode

from console.scim.filters import Column, Constant, Kind, Parts, Place, Places, condition
from console.scim.resources import Group, Member
from tenants import groups
from tenants.actors import Actor
from tenants.changes import change
from tenants.models import Group as GroupRow
from tenants.models import GroupMember

_MEMBER_PLACES: Mapping[str, Place] = {
    "value": Column("membership_id", Kind.ID),
    "display": Column("membership__user__email"),
    "type": Constant("User"),
}


def _with_members(inner: Q) -> Q:
    return Q(pk__in=GroupMember.objects.filter(inner).values("group_id"))


PLACES: Places = {
    "id": Column("pk", Kind.ID),
    "externalid": Column("external_id", Kind.EXACT_TEXT),
    "displayname": Column("name"),
    "members": Parts(_MEMBER_PLACES, of=_with_members),
    "meta": Parts({"created": Column("created", Kind.MOMENT), "resourcetype": Constant("Group")}),
}


def rows(actor: Actor) -> QuerySet[GroupRow]:
    """Those that people or directories made, in a lasting order."""
    return groups.groups(actor).filter(is_everyone=False).order_by("pk")


def shown(found: Iterable[GroupRow], *, with_members: bool = True) -> list[Group]:
    """The rows as groups; one query for the members of all."""
    listed = list(found)
    members: dict[UUID, list[Member]] = {}
    if with_members:
        inside = GroupMember.objects.filter(group__in=listed).select_related("membership__user")
        for row in inside.order_by("pk"):
            entry = Member(value=str(row.membership_id), type="User", display=row.membership.user.email)
            members.setdefault(row.group_id, []).append(entry)
    return [_shown(row, members.get(row.pk)) for row in listed]


def _shown(row: GroupRow, members: list[Member] | None) -> Group:
    return Group(
        id=str(row.pk),
        external_id=row.external_id or None,
        display_name=row.name,
        members=members,
        meta=Meta(resource_type="Group", created=row.created),
    )


@change
def create(*, actor: Actor, wanted: Group) -> GroupRow:
    return groups.create_group(
        actor=actor,
        name=wanted.display_name or "",
        external_id=wanted.external_id or "",
        membership_ids=_ids(wanted.members or []),
    )


@change
def replace(*, actor: Actor, row: GroupRow, wanted: Group) -> GroupRow:
    """Bring a group to the state wanted, its members included."""
    _set_members(actor, row, _ids(wanted.members or []))
    return _save(actor, row, wanted)


@change
def patch(*, actor: Actor, row: GroupRow, operations: list[PatchOperation[Group]]) -> GroupRow:
    """Carry out the operations in their order, all or none."""
    for operation in operations:
        path = Path[Group](operation.path or "")
        if path and path.parts[:1] and path.parts[0].lower() == "members":
            _patch_members(actor, row, operation, path)
            continue
        value = operation.value
        if not path and isinstance(value, dict):
            members = [key for key in value if key.lower().rpartition(":")[2] == "members"]
            for key in members:
                _write_members(actor, row, operation, value[key])
            value = {key: each for key, each in value.items() if key not in members}
            if not value:
                continue
        rest = _shown(row, None)
        single = PatchOperation[Group](op=operation.op, path=operation.path, value=value)
        if PatchOp[Group](Operations=[single]).patch(rest):
            row = _save(actor, row, rest)
    return row


def remove(*, actor: Actor, row: GroupRow) -> None:
    groups.delete_group(actor=actor, group_id=row.pk)


def _save(actor: Actor, row: GroupRow, wanted: Group) -> GroupRow:
    return groups.update_group(
        actor=actor,
        group_id=row.pk,
        name=wanted.display_name or "",
        external_id=wanted.external_id or "",
    )


def _patch_members(actor: Actor, row: GroupRow, operation: PatchOperation[Group], path: Path[Group]) -> None:
    if operation.op == PatchOperation.Op.remove:
        _remove_members(actor, row, path, operation.value)
    elif path.value_filter is not None or path.parts[1:]:
        raise MutabilityException(detail="A member is put into a group or taken out; nothing of it changes.")
    else:
        _write_members(actor, row, operation, operation.value)


def _write_members(actor: Actor, row: GroupRow, operation: PatchOperation[Group], value: Any) -> None:
    wanted = _named(value)
    if operation.op == PatchOperation.Op.replace_:
        _set_members(actor, row, wanted)
    else:
        groups.add_members(actor=actor, group_id=row.pk, membership_ids=wanted)


def _remove_members(actor: Actor, row: GroupRow, path: Path[Group], value: Any) -> None:
    if path.parts[1:]:
        raise MutabilityException(detail="A member is put into a group or taken out; nothing of it changes.")
    inside = GroupMember.objects.filter(group=row)
    if path.value_filter is not None:
        inside = inside.filter(_matching(path.value_filter))
    elif value:  # As Microsoft Entra names those to take out.
        inside = inside.filter(membership_id__in=_named(value))
    gone = list(inside.values_list("membership_id", flat=True))
    groups.remove_members(actor=actor, group_id=row.pk, membership_ids=gone)


def _matching(tree: FilterNode) -> Q:
    return condition(tree, _MEMBER_PLACES)


def _set_members(actor: Actor, row: GroupRow, wanted: set[UUID]) -> None:
    present = set(GroupMember.objects.filter(group=row).values_list("membership_id", flat=True))
    groups.remove_members(actor=actor, group_id=row.pk, membership_ids=present - wanted)
    groups.add_members(actor=actor, group_id=row.pk, membership_ids=wanted - present)


def _named(value: Any) -> set[UUID]:
    """The members that the value of an operation names: one or a list."""
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(each, dict) for each in entries):
        raise InvalidValueException(detail="Members are objects with a value.")
    return _ids([Member.model_validate(each) for each in entries])


def _ids(members: list[Member]) -> set[UUID]:
    try:
        return {UUID(member.value or "") for member in members}
    except ValueError:
        raise InvalidValueException(detail="Members are named by the ids of users.") from None
