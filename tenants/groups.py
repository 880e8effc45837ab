"""Groups of a tenant's people. Readers run in the tenant's scope, writers open it. Raises NotVisible and Refused."""

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from tenants import grants, words
from tenants.actors import Actor, NotVisible, people_behind
from tenants.changes import change, difference, record_change
from tenants.errors import Refused
from tenants.models import Group, GroupMember, Membership
from tenants.roles import ADMINISTRATION_VIEW, PEOPLE_MANAGE, SCIM_PROVISION

DEEPEST = 10  # Groups above one another.


def may_manage(actor: Actor) -> bool:
    """Whether the actor manages people and groups: an administrator, or a directory that provisions them."""
    return actor.can(PEOPLE_MANAGE) or actor.can(SCIM_PROVISION)


def groups(actor: Actor, search: str = "") -> QuerySet[Group]:
    """All groups, everyone's first, then by name."""
    if not (may_manage(actor) or actor.can(ADMINISTRATION_VIEW)):
        raise NotVisible(ADMINISTRATION_VIEW)
    found = Group.objects.select_related("parent").order_by("-is_everyone", "name", "pk")
    for word in words.search_words(search):
        found = found.filter(name__icontains=word)
    return found


@change
def create_group(
    *,
    actor: Actor,
    name: str,
    description: str = "",
    parent_id: UUID | None = None,
    external_id: str = "",
    membership_ids: Collection[UUID] = (),
) -> Group:
    """A new group, with these members at once."""
    _require(actor)
    group = Group(name=words.clean_name(name), description=words.clean_text(description))
    group.external_id, group.parent = _cleaned_external_id(external_id), _parent(parent_id)
    _refuse_depth(group)
    if parent_id is not None:
        _refuse_walking_in(actor, parent_id, Membership.objects.filter(pk__in=membership_ids))
    _save(group)
    added = _put(group, membership_ids)
    after = {**_shown(group), "members": _emails(added)}
    record_change(actor, "group.created", subject_id=group.pk, after=after)
    return group


@change
def update_group(*, actor: Actor, group_id: UUID, **changes: Any) -> Group:
    """Change name, description, parent_id or external_id."""
    _require(actor)
    group = own_group(group_id)
    before = _shown(group)
    if "name" in changes:
        group.name = words.clean_name(changes["name"])
    if "description" in changes:
        group.description = words.clean_text(changes["description"])
    if "external_id" in changes:
        group.external_id = _cleaned_external_id(changes["external_id"])
    if "parent_id" in changes:
        group.parent = _parent(changes["parent_id"])
        _refuse_cycle(group)
        _refuse_depth(group)
        if group.parent_id is not None:
            inside = GroupMember.objects.filter(group_id__in=groups_below(group.pk))
            _refuse_walking_in(
                actor, group.parent_id, Membership.objects.filter(pk__in=inside.values("membership_id"))
            )
    _save(group)
    old, new = difference(before, _shown(group))
    if new:
        record_change(actor, "group.changed", subject_id=group.pk, before=old, after=new)
    return group


@change
def delete_group(*, actor: Actor, group_id: UUID) -> None:
    """Take a group away, with what was granted to it; refused while others stand below it."""
    _require(actor)
    group = own_group(group_id)
    if group.children.exists():
        raise Refused(
            "group_has_children", _("Other groups stand below this one. Move or delete them first.")
        )
    inside = list(GroupMember.objects.filter(group=group).values_list("membership_id", flat=True))
    before = {**_shown(group), "members": _emails(inside)}
    record_change(actor, "group.deleted", subject_id=group.pk, before=before)
    group.delete()


@change
def add_members(*, actor: Actor, group_id: UUID, membership_ids: Collection[UUID]) -> int:
    """Put people into a group; how many were not in it before."""
    _require(actor)
    group = own_group(group_id)
    _refuse_walking_in(actor, group.pk, Membership.objects.filter(pk__in=membership_ids))
    added = _put(group, membership_ids)
    if added:
        after = {"members": _emails(added)}
        record_change(actor, "group.members_added", subject_id=group.pk, after=after, detail=_named(group))
    return len(added)


@change
def remove_members(*, actor: Actor, group_id: UUID, membership_ids: Collection[UUID]) -> int:
    """Take people out of a group; how many were in it."""
    _require(actor)
    group = own_group(group_id)
    rows = GroupMember.objects.filter(group=group, membership_id__in=membership_ids)
    gone = list(rows.values_list("membership_id", flat=True))
    rows.delete()
    if gone:
        before = {"members": _emails(gone)}
        record_change(
            actor, "group.members_removed", subject_id=group.pk, before=before, detail=_named(group)
        )
    return len(gone)


def own_group(group_id: UUID) -> Group:
    """A group that people made. Raises NotVisible, also for the group of everyone, which nobody edits."""
    group = Group.objects.select_related("parent").filter(pk=group_id, is_everyone=False).first()
    if group is None:
        raise NotVisible("group")
    return group


def group_ids_of(user_id: UUID | None) -> frozenset[UUID]:
    """All groups that a person belongs to: their own, those above, and everyone's. Two queries."""
    parents, everyone = _tree()
    found = set(everyone)
    if user_id is not None:
        own = GroupMember.objects.filter(membership__user_id=user_id, membership__disabled=None)
        for group_id in own.values_list("group_id", flat=True):
            found.update(_upwards(group_id, parents))
    return frozenset(found)


