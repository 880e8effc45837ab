"""The people of a tenant: members, their roles, invitations, imports.

Inside the tenant's scope, but for `accept_invitation`, which opens it. Raises NotVisible and Refused.

Who gives which role: PEOPLE_MANAGE gives and takes the roles without a duty, PEOPLE_APPOINT those with one. Nobody
changes their own, and a tenant keeps an owner.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from tenants import clock, grants, words
from tenants.actors import Actor, NotVisible, permissions_of
from tenants.changes import record_change
from tenants.custom_roles import roles
from tenants.errors import Refused
from tenants.groups import may_manage
from tenants.models import ApiKey, Group, GroupMember, Invitation, Membership, Tenant, User
from tenants.roles import ADMINISTRATION_VIEW, PEOPLE_APPOINT, Role, duties_of
from tenants.scope import tenant_scope

INVITATION_LIFE = timedelta(days=7)
IMPORT_MOST = 10_000


def members(actor: Actor, search: str = "", role: str = "") -> QuerySet[Membership]:
    """Everybody in the tenant, by address, narrowed by words of name or address and by role."""
    if not (may_manage(actor) or actor.can(ADMINISTRATION_VIEW)):
        raise NotVisible(ADMINISTRATION_VIEW)
    found = Membership.objects.select_related("user").order_by("user__email")
    for word in search.split():
        found = found.filter(Q(user__email__icontains=word) | Q(user__name__icontains=word))
    return found.filter(role=role) if role else found


def change_role(*, actor: Actor, membership_id: UUID, role: str) -> Membership:
    """Give a member another role. What they have open ends within a second if the new role does not allow it."""
    membership = _others(actor, membership_id)
    _require_giving(actor, role, taken=membership.role)
    if membership.role == Role.OWNER != role:
        _require_another_owner(membership)
    before, membership.role = {"role": membership.role}, role
    membership.save(update_fields=["role"])
    _record(actor, "member.role_changed", membership, before=before, after={"role": role})
    return membership


def disable_member(*, actor: Actor, membership_id: UUID) -> Membership:
    """Keep the member out, with everything kept; sockets, sessions' pages and keys end within a second."""
    membership = _others(actor, membership_id)
    _require_taking(actor, membership.role)
    if membership.disabled is None:
        _require_another_owner(membership)
        membership.disabled = clock.now()
        membership.save(update_fields=["disabled"])
        _record(actor, "member.disabled", membership, before={"active": True}, after={"active": False})
    return membership


def enable_member(*, actor: Actor, membership_id: UUID) -> Membership:
    """Let a disabled member in again."""
    membership = _others(actor, membership_id)
    _require_taking(actor, membership.role)
    if membership.disabled is not None:
        membership.disabled = None
        membership.save(update_fields=["disabled"])
        _record(actor, "member.enabled", membership, before={"active": False}, after={"active": True})
    return membership


def remove_member(*, actor: Actor, membership_id: UUID) -> None:
    """End a membership, with its place in groups and its personal keys."""
    membership = _others(actor, membership_id)
    _require_taking(actor, membership.role)
    _end(actor, membership, "member.removed")


def leave(*, actor: Actor) -> None:
    """End one's own membership."""
    membership = Membership.objects.select_for_update(of=("self",)).filter(pk=actor.membership_id).first()
    if membership is None:
        raise NotVisible("membership")
    _end(actor, membership, "member.left")


def add_member(*, actor: Actor, user: User, role: str = Role.MEMBER, external_id: str = "") -> Membership:
    """Make somebody a member without asking them: for directories that provision people."""
    _require_managing(actor)
    _require_giving(actor, role)
    try:
        with transaction.atomic():
            membership = Membership.objects.create(user=user, role=role, external_id=external_id[:200])
    except IntegrityError:
        raise Refused(
            "already_member", _("%(email)s is a member already.") % {"email": user.email}, "email"
        ) from None
    _record(actor, "member.added", membership, after={"role": role})
    return membership


# --- Invitations -----------------------------------------------------------------------------


def invitations(actor: Actor) -> QuerySet[Invitation]:
    """Those that are open or have run out, newest first."""
    if not (may_manage(actor) or actor.can(ADMINISTRATION_VIEW)):
        raise NotVisible(ADMINISTRATION_VIEW)
    return Invitation.objects.select_related("invited_by").filter(accepted=None, revoked=None).order_by("-pk")


