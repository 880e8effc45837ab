"""The people of a tenant: the list, what can be done with several of them at once, and the page of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import BooleanField, Case, Prefetch, QuerySet, Value, When
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext, pgettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.pages import labels
from console.pages.administration import people_actions as actions
from console.pages.administration.confirm import ask, is_confirmed
from console.pages.administration.forms import FAILED, attempt, posted, status_of
from console.pages.administration.people_forms import GroupsForm, RoleForm, roles_to_give
from console.pages.listing import Column, Listing, csv_response, selected
from console.tenancy import TenantRequest, tenant_view
from tenants import groups, keys, people
from tenants.actors import Actor, NotVisible, permissions_of
from tenants.custom_roles import roles
from tenants.models import Group, GroupMember, Membership
from tenants.roles import ADMINISTRATION_VIEW, CATALOGUE, KEYS_MANAGE, PEOPLE_APPOINT, PEOPLE_MANAGE

COLUMNS = (
    Column("name", pgettext_lazy("of a person", "Name"), ("user__name", "user__email")),
    Column("role", gettext_lazy("Role"), ("role", "user__email")),
    Column("groups", gettext_lazy("Groups")),
    Column("state", gettext_lazy("State"), ("disabled", "user__email")),
    Column("seen", gettext_lazy("Last seen"), ("last_seen",)),
    Column("joined", gettext_lazy("Joined"), ("created",)),
)


def may_manage(actor: Actor) -> bool:
    """Whether this person changes others' membership at all; a service still looks at each case."""
    return actor.can(PEOPLE_MANAGE) or actor.can(PEOPLE_APPOINT)


@require_safe
@tenant_view()
def page(request: TenantRequest) -> HttpResponse:
    actor, names = request.actor, role_names()
    listing = Listing(request, _found(request), COLUMNS, kept=("role", "state"), default_sort="name")
    if request.GET.get("format") == "csv":
        return _csv(listing.rows, names)
    context = {
        "title": _("People"),
        "listing": listing,
        "rows": [_row(member, names) for member in listing.page],
        "roles": names,
        "role": request.GET.get("role", ""),
        "states": labels.MEMBER_STATES,
        "state": request.GET.get("state", ""),
        "may_manage": may_manage(actor),
        "actions": actions.offered(),
    }
    return render(request, "administration/people.html", context)


@require_POST
@tenant_view()
def act(request: TenantRequest) -> HttpResponse:
    """Something with several people: asks first, then does it for each, and tells of those for whom it was refused."""
    if not may_manage(request.actor):
        raise NotVisible(PEOPLE_MANAGE)
    action = actions.ACTIONS.get(request.POST.get("action", ""))
    if action is None:
        raise NotVisible("action")
    chosen = list(_members(request.actor).filter(pk__in=selected(request, UUID)))
    if not chosen:
        messages.warning(request, _("Select at least one person first."))
        return redirect(_origin(request, []))
    form = (
        action.form(request.POST if is_confirmed(request) else None, actor=request.actor)
        if action.form
        else None
    )
    if not is_confirmed(request) or (form is not None and not form.is_valid()):
        return ask(request, actions.question(request, action, chosen, form, back=_origin(request, chosen)))
    choice = form.cleaned_data if form is not None else {}
    refused = actions.do(request.actor, action, chosen, choice)
    if refused:
        context = {
            "title": _("Not everything was done"),
            "refused": refused,
            "done": len(chosen) - len(refused),
            "back": reverse("people", args=[request.actor.tenant_slug]),
        }
        return render(request, "administration/people_refused.html", context, status=422)
    messages.success(request, action.success(len(chosen)))
    return redirect(_origin(request, [] if action.ends else chosen))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def member(request: TenantRequest, membership_id: UUID) -> HttpResponse:
    """Somebody's place here; POST gives them another role."""
    shown = _member(request, membership_id)
    form = RoleForm(*posted(request), actor=request.actor, initial={"role": shown.role})
    if request.method == "POST":
        _require_managing(request.actor)
        if form.is_valid():
            wanted = {
                "actor": request.actor,
                "membership_id": membership_id,
                "role": form.cleaned_data["role"],
            }
            if attempt(form, lambda: people.change_role(**wanted)) is not FAILED:
                messages.success(request, _("The role was changed. It counts from now on."))
                return redirect("member", request.actor.tenant_slug, membership_id)
    return _member_page(request, shown, role_form=form)


@require_POST
@tenant_view()
def member_groups(request: TenantRequest, membership_id: UUID) -> HttpResponse:
    """POST groups=…: exactly those groups, of the ones that people made."""
    _require_managing(request.actor)
    shown = _member(request, membership_id)
    form = GroupsForm(request.POST)
    if form.is_valid() and attempt(form, lambda: _put(request.actor, shown, form.ids())) is not FAILED:
        messages.success(request, _("The groups were changed."))
        return redirect("member", request.actor.tenant_slug, membership_id)
    return _member_page(request, shown, groups_form=form)