def groups_below(group_id: UUID) -> frozenset[UUID]:
    """The group and all that stand below it: whoever is in one of them is in it."""
    parents, _everyone = _tree()
    return frozenset(each for each in parents if group_id in _upwards(each, parents))


def people_in(group_id: UUID) -> QuerySet[Membership, UUID]:
    """The ids of the users in the group or one below it; nobody's where there is no such group."""
    members = Membership.objects.values_list("user_id", flat=True)
    group = Group.objects.filter(pk=group_id).first()
    if group is not None and group.is_everyone:
        return members
    inside = GroupMember.objects.filter(group_id__in=groups_below(group_id))
    return members.filter(pk__in=inside.values("membership_id"))


def members_of(group: Group) -> QuerySet[Membership]:
    """Everybody in the group, directly or through one below it, by address."""
    members = Membership.objects.select_related("user").order_by("user__email")
    if group.is_everyone:
        return members
    inside = GroupMember.objects.filter(group_id__in=groups_below(group.pk))
    return members.filter(pk__in=inside.values("membership_id"))


def _tree() -> tuple[dict[UUID, UUID | None], list[UUID]]:
    """Each group's parent, and the group of everyone."""
    rows = list(Group.objects.values_list("pk", "parent_id", "is_everyone"))
    return {pk: parent for pk, parent, _is in rows}, [pk for pk, _parent, is_everyone in rows if is_everyone]


def _upwards(group_id: UUID, parents: dict[UUID, UUID | None]) -> Iterable[UUID]:
    """A group and those above it."""
    seen: list[UUID] = []
    here: UUID | None = group_id
    while here is not None and here not in seen:
        seen.append(here)
        here = parents.get(here)
    return seen


def _require(actor: Actor) -> None:
    if not may_manage(actor):
        raise NotVisible(PEOPLE_MANAGE)


def _parent(parent_id: UUID | None) -> Group | None:
    if parent_id is None:
        return None
    parent = Group.objects.filter(pk=parent_id, is_everyone=False).first()
    if parent is None:
        raise Refused("parent_unknown", _("There is no such group. Choose from the list."), "parent_id")
    return parent


def _refuse_cycle(group: Group) -> None:
    parents, _everyone = _tree()
    if group.parent_id and group.pk in _upwards(group.parent_id, parents):
        message = _(
            "“%(parent)s” stands below this group already: groups cannot contain each other in a circle."
        )
        raise Refused("group_cycle", message % {"parent": group.parent}, "parent_id")


def _refuse_depth(group: Group) -> None:
    parents, _everyone = _tree()
    parents[group.pk] = group.parent_id
    if max(len(list(_upwards(each, parents))) for each in parents) > DEEPEST:
        message = _("Groups may stand at most %(deepest)d above one another.")
        raise Refused("group_too_deep", message % {"deepest": DEEPEST}, "parent_id")


def _refuse_walking_in(actor: Actor, group_id: UUID, coming: QuerySet[Membership]) -> None:
    """Raises Refused when the actor is among those who come into a group that somebody shared content with.

    Who manages groups reads nobody's content; in such a group only another person can put them.
    """
    if not coming.filter(user_id__in=people_behind(actor)).exists():
        return
    parents, _everyone = _tree()
    if grants.opens_content(list(_upwards(group_id, parents))):
        message = _(
            "Somebody shared conversations or the like with this group, and you cannot let yourself in. "
            "Ask another administrator."
        )
        raise Refused("own_membership", message, "members")


def _put(group: Group, membership_ids: Collection[UUID]) -> list[UUID]:
    known = set(Membership.objects.filter(pk__in=membership_ids).values_list("pk", flat=True))
    if len(known) != len(set(membership_ids)):
        raise Refused(
            "member_unknown", _("Some of these people are not members of this workspace."), "members"
        )
    present = GroupMember.objects.filter(group=group, membership_id__in=known)
    fresh = sorted(known - set(present.values_list("membership_id", flat=True)))
    rows = [GroupMember(group=group, membership_id=each) for each in fresh]
    GroupMember.objects.bulk_create(rows, ignore_conflicts=True)
    return fresh


def _cleaned_external_id(text: str) -> str:
    return words.clean_text(text, field="external_id", most=200)


def _save(group: Group) -> None:
    try:
        with transaction.atomic():
            group.save()
    except IntegrityError:
        message = _("There is a group “%(name)s” already. Choose another name.")
        raise Refused("name_taken", message % {"name": group.name}, "name") from None


def _emails(membership_ids: Collection[UUID]) -> list[str]:
    members = Membership.objects.filter(pk__in=membership_ids).order_by("user__email")
    return list(members.values_list("user__email", flat=True))


def _named(group: Group) -> dict[str, str]:
    return {"group": group.name}


def _shown(group: Group) -> dict[str, Any]:
    parent = group.parent.name if group.parent else ""
    return {
        "name": group.name,
        "description": group.description,
        "parent": parent,
        "external_id": group.external_id,
    }
