"""Brings a tenant to what the file says, through the services that the pages use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from audit.record import Keeping
from audit.retention import policies
from console.apply import state
from console.apply.document import (
    AccountPart,
    Amounts,
    BadDocument,
    Document,
    GroupPart,
    MemberPart,
    Mistake,
    Place,
    TenantPart,
)
from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants import custom_roles, groups, keys, lifecycle, people, words
from tenants.actors import Actor, system_actor
from tenants.changes import changing
from tenants.errors import Refused
from tenants.models import CustomRole, Group, GroupMember, Invitation, Membership, ServiceAccount, Tenant
from tenants.quotas.models import Limit, SubjectKind
from tenants.quotas.services import remove_limit, set_limit
from tenants.roles import (
    ADMINISTRATION_VIEW,
    KEYS_MANAGE,
    PEOPLE_APPOINT,
    PEOPLE_MANAGE,
    QUOTAS_MANAGE,
    RETENTION_MANAGE,
    ROLES_MANAGE,
    SETTINGS_MANAGE,
)

LABEL = "manage.py apply"
PERMISSIONS = frozenset(
    {
        ADMINISTRATION_VIEW,
        KEYS_MANAGE,
        PEOPLE_APPOINT,
        PEOPLE_MANAGE,
        QUOTAS_MANAGE,
        RETENTION_MANAGE,
        ROLES_MANAGE,
        SETTINGS_MANAGE,
    }
)

Link = tuple[Invitation, str]


@transaction.atomic
def ensure(document: Document, slug: str, *, prune: bool) -> tuple[list[state.Change], list[Link]]:
    """Make the tenant what the file says; what changed, and the links of new invitations.

    prune: also take away what the file's own sections do not name. In one transaction, which the caller may undo.
    Raises BadDocument for what the services refuse.
    """
    part = document.tenants[slug]
    with _at(document, ("tenants", slug)):
        tenant = Tenant.objects.filter(slug=slug).first()
        before: state.State | None = None
        if tenant is None:
            tenant = _founded(slug, part)
            before = {}
        elif tenant.status != Tenant.Status.ACTIVE:
            message = _("This tenant is “%(status)s”. Resume it first, or take it out of the file.")
            raise Refused("wrong_state", message % {"status": tenant.get_status_display()})
    actor = system_actor(tenant, LABEL, PERMISSIONS)
    with changing(tenant.pk):
        before = state.of(actor) if before is None else before
        work = _Work(actor, document, part)
        work.carry_out()
        if prune:
            work.prune()
        return state.differences(before, state.of(actor)), work.links


def _founded(slug: str, part: TenantPart) -> Tenant:
    tenant = lifecycle.create_tenant_by_system(slug=slug, name=part.name or slug, label=LABEL)
    ensure_default_registry()
    with changing(tenant.pk):
        ensure_default_route()
    return tenant


@contextmanager
def _at(document: Document, place: Place) -> Iterator[None]:
    """What is refused here is a mistake at this place of the file."""
    try:
        yield
    except Refused as error:
        where = (*place, error.field) if error.field else place
        mistake = Mistake(document.line(where), ".".join(map(str, place)), error.message)
        raise BadDocument([mistake]) from error


class _Work:
    """One tenant. Every step is one service, which does nothing where nothing changes."""

    def __init__(self, actor: Actor, document: Document, part: TenantPart) -> None:
        self.links: list[Link] = []
        self._actor = actor
        self._document = document
        self._part = part
        self._place: Place = ("tenants", actor.tenant_slug)

    def carry_out(self) -> None:
        self._settings()
        self._roles()
        self._groups(self._part.groups, None, (*self._place, "groups"))
        self._accounts()
        for email, member in self._part.members.items():
            with self._at("members", email):
                self._member(words.clean_email(email), member or MemberPart())
        self._limits()

    def _at(self, *place: str) -> AbstractContextManager[None]:
        return _at(self._document, (*self._place, *place))

    def _settings(self) -> None:
        changes = self._part.given("name")
        if self._part.settings is not None:
            changes |= self._part.settings.given(*state.SETTINGS)
        with self._at("settings"):
            lifecycle.update_settings(actor=self._actor, **changes)
        if self._part.settings is not None and "retention_days" in self._part.settings.model_fields_set:
            with self._at("settings", "retention_days"):
                policies.set_policy(
                    actor=self._actor,
                    keeping=Keeping.REQUESTS,
                    days=self._part.settings.retention_days,
                    reason=LABEL,
                )

    def _roles(self) -> None:
        for slug, role in self._part.roles.items():
            with self._at("roles", slug):
                found = CustomRole.objects.filter(slug=slug).first()
                if found is None:
                    custom_roles.create_role(actor=self._actor, slug=slug, **role.model_dump())
                else:
                    changes = role.given("name", "description", "permissions")
                    custom_roles.update_role(actor=self._actor, role_id=found.pk, **changes)

    def _groups(self, parts: dict[str, GroupPart | None], parent: Group | None, place: Place) -> None:
        for name, given in parts.items():
            part = given or GroupPart()
            with _at(self._document, (*place, name)):
                found = _group(name)
                values = {**part.given("description"), "parent_id": parent.pk if parent else None}
                if found is None:
                    found = groups.create_group(actor=self._actor, name=name, **values)
                else:
                    found = groups.update_group(actor=self._actor, group_id=found.pk, **values)
            self._groups(part.groups, found, (*place, name, "groups"))

    def _accounts(self) -> None:
        for name, given in self._part.service_accounts.items():
            part = given or AccountPart()
            with self._at("service_accounts", name):
                found = ServiceAccount.objects.filter(name=name).first()
                values = part.given("role", "description")
                if found is None:
                    found = keys.create_service_account(actor=self._actor, name=name, **values)
                else:
                    found = keys.update_service_account(actor=self._actor, account_id=found.pk, **values)
                if "enabled" in part.model_fields_set:
                    keys.set_service_account_enabled(
                        actor=self._actor, account_id=found.pk, enabled=part.enabled
                    )

    def _member(self, email: str, part: MemberPart) -> None:
        """A member gets the role and the groups; anybody else is invited to them."""
        wanted = {self._known(name).pk for name in part.groups}
        member = Membership.objects.filter(user__email=email).first()
        if member is None:
            self._invited(email, part, wanted)
            return
        if "role" in part.model_fields_set and member.role != part.role:
            people.change_role(actor=self._actor, membership_id=member.pk, role=part.role)
        present = set(GroupMember.objects.filter(membership=member).values_list("group_id", flat=True))
        for group_id in sorted(wanted - present):
            groups.add_members(actor=self._actor, group_id=group_id, membership_ids=[member.pk])

    def _invited(self, email: str, part: MemberPart, wanted: set[UUID]) -> None:
        found = Invitation.objects.filter(email=email, mailed_only=False, accepted=None, revoked=None).first()
        if found is not None and found.is_open:
            if found.role == part.role and set(found.groups) == wanted:
                return
            people.revoke_invitation(actor=self._actor, invitation_id=found.pk)
        made = people.invite(actor=self._actor, email=email, role=part.role, group_ids=sorted(wanted))
        self.links.append(made)

    def _limits(self) -> None:
        limits = self._part.limits
        if limits is None:
            return
        self._set_limits(SubjectKind.TENANT, None, limits.tenant, "tenant")
        self._set_limits(SubjectKind.MEMBER, None, limits.members, "members")
        self._set_limits(SubjectKind.KEY, None, limits.keys, "keys")
        for name, amounts in limits.groups.items():
            with self._at("limits", "groups", name):
                group = self._known(name)
            self._set_limits(SubjectKind.GROUP, group.pk, amounts, "groups", name)

    def _set_limits(self, kind: SubjectKind, subject: UUID | None, amounts: Amounts, *place: str) -> None:
        for metric, value in amounts.items():
            with self._at("limits", *place, metric):
                set_limit(
                    actor=self._actor, subject_kind=kind, subject_id=subject, metric=metric, value=value
                )

    def _known(self, name: str) -> Group:
        found = _group(name)
        if found is None:
            message = _("There is no group “%(name)s”, neither here nor in the tenant.")
            raise Refused("group_unknown", message % {"name": name}, "groups")
        return found

    # --- Taking away -------------------------------------------------------------------------

    def prune(self) -> None:
        """Take away what the sections that the file has do not name; sections it does not have stay whole."""
        given = self._part.model_fields_set
        if "limits" in given:
            self._prune_limits()
        if "members" in given:
            self._prune_members()
        if "service_accounts" in given:
            self._prune_accounts()
        if "groups" in given:
            self._prune_groups()
        if "roles" in given:
            for role in CustomRole.objects.exclude(slug__in=self._part.roles):
                with self._at("roles"):
                    custom_roles.delete_role(actor=self._actor, role_id=role.pk)

    def _prune_limits(self) -> None:
        limits = self._part.limits
        assert limits is not None
        kept: dict[tuple[str, UUID | None], Amounts] = {
            (SubjectKind.TENANT, None): limits.tenant,
            (SubjectKind.MEMBER, None): limits.members,
            (SubjectKind.KEY, None): limits.keys,
            **{(SubjectKind.GROUP, self._known(name).pk): each for name, each in limits.groups.items()},
        }
        for limit in Limit.objects.filter(is_ceiling=False):
            kind = SubjectKind(limit.subject_kind)
            if limit.subject_id is not None and kind != SubjectKind.GROUP:
                continue  # Of one member or key: a file does not speak of those.
            if limit.metric not in kept.get((kind, limit.subject_id), {}):
                remove_limit(
                    actor=self._actor,
                    subject_kind=limit.subject_kind,
                    subject_id=limit.subject_id,
                    metric=limit.metric,
                )

    def _prune_members(self) -> None:
        wanted = {
            words.clean_email(email): part or MemberPart() for email, part in self._part.members.items()
        }
        with self._at("members"):
            for member in Membership.objects.select_related("user"):
                part = wanted.get(member.user.email)
                if part is None:
                    people.remove_member(actor=self._actor, membership_id=member.pk)
                    continue
                kept = {self._known(name).pk for name in part.groups}
                for row in GroupMember.objects.filter(membership=member).exclude(group_id__in=kept):
                    groups.remove_members(
                        actor=self._actor, group_id=row.group_id, membership_ids=[member.pk]
                    )
            made = Invitation.objects.filter(mailed_only=False, accepted=None, revoked=None)
            for invitation in made.exclude(email__in=wanted):
                people.revoke_invitation(actor=self._actor, invitation_id=invitation.pk)

    def _prune_accounts(self) -> None:
        """They are disabled: what the audit says of a program keeps meaning something."""
        for account in ServiceAccount.objects.filter(disabled=None).exclude(
            name__in=self._part.service_accounts
        ):
            with self._at("service_accounts"):
                keys.set_service_account_enabled(actor=self._actor, account_id=account.pk, enabled=False)

    def _prune_groups(self) -> None:
        kept = {_group_key(name) for name in _names(self._part.groups)}
        going = [
            each for each in Group.objects.filter(is_everyone=False) if _group_key(each.name) not in kept
        ]
        above = {each.pk: each.parent_id for each in going}

        def depth(group_id: UUID | None) -> int:
            return 1 + depth(above[group_id]) if group_id in above else 0

        for group in sorted(going, key=lambda each: -depth(each.pk)):
            with self._at("groups"):
                groups.delete_group(actor=self._actor, group_id=group.pk)


def _names(parts: dict[str, GroupPart | None]) -> Iterator[str]:
    for name, part in parts.items():
        yield name
        if part is not None:
            yield from _names(part.groups)


def _group_key(name: str) -> str:
    return " ".join(name.split()).casefold()


def _group(name: str) -> Group | None:
    return Group.objects.filter(name__iexact=words.clean_name(name), is_everyone=False).first()