# --- The list --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    member: Membership
    role: str
    state: labels.State
    groups: list[str]


def role_names() -> dict[str, str]:
    """The name of every role of the tenant in scope, by code."""
    return {code: name for code, name, _permissions in roles()}


def _members(actor: Actor, search: str = "", role: str = "") -> QuerySet[Membership]:
    """As `people.members`, with groups and whether there is a picture, but not its bytes."""
    inside = GroupMember.objects.select_related("group").order_by("group__name")
    picture = Case(
        When(user__avatar=None, then=Value(False)), default=Value(True), output_field=BooleanField()
    )
    found = people.members(actor, search, role).defer("user__avatar", "user__password")
    return found.annotate(has_avatar=picture).prefetch_related(Prefetch("group_members", inside))


def _found(request: TenantRequest) -> QuerySet[Membership]:
    found = _members(request.actor, request.GET.get("q", ""), request.GET.get("role", ""))
    state = request.GET.get("state")
    return found.filter(disabled__isnull=state == "active") if state in labels.MEMBER_STATES else found


def _row(member: Membership, names: dict[str, str]) -> Row:
    state = labels.MEMBER_STATES["active" if member.disabled is None else "disabled"]
    inside = [each.group.name for each in member.group_members.all()]
    return Row(member, names.get(member.role, member.role), state, inside)


def _csv(members: Iterable[Membership], names: dict[str, str]) -> HttpResponse:
    heading = [
        pgettext("of a person", "Name"),
        _("E-mail address"),
        _("Role"),
        _("Groups"),
        _("State"),
        _("Last seen"),
        _("Joined"),
    ]
    rows = (_row(member, names) for member in members)
    cells = (
        [
            row.member.user.name,
            row.member.user.email,
            row.role,
            "; ".join(row.groups),
            row.state.label,
            row.member.last_seen.isoformat(timespec="seconds") if row.member.last_seen else "",
            row.member.created.isoformat(timespec="seconds"),
        ]
        for row in rows
    )
    return csv_response("people", heading, cells)


def _origin(request: TenantRequest, chosen: Sequence[Membership]) -> str:
    """Where the action was started: the list as it was filtered, or the page of the one person chosen."""
    origin = request.POST.get("origin", "")
    if origin == "member" and len(chosen) == 1:
        return reverse("member", args=[request.actor.tenant_slug, chosen[0].pk])
    return reverse("people", args=[request.actor.tenant_slug]) + (origin if origin.startswith("?") else "")


# --- One person ------------------------------------------------------------------------------


def _require_managing(actor: Actor) -> None:
    if not may_manage(actor):
        raise NotVisible(PEOPLE_MANAGE)


def _member(request: TenantRequest, membership_id: UUID) -> Membership:
    found = _members(request.actor).filter(pk=membership_id).first()
    if found is None:
        raise NotVisible("membership")
    return found


def _member_page(
    request: TenantRequest,
    member: Membership,
    *,
    role_form: RoleForm | None = None,
    groups_form: GroupsForm | None = None,
) -> HttpResponse:
    actor = request.actor
    row = _row(member, role_names())
    direct = [each.group_id for each in member.group_members.all()]
    role_form = role_form or RoleForm(actor=actor, initial={"role": member.role})
    groups_form = groups_form or GroupsForm(initial={"groups": [str(each) for each in direct]})
    context = {
        "title": member.user.name or member.user.email,
        "row": row,
        "member": member,
        "is_oneself": member.pk == actor.membership_id,
        "may_manage": may_manage(actor),
        "may_change_role": may_manage(actor) and member.role in roles_to_give(actor),
        "role_form": role_form,
        "groups_form": groups_form,
        "inherited": Group.objects.filter(pk__in=groups.group_ids_of(member.user_id)).exclude(pk__in=direct),
        "rights": _rights(member),
        "keys": _keys(actor, member),
    }
    status = max(status_of(role_form), status_of(groups_form))
    return render(request, "administration/member.html", context, status=status)


def _rights(member: Membership) -> list[tuple[Any, list[Any]]]:
    """What the role allows, as (area, labels)."""
    held = permissions_of([member.role])[member.role]
    found: dict[Any, list[Any]] = {}
    for permission in CATALOGUE:
        if permission.code in held:
            found.setdefault(permission.area, []).append(permission.label)
    return list(found.items())


def _keys(actor: Actor, member: Membership) -> Any:
    """The person's keys that still work in principle, for those who may see keys; else None."""
    if not (actor.can(KEYS_MANAGE) or actor.can(ADMINISTRATION_VIEW)):
        return None
    return keys.keys(actor).filter(user_id=member.user_id, revoked=None)


def _put(actor: Actor, member: Membership, wanted: set[UUID]) -> None:
    present = {each.group_id for each in member.group_members.all()}
    for group_id in sorted(wanted - present):
        groups.add_members(actor=actor, group_id=group_id, membership_ids=[member.pk])
    for group_id in sorted(present - wanted):
        groups.remove_members(actor=actor, group_id=group_id, membership_ids=[member.pk])
