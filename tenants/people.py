"""The people of a tenant: members, their roles, invitations, imports.

Readers run in the tenant's scope, writers open it. Raises NotVisible and Refused.

Who gives which role: PEOPLE_MANAGE gives and takes the roles without a duty, PEOPLE_APPOINT those with one. Nobody
changes their own, and a tenant keeps an owner.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from tenants import clock, grants, networks, words
from tenants.actors import Actor, NotVisible, people_behind, permissions_of, system_actor
from tenants.changes import change, changing, record_change
from tenants.custom_roles import require_appointing, require_giving, roles
from tenants.errors import Refused
from tenants.groups import may_manage
from tenants.models import ApiKey, Group, GroupMember, Invitation, Membership, Tenant, TenantSettings, User
from tenants.roles import ADMINISTRATION_VIEW, PEOPLE_APPOINT, SCIM_PROVISION, Role
from tenants.scope import tenant_scope

INVITATION_LIFE = timedelta(days=7)
REQUEST_LIFE = timedelta(days=1)
IMPORT_MOST = 10_000


def members(actor: Actor, search: str = "", role: str = "") -> QuerySet[Membership]:
    """Everybody in the tenant, by address, narrowed by words of name or address and by role."""
    if not (may_manage(actor) or actor.can(ADMINISTRATION_VIEW)):
        raise NotVisible(ADMINISTRATION_VIEW)
    found = Membership.objects.select_related("user").order_by("user__email")
    for word in words.search_words(search):
        found = found.filter(Q(user__email__icontains=word) | Q(user__name__icontains=word))
    return found.filter(role__in=words.search_words(role)) if role else found


@change
def change_role(*, actor: Actor, membership_id: UUID, role: str) -> Membership:
    """Give a member another role. What they have open ends within a second if the new role does not allow it."""
    membership = _others(actor, membership_id, gains=True)
    require_giving(actor, role)
    _require_taking(actor, membership.role)
    if membership.role != role:
        _require_another_owner(membership)
        before, membership.role = {"role": membership.role}, role
        membership.save(update_fields=["role"])
        _record(actor, "member.role_changed", membership, before=before, after={"role": role})
    return membership


@change
def disable_member(*, actor: Actor, membership_id: UUID) -> Membership:
    """Keep the member out, with everything kept; sockets, sessions' pages and keys end within a second."""
    membership = _others(actor, membership_id)
    _require_shutting_out(actor, membership.role)
    if membership.disabled is None:
        _require_another_owner(membership)
        membership.disabled = clock.now()
        membership.save(update_fields=["disabled"])
        _record(actor, "member.disabled", membership, before={"active": True}, after={"active": False})
    return membership


@change
def enable_member(*, actor: Actor, membership_id: UUID) -> Membership:
    """Let a disabled member in again."""
    membership = _others(actor, membership_id, gains=True)
    _require_taking(actor, membership.role)
    if membership.disabled is not None:
        membership.disabled = None
        membership.save(update_fields=["disabled"])
        _record(actor, "member.enabled", membership, before={"active": False}, after={"active": True})
    return membership


@change
def remove_member(*, actor: Actor, membership_id: UUID) -> None:
    """End a membership, with its place in groups and its personal keys."""
    membership = _others(actor, membership_id)
    _require_shutting_out(actor, membership.role)
    _end(actor, membership, "member.removed")


@change
def leave(*, actor: Actor) -> None:
    """End one's own membership."""
    own = Membership.objects.select_related("user").filter(
        pk=actor.membership_id, disabled=None, tenant__status=Tenant.Status.ACTIVE
    )
    membership = own.first()
    if membership is None:
        raise NotVisible("membership")
    _end(actor, membership, "member.left")


@change
def add_member(*, actor: Actor, user: User, role: str = Role.MEMBER, external_id: str = "") -> Membership:
    """Make somebody a member without asking them: for directories that provision people.

    Raises Refused "account_unproven" where the account may be held by another than its address's reader: who chooses
    whom a directory names must not let in whoever got to an address first.
    """
    _require_managing(actor)
    if user.may_be_somebody_elses:
        message = _(
            "The account of %(email)s has not confirmed its address. Let the person confirm it under “Account & "
            "security”, or set a new password by mail; then add them."
        )
        raise Refused("account_unproven", message % {"email": user.email})
    require_giving(actor, role)
    external_id = words.clean_text(external_id, field="external_id", most=200)
    membership = _enter(user, role=role, external_id=external_id)
    _record(actor, "member.added", membership, after={"role": role, "external_id": external_id})
    return membership


# --- Invitations -----------------------------------------------------------------------------