def invite(
    *, actor: Actor, email: str, role: str = Role.MEMBER, group_ids: Collection[UUID] = ()
) -> tuple[Invitation, str]:
    """Offer somebody a place: the invitation, and the token of its link, which is shown this once.

    A platform administrator invites a tenant's owners and nobody else.
    """
    email = words.clean_email(email)
    if not (actor.is_platform and role == Role.OWNER):
        _require_managing(actor)
        _require_giving(actor, role)
    groups = _known_groups(group_ids)
    if Membership.objects.filter(user__email=email).exists():
        raise Refused("already_member", _("%(email)s is a member already.") % {"email": email}, "email")
    if (open_one := Invitation.objects.filter(email=email, accepted=None, revoked=None).first()) is not None:
        if open_one.is_open:
            message = _("%(email)s is invited already. Send that invitation again, or take it back first.")
            raise Refused("already_invited", message % {"email": email}, "email")
        Invitation.objects.filter(pk=open_one.pk).update(revoked=clock.now())
    invitation = _new_invitation(actor, email, role, groups)
    token = invitation.set_new_token()
    try:
        with transaction.atomic():
            invitation.save(force_insert=True)
    except IntegrityError:
        message = _("%(email)s is invited already. Send that invitation again, or take it back first.")
        raise Refused("already_invited", message % {"email": email}, "email") from None
    after = {"email": email, "role": role, "expires": invitation.expires.isoformat()}
    record_change(actor, "invitation.made", subject_id=invitation.pk, after=after)
    return invitation, token


def renew_invitation(*, actor: Actor, invitation_id: UUID) -> tuple[Invitation, str]:
    """A fresh link for an invitation; the one before stops working."""
    _require_managing(actor)
    invitation = _open_invitation(invitation_id)
    _require_giving(actor, invitation.role)
    before = {"expires": invitation.expires.isoformat()}
    token, invitation.expires = invitation.set_new_token(), clock.now() + INVITATION_LIFE
    invitation.save(update_fields=["token_hash", "expires"])
    detail, after = {"email": invitation.email}, {"expires": invitation.expires.isoformat()}
    record_change(
        actor, "invitation.renewed", subject_id=invitation.pk, before=before, after=after, detail=detail
    )
    return invitation, token


def links_to_send(*, invitation_ids: Collection[UUID]) -> list[tuple[Invitation, str]]:
    """For those of these that are open and never went out by e-mail: a fresh token each.

    Tokens of many invitations are made when they are sent, so that none waits in a queue.
    """
    rows = Invitation.objects.select_for_update(of=("self",)).select_related("tenant", "invited_by").order_by("pk")
    waiting = rows.filter(
        pk__in=invitation_ids, sent=None, accepted=None, revoked=None, expires__gt=clock.now()
    )
    found = [(invitation, invitation.set_new_token()) for invitation in waiting]
    Invitation.objects.bulk_update([invitation for invitation, _token in found], ["token_hash"])
    return found


def mark_sent(*, invitation_ids: Collection[UUID]) -> None:
    """Their links have gone out by e-mail."""
    Invitation.objects.filter(pk__in=invitation_ids).update(sent=clock.now())


def revoke_invitation(*, actor: Actor, invitation_id: UUID) -> None:
    """Take an invitation back: its link stops working."""
    if not actor.is_platform:
        _require_managing(actor)
    invitation = _open_invitation(invitation_id)
    invitation.revoked = clock.now()
    invitation.save(update_fields=["revoked"])
    before = {"email": invitation.email, "role": invitation.role}
    record_change(actor, "invitation.revoked", subject_id=invitation.pk, before=before)


def find_invitation(*, tenant_slug: str, token: str) -> Invitation:
    """The open invitation that a link leads to, with its tenant.

    Raises Refused "invitation_expired" or "invitation_used" to whoever holds a real link, NotVisible for any other.
    """
    tenant = Tenant.objects.filter(slug=tenant_slug, status=Tenant.Status.ACTIVE).first()
    if tenant is None:
        raise NotVisible(tenant_slug)
    with tenant_scope(tenant.pk):
        candidates = Invitation.objects.filter(token_hash=Invitation.hash_of(token)).select_related("tenant")
        invitation = candidates.first()
    if invitation is None:
        raise NotVisible(tenant_slug)
    if invitation.accepted or invitation.revoked:
        message = _("This invitation was used or taken back. Sign in, or ask for a new one.")
        raise Refused("invitation_used", message)
    if not invitation.is_open:
        message = _("This invitation has run out. Ask whoever invited you for a new one.")
        raise Refused("invitation_expired", message)
    return invitation


