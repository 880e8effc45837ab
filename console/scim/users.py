"""Users: memberships of the tenant. Inside the tenant's scope; raises NotVisible and Refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.db.models import Q, QuerySet
from django.db.models.functions import Greatest
from scim2_models import Meta

from console.scim.filters import Column, Constant, Flag, Kind, Parts, Places
from console.scim.models import DirectoryEntry
from console.scim.resources import Email, Name, User, UserGroup
from tenants import clock, people, words
from tenants.actors import Actor
from tenants.changes import change, difference, record_change
from tenants.models import GroupMember, Membership
from tenants.models import User as Account

# Of the directory's entry: those of the complex attribute `name`, and the others.
_NAME = ("formatted", "family_name", "given_name")
_PLAIN = ("display_name", "nick_name", "title", "user_type")


def _in_groups(inner: Q) -> Q:
    return Q(pk__in=GroupMember.objects.filter(inner).values("membership_id"))


PLACES: Places = {
    "id": Column("pk", Kind.ID),
    "externalid": Column("external_id", Kind.EXACT_TEXT),
    "username": Column("user__email"),
    "displayname": Column("directory_entry__display_name"),
    "nickname": Column("directory_entry__nick_name"),
    "title": Column("directory_entry__title"),
    "usertype": Column("directory_entry__user_type"),
    "name": Parts(
        {
            "formatted": Column("directory_entry__formatted"),
            "familyname": Column("directory_entry__family_name"),
            "givenname": Column("directory_entry__given_name"),
        }
    ),
    "active": Flag("disabled"),
    "emails": Parts({"value": Column("user__email"), "type": Constant("work"), "primary": Constant(True)}),
    "groups": Parts({"value": Column("group_id", Kind.ID), "display": Column("group__name")}, of=_in_groups),
    "meta": Parts(
        {
            "created": Column("created", Kind.MOMENT),
            "lastmodified": Column("last_modified", Kind.MOMENT),
            "resourcetype": Constant("User"),
        }
    ),
}


def rows(actor: Actor) -> QuerySet[Any]:
    """All memberships, in a lasting order, with when they were last modified."""
    found = people.members(actor).select_related("user", "directory_entry").order_by("pk")
    # PostgreSQL's greatest() passes over what is not there.
    return found.annotate(last_modified=Greatest("created", "disabled", "directory_entry__changed"))


def shown(found: Iterable[Any], *, with_groups: bool = True) -> list[User]:
    """The memberships as users; one query for the groups of all."""
    members = list(found)
    groups: dict[UUID, list[UserGroup]] = {}
    if with_groups:
        inside = GroupMember.objects.filter(membership__in=members).select_related("group")
        for row in inside.order_by("group__name"):
            entry = UserGroup(value=str(row.group_id), display=row.group.name)
            groups.setdefault(row.membership_id, []).append(entry)
    return [_shown(member, groups.get(member.pk)) for member in members]


def _shown(member: Any, groups: list[UserGroup] | None) -> User:
    entry = _entry(member)
    name = {field: getattr(entry, field) or None for field in _NAME}
    user = User(
        id=str(member.pk),
        external_id=member.external_id or None,
        user_name=member.user.email,
        name=Name(**name) if any(name.values()) else None,
        active=member.disabled is None,
        emails=[Email(value=member.user.email, type="work", primary=True)],
        groups=groups,
        meta=Meta(resource_type="User", created=member.created, last_modified=member.last_modified),
    )
    for field in _PLAIN:
        setattr(user, field, getattr(entry, field) or None)
    return user


@change
def create(*, actor: Actor, wanted: User) -> Membership:
    """Make somebody a member, with an account of their own if their address has none."""
    email = words.clean_email(wanted.user_name or "", field="userName")
    said = _said(wanted)
    fresh = {"name": said["display_name"] or said["formatted"], "password": make_password(None)}
    account, _made = Account.objects.get_or_create(email=email, defaults=fresh)
    member = people.add_member(actor=actor, user=account, external_id=wanted.external_id or "")
    DirectoryEntry.objects.create(membership=member, **said)
    if wanted.active is False:
        people.disable_member(actor=actor, membership_id=member.pk)
    return rows(actor).get(pk=member.pk)


@change
def save(*, actor: Actor, row: Membership, wanted: User) -> Membership:
    """Bring a membership to the state wanted. What the person's account holds stays as it is."""
    member, entry = row, _entry(row)
    before = _state(member, entry)
    member.external_id = words.clean_text(wanted.external_id or "", field="externalId", most=200)
    for field, value in _said(wanted).items():
        setattr(entry, field, value)
    old, new = difference(before, _state(member, entry))
    if new:
        member.save(update_fields=["external_id"])
        entry.changed = clock.now()
        entry.save()
        detail = {"email": member.user.email}
        record_change(
            actor, "member.directory_changed", subject_id=member.pk, before=old, after=new, detail=detail
        )
    if wanted.active is False:
        people.disable_member(actor=actor, membership_id=member.pk)
    elif member.disabled is not None:
        people.enable_member(actor=actor, membership_id=member.pk)
    return rows(actor).get(pk=member.pk)


def remove(*, actor: Actor, row: Membership) -> None:
    people.remove_member(actor=actor, membership_id=row.pk)


def _entry(member: Membership) -> DirectoryEntry:
    try:
        return member.directory_entry
    except DirectoryEntry.DoesNotExist:
        return DirectoryEntry(membership=member)


def _said(wanted: User) -> dict[str, str]:
    """The fields of an entry, as the directory has them."""
    name = wanted.name or Name()
    given = {field: getattr(name, field) for field in _NAME} | {
        field: getattr(wanted, field) for field in _PLAIN
    }
    return {field: words.clean_text(value or "", field=field, most=120) for field, value in given.items()}


def _state(member: Membership, entry: DirectoryEntry) -> dict[str, Any]:
    fields = {field: getattr(entry, field) for field in (*_NAME, *_PLAIN)}
    return {"external_id": member.external_id, **fields}