def invitations(actor: Actor) -> QuerySet[Invitation]:
    """Those that are open or have run out, newest first."""
    if not (may_manage(actor) or actor.can(ADMINISTRATION_VIEW)):
        raise NotVisible(ADMINISTRATION_VIEW)
    return Invitation.objects.select_related("invited_by").filter(accepted=None, revoked=None).order_by("-pk")


@change
def invite(
    *, actor: Actor, email: str, role: str = Role.MEMBER, group_ids: Collection[UUID] = ()
) -> tuple[Invitation, str]:
    """Offer somebody a place: the invitation, and the token of its link, which is shown this once.

    A platform administrator invites the first owner of a tenant, who is alone in inviting others.
    """
    if actor.is_platform and role == Role.OWNER and not group_ids:
        _refuse_second_founder()
    else:
        _require_managing(actor)
        require_giving(actor, role)
    email = words.clean_email(email)
    groups = _known_groups(group_ids)
    if Membership.objects.filter(user__email=email).exists():
        raise Refused("already_member", _("%(email)s is a member already.") % {"email": email}, "email")
    if (open_one := _invited().filter(email=email).first()) is not None:
        if open_one.is_open:
            message = _("%(email)s is invited already. Send that invitation again, or take it back first.")
            raise Refused("already_invited", message % {"email": email}, "email")
        Invitation.objects.filter(pk=open_one.pk).update(revoked=clock.now())
    invitation = _new_invitation(actor, email, role, groups)
    token = invitation.set_new_token()
    invitation.save(force_insert=True)
    after = {
        "email": email,
        "role": role,
        "groups": [str(each) for each in groups],
        "expires": invitation.expires.isoformat(),
    }
    record_change(actor, "invitation.made", subject_id=invitation.pk, after=after)
    return invitation, token


@change
def renew_invitation(*, actor: Actor, invitation_id: UUID) -> tuple[Invitation, str]:
    """A fresh link for an invitation; the one before stops working. Raises Refused for what somebody asked for."""
    _require_managing(actor)
    invitation = _open_invitation(invitation_id)
    if invitation.mailed_only:
        message = _("%(email)s asked to join, and only they can ask for another link. You can invite them.")
        raise Refused("request_not_renewable", message % {"email": invitation.email})
    require_giving(actor, invitation.role)
    before = {"expires": invitation.expires.isoformat()}
    token, invitation.expires = invitation.set_new_token(), clock.now() + INVITATION_LIFE
    invitation.sent = None
    invitation.save(update_fields=["token_hash", "expires", "sent"])
    detail, after = {"email": invitation.email}, {"expires": invitation.expires.isoformat()}
    record_change(
        actor, "invitation.renewed", subject_id=invitation.pk, before=before, after=after, detail=detail
    )
    return invitation, token


def links_to_send(*, invitation_ids: Collection[UUID]) -> list[tuple[Invitation, str]]:
    """For those of these that are open and never went out by e-mail: a fresh token each.

    Tokens of many invitations are made when they are sent, so that none waits in a queue.
    """
    rows = (
        Invitation.objects.select_for_update(of=("self",))
        .select_related("tenant", "invited_by")
        .order_by("pk")
    )
    waiting = rows.filter(
        pk__in=invitation_ids, sent=None, accepted=None, revoked=None, expires__gt=clock.now()
    )
    found = [(invitation, invitation.set_new_token()) for invitation in waiting]
    Invitation.objects.bulk_update([invitation for invitation, _token in found], ["token_hash"])
    return found


def mark_sent(*, invitation_ids: Collection[UUID]) -> None:
    """Their links have gone out by e-mail."""
    Invitation.objects.filter(pk__in=invitation_ids).update(sent=clock.now())


@change
def revoke_invitation(*, actor: Actor, invitation_id: UUID) -> None:
    """Take an invitation back: its link stops working."""
    if not actor.is_platform:
        _require_managing(actor)
    invitation = _open_invitation(invitation_id)
    if not actor.is_platform:
        _require_taking(actor, invitation.role)
    elif invitation.role != Role.OWNER or _owners().exists():
        raise NotVisible("invitation")
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
        return _invitation_of(token)