def accept_invitation(*, tenant_slug: str, token: str, user: User, address: str = "") -> Membership:
    """Make the signed-in person a member; the invitation must be for their address. Once, however often it is asked."""
    found = find_invitation(tenant_slug=tenant_slug, token=token)
    with tenant_scope(found.tenant_id):
        invitation = Invitation.objects.select_for_update(of=("self",)).get(pk=found.pk)
        if not invitation.is_open:
            raise Refused("invitation_used", _("This invitation was used or taken back."))
        if invitation.email != user.email:
            message = _("This invitation is for %(email)s. Sign in with that address.")
            raise Refused("invitation_of_another", message % {"email": invitation.email})
        membership, made = Membership.objects.get_or_create(user=user, defaults={"role": invitation.role})
        if made:
            inside = Group.objects.filter(pk__in=invitation.groups, is_everyone=False)
            rows = [GroupMember(group=group, membership=membership) for group in inside]
            GroupMember.objects.bulk_create(rows, ignore_conflicts=True)
        invitation.accepted = clock.now()
        invitation.save(update_fields=["accepted"])
        actor = _newcomer(found.tenant, user, membership, address)
        _record(actor, "member.joined", membership, after={"role": membership.role})
    return membership


# --- Import ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowError:
    """What is wrong with one row, counted from 1 without the heading."""

    row: int
    field: str
    message: str


@dataclass(frozen=True)
class ImportReport:
    """invited: (invitation, token) of every row, when there are no errors; with any, nothing was done."""

    rows: int
    errors: list[RowError] = field(default_factory=list)
    invited: list[tuple[Invitation, str]] = field(default_factory=list)


def import_members(*, actor: Actor, rows: Sequence[dict[str, str]], dry_run: bool = False) -> ImportReport:
    """Invite many people: rows of email, role (member when empty) and groups (names, separated by ";").

    All or nothing: a report that names every bad row, or every invitation made. Raises Refused for too many rows.
    """
    _require_managing(actor)
    if len(rows) > IMPORT_MOST:
        message = _("Import at most %(most)d people at a time; these are %(count)d.")
        raise Refused("import_too_large", message % {"most": IMPORT_MOST, "count": len(rows)}, "file")
    reader = _ImportReader(actor)
    invitations = [reader.read(number, row) for number, row in enumerate(rows, start=1)]
    if reader.errors or dry_run:
        return ImportReport(rows=len(rows), errors=reader.errors)
    made = [each for each in invitations if each is not None]
    tokens = [each.set_new_token() for each in made]
    expired = Invitation.objects.filter(email__in=[each.email for each in made], accepted=None, revoked=None)
    expired.update(revoked=clock.now())
    Invitation.objects.bulk_create(made, batch_size=1000)
    after = {"count": len(made), "members": [{"email": each.email, "role": each.role} for each in made]}
    record_change(actor, "members.imported", after=after)
    return ImportReport(rows=len(rows), invited=list(zip(made, tokens, strict=True)))


class _ImportReader:
    """Checks rows one after the other; the questions to the database are asked once for all of them."""

    def __init__(self, actor: Actor) -> None:
        self.errors: list[RowError] = []
        self._actor = actor
        self._roles = {code: permissions for code, _name, permissions in roles()}
        self._groups = dict(Group.objects.filter(is_everyone=False).values_list("name", "pk"))
        self._members = set(Membership.objects.values_list("user__email", flat=True))
        open_now = Invitation.objects.filter(accepted=None, revoked=None, expires__gt=clock.now())
        self._invited = set(open_now.values_list("email", flat=True))
        self._seen: dict[str, int] = {}

    def read(self, number: int, row: dict[str, str]) -> Invitation | None:
        try:
            return self._read(number, row)
        except Refused as error:
            self.errors.append(RowError(number, error.field or "", error.message))
            return None

    def _read(self, number: int, row: dict[str, str]) -> Invitation:
        email = words.clean_email(row.get("email") or "")
        if email in self._seen:
            message = _("%(email)s stands in row %(row)d already.")
            raise Refused("duplicate", message % {"email": email, "row": self._seen[email]}, "email")
        self._seen[email] = number
        if email in self._members:
            raise Refused("already_member", _("%(email)s is a member already.") % {"email": email}, "email")
        if email in self._invited:
            raise Refused("already_invited", _("%(email)s is invited already.") % {"email": email}, "email")
        role = (row.get("role") or Role.MEMBER).strip()
        if role not in self._roles:
            raise Refused("role_unknown", _("There is no role “%(role)s”.") % {"role": role}, "role")
        if duties_of(self._roles[role]) and not self._actor.can(PEOPLE_APPOINT):
            message = _("Only an owner gives the role “%(role)s”.")
            raise Refused("role_not_yours", message % {"role": role}, "role")
        return _new_invitation(self._actor, email, role, self._named_groups(row.get("groups") or ""))

    def _named_groups(self, text: str) -> list[UUID]:
        names = [name.strip() for name in text.split(";") if name.strip()]
        for name in names:
            if name not in self._groups:
                raise Refused("group_unknown", _("There is no group “%(name)s”.") % {"name": name}, "groups")
        return [self._groups[name] for name in names]