def accept_invitation(*, tenant_slug: str, token: str, user: User, address: str = "") -> Membership:
    """Make the signed-in person a member; the invitation must be for their address. Once, however often it is asked.

    A link that was only mailed proves the address, and counts as long as the tenant is open to its domain.
    """
    with _entering(tenant_slug) as tenant:
        invitation = _invitation_of(token)
        if invitation.mailed_only and not _is_open_to(tenant, email=user.email, address=address):
            message = _(
                "This workspace is not open to your address any more. Ask its administrator to invite you."
            )
            raise Refused("registration_closed", message)
        if invitation.email != user.email.lower() or not user.is_active:
            message = _("This invitation is for %(email)s. Sign in with that address.")
            raise Refused("invitation_of_another", message % {"email": invitation.email})
        membership = _enter(user, role=invitation.role)
        inside = Group.objects.filter(pk__in=invitation.groups, is_everyone=False)
        GroupMember.objects.bulk_create(GroupMember(group=each, membership=membership) for each in inside)
        invitation.accepted = clock.now()
        invitation.save(update_fields=["accepted"])
        if invitation.mailed_only:
            unproven = User.objects.filter(pk=user.pk, email=invitation.email, email_verified=None)
            unproven.update(email_verified=clock.now())
        after = {"role": membership.role, "groups": [each.name for each in inside]}
        _record(_newcomer(tenant, user, membership, address), "member.joined", membership, after=after)
    return membership


def require_open_door(*, tenant_slug: str, address: str = "") -> None:
    """Raises NotVisible unless the tenant takes in people by the domain of their address, from where they are."""
    found = Tenant.objects.filter(slug=tenant_slug, status=Tenant.Status.ACTIVE).first()
    if found is None:
        raise NotVisible(tenant_slug)
    with tenant_scope(found.pk):
        if not _has_open_door(TenantSettings.objects.get(tenant=found), address):
            raise NotVisible(tenant_slug)


def ask_to_join(*, tenant_slug: str, email: str, address: str = "") -> Invitation | None:
    """Note that somebody, who may be anybody, asked for a link to the mailbox of an address; None where it gets none.

    The links before stop working. The link has a token only once it is mailed (links_to_send). Raises NotVisible and
    Refused.
    """
    email = words.clean_email(email)
    with _entering(tenant_slug) as tenant:
        known = User.objects.filter(email=email).first()
        is_inside = Membership.objects.filter(user__email=email).exists()
        if is_inside or (known and not known.is_active):
            return None
        if not _is_open_to(tenant, email=email, address=address):
            return None
        Invitation.objects.filter(email=email, mailed_only=True, accepted=None, revoked=None).update(
            revoked=clock.now()
        )
        visitor = _visitor(tenant, address)
        request = _new_invitation(visitor, email, Role.MEMBER, [])
        request.mailed_only, request.expires = True, clock.now() + REQUEST_LIFE
        request.set_new_token()
        request.save(force_insert=True)
        after = {"email": email, "role": request.role, "expires": request.expires.isoformat()}
        record_change(visitor, "invitation.requested", subject_id=request.pk, after=after)
    return request


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


@change
def import_members(*, actor: Actor, rows: Sequence[dict[str, str]], dry_run: bool = False) -> ImportReport:
    """Invite many people: rows of email, role (member when empty) and groups (names, separated by ";").

    All or nothing: a report that names every bad row, or every invitation made. Raises Refused for too many rows.
    """
    _require_managing(actor)
    if not rows:
        raise Refused("import_empty", _("There is nobody in this list."), "file")
    if len(rows) > IMPORT_MOST:
        message = _("Import at most %(most)d people at a time; these are %(count)d.")
        raise Refused("import_too_large", message % {"most": IMPORT_MOST, "count": len(rows)}, "file")
    reader = _ImportReader(actor)
    invitations = [reader.read(number, row) for number, row in enumerate(rows, start=1)]
    if reader.errors or dry_run:
        return ImportReport(rows=len(rows), errors=reader.errors)
    made = [each for each in invitations if each is not None]
    tokens = [each.set_new_token() for each in made]
    expired = _invited().filter(email__in=[each.email for each in made])
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
        self._roles = roles()
        self._groups = dict(Group.objects.filter(is_everyone=False).values_list("name", "pk"))
        self._members = set(Membership.objects.values_list("user__email", flat=True))
        open_now = _invited().filter(expires__gt=clock.now())
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
        role = (row.get("role") or "").strip() or Role.MEMBER
        require_giving(self._actor, role, self._roles)
        return _new_invitation(self._actor, email, role, self._named_groups(row.get("groups") or ""))

    def _named_groups(self, text: str) -> list[UUID]:
        names = {name.strip() for name in text.split(";") if name.strip()}
        for name in sorted(names - set(self._groups)):
            message = _("There is no group “%(name)s”.")
            raise Refused("group_unknown", message % {"name": name[:120]}, "groups")
        return sorted(self._groups[name] for name in names)


# --- Rules -----------------------------------------------------------------------------------


def _require_managing(actor: Actor) -> None:
    if not (may_manage(actor) or actor.can(PEOPLE_APPOINT)):
        raise NotVisible(PEOPLE_APPOINT)


def _require_taking(actor: Actor, role: str) -> None:
    """Raises Refused unless the actor may take this role from others. It need not exist any more."""
    require_appointing(actor, role, permissions_of([role])[role])


def _require_shutting_out(actor: Actor, role: str) -> None:
    """As _require_taking; but the program of a directory shuts out whoever left the company, in any role."""
    if not (actor.can(SCIM_PROVISION) and actor.service_account_id):
        _require_taking(actor, role)


def _others(actor: Actor, membership_id: UUID, *, gains: bool = False) -> Membership:
    """Somebody else's membership; with `gains` also not that of who is behind the program that acts."""
    _require_managing(actor)
    membership = Membership.objects.select_related("user").filter(pk=membership_id).first()
    if membership is None:
        raise NotVisible("membership")
    if membership.user_id in (people_behind(actor) if gains else {actor.user_id}):
        raise Refused("own_membership", _("Nobody changes their own rights. Ask another administrator."))
    return membership


def _has_open_door(choices: TenantSettings, address: str) -> bool:
    by_domain = choices.registration == TenantSettings.Registration.DOMAIN
    return by_domain and networks.admit(address, choices.networks)


def _is_open_to(tenant: Tenant, *, email: str, address: str) -> bool:
    """Whether the tenant takes in whoever reads this e-mail address, from this network address."""
    choices = TenantSettings.objects.get(tenant=tenant)
    domain = email.rpartition("@")[2].lower()
    return domain in choices.registration_domains and _has_open_door(choices, address)


def _invited() -> QuerySet[Invitation]:
    """Open ones, or run out, that somebody of the tenant made."""
    return Invitation.objects.filter(mailed_only=False, accepted=None, revoked=None)


def _owners() -> QuerySet[Membership]:
    return Membership.objects.filter(role=Role.OWNER, disabled=None, user__is_active=True)


def _require_another_owner(membership: Membership) -> None:
    if membership.role == Role.OWNER and not _owners().exclude(pk=membership.pk).exists():
        message = _("This is the last owner. Make somebody else an owner first.")
        raise Refused("last_owner", message)


def _refuse_second_founder() -> None:
    invited = Invitation.objects.filter(role=Role.OWNER, accepted=None, revoked=None, expires__gt=clock.now())
    if _owners().exists() or invited.exists():
        message = _("This tenant has an owner, or has invited one, who invites everybody else.")
        raise Refused("has_owner", message)


def _enter(user: User, *, role: str, external_id: str = "") -> Membership:
    try:
        with transaction.atomic():
            return Membership.objects.create(user=user, role=role, external_id=external_id)
    except IntegrityError:
        message = _("%(email)s is a member already.")
        raise Refused("already_member", message % {"email": user.email}, "email") from None


def _end(actor: Actor, membership: Membership, kind: str) -> None:
    _require_another_owner(membership)
    ApiKey.objects.filter(user_id=membership.user_id, revoked=None).update(revoked=clock.now())
    shared = grants.drop_shares(user_id=membership.user_id)
    _record(actor, kind, membership, before={"role": membership.role, "shared_objects": shared})
    membership.delete()


def _record(
    actor: Actor,
    kind: str,
    membership: Membership,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    **more: str,
) -> None:
    detail = {"email": membership.user.email, **more}
    record_change(actor, kind, subject_id=membership.pk, before=before, after=after, detail=detail)


@contextmanager
def _entering(slug: str) -> Iterator[Tenant]:
    """`changing`, for somebody from outside. Raises NotVisible unless the tenant is active."""
    found = Tenant.objects.filter(slug=slug).first()
    if found is None:
        raise NotVisible(slug)
    with changing(found.pk) as tenant:
        if tenant.status != Tenant.Status.ACTIVE:
            raise NotVisible(slug)
        yield tenant


def _invitation_of(token: str) -> Invitation:
    """As find_invitation, in the tenant's scope."""
    found = Invitation.objects.filter(token_hash=Invitation.hash_of(token)).select_related("tenant").first()
    if found is None:
        raise NotVisible("invitation")
    if found.accepted or found.revoked:
        message = _("This invitation was used or taken back. Sign in, or ask for a new one.")
        raise Refused("invitation_used", message)
    if not found.is_open:
        message = _("This invitation has run out. Ask whoever invited you for a new one.")
        raise Refused("invitation_expired", message)
    return found


def _open_invitation(invitation_id: UUID) -> Invitation:
    found = Invitation.objects.filter(pk=invitation_id, accepted=None, revoked=None).first()
    if found is None:
        raise NotVisible("invitation")
    return found


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


def _visitor(tenant: Tenant, address: str) -> Actor:
    """Somebody who has not shown who they are."""
    return replace(system_actor(tenant, "visitor"), address=address)


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