# --- Rules -----------------------------------------------------------------------------------


def _require_managing(actor: Actor) -> None:
    if not (may_manage(actor) or actor.can(PEOPLE_APPOINT)):
        raise NotVisible(PEOPLE_APPOINT)


def _require_giving(actor: Actor, role: str, *, taken: str = "") -> None:
    """Raises Refused unless the actor may give this role, and take away the other."""
    if role not in {code for code, _name, _permissions in roles()}:
        raise Refused("role_unknown", _("There is no role “%(role)s”.") % {"role": role}, "role")
    _require_taking(actor, role)
    if taken:
        _require_taking(actor, taken)


def _require_taking(actor: Actor, role: str) -> None:
    """Raises Refused unless the actor may take this role from others. It need not exist any more."""
    if duties_of(permissions_of([role])[role]) and not actor.can(PEOPLE_APPOINT):
        message = _("Only an owner gives or takes the role “%(role)s”.")
        raise Refused("role_not_yours", message % {"role": role}, "role")


def _others(actor: Actor, membership_id: UUID) -> Membership:
    """Somebody else's membership, locked."""
    _require_managing(actor)
    found = Membership.objects.select_for_update(of=("self",)).select_related("user").filter(pk=membership_id)
    membership = found.first()
    if membership is None:
        raise NotVisible("membership")
    if membership.user_id == actor.user_id:
        raise Refused("own_membership", _("Nobody changes their own rights. Ask another administrator."))
    return membership


def _require_another_owner(membership: Membership) -> None:
    if membership.role != Role.OWNER:
        return
    # Locked in one order, so that two owners who leave at once do not both count the other.
    owners = Membership.objects.select_for_update(of=("self",)).order_by("pk")
    active = owners.filter(role=Role.OWNER, disabled=None, user__is_active=True)
    if not [each for each in active if each.pk != membership.pk]:
        message = _("This is the last owner. Make somebody else an owner first.")
        raise Refused("last_owner", message)


def _end(actor: Actor, membership: Membership, kind: str) -> None:
    _require_another_owner(membership)
    ApiKey.objects.filter(user_id=membership.user_id, revoked=None).update(revoked=clock.now())
    shared = grants.drop_shares(user_id=membership.user_id)
    _record(actor, kind, membership, before={"role": membership.role, "shared_objects": shared})
    membership.delete()


def _record(actor: Actor, kind: str, membership: Membership, **states: dict[str, Any]) -> None:
    detail = {"email": membership.user.email}
    record_change(actor, kind, subject_id=membership.pk, detail=detail, **states)


def _open_invitation(invitation_id: UUID) -> Invitation:
    rows = Invitation.objects.select_for_update(of=("self",))
    invitation = rows.filter(pk=invitation_id, accepted=None, revoked=None).first()
    if invitation is None:
        raise NotVisible("invitation")
    return invitation


def _new_invitation(actor: Actor, email: str, role: str, groups: list[UUID]) -> Invitation:
    return Invitation(
        tenant_id=actor.tenant_id,
        email=email,
        role=role,
        groups=groups,
        invited_by_id=actor.user_id,
        expires=clock.now() + INVITATION_LIFE,
    )


def _known_groups(group_ids: Collection[UUID]) -> list[UUID]:
    known = Group.objects.filter(pk__in=group_ids, is_everyone=False).values_list("pk", flat=True)
    if len(found := sorted(known)) != len(set(group_ids)):
        raise Refused("group_unknown", _("There is no such group. Choose from the list."), "groups")
    return found


def _newcomer(tenant: Tenant, user: User, membership: Membership, address: str) -> Actor:
    return Actor(
        tenant_id=tenant.pk,
        tenant_slug=tenant.slug,
        tenant_name=tenant.name,
        label=user.email,
        role=membership.role,
        permissions=frozenset(),
        user_id=user.pk,
        membership_id=membership.pk,
        address=address,
    )
