"""Limits of the tenant, its groups, members and keys; and the platform's ceilings, which are only shown."""

from typing import Any, NamedTuple
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from console.pages import limits
from console.pages.administration.confirm import ask, is_confirmed
from console.pages.administration.forms import Failed, attempt, status_of
from console.pages.listing import csv_response
from console.tenancy import TenantRequest, tenant_view
from tenants.actors import Actor
from tenants.errors import Refused
from tenants.models import ApiKey, Group, Membership
from tenants.quotas import selectors
from tenants.quotas import services as quotas
from tenants.quotas.models import SubjectKind
from tenants.roles import QUOTAS_MANAGE

OFFERED_MOST = 200  # Names that the form suggests of each kind; any other can be typed.


class LimitForm(limits.CeilingForm):
    """A limit of anybody's. The subject: by id, as a row of the table knows it, or by the name somebody types."""

    subject_kind = forms.ChoiceField(label=gettext_lazy("For"), choices=SubjectKind)
    who = forms.CharField(
        label=gettext_lazy("Which"),
        required=False,
        max_length=254,
        widget=forms.TextInput(attrs={"list": "subjects", "autocomplete": "off"}),
        help_text=gettext_lazy(
            "A group’s name, a member’s address, a key’s name. Empty: every member, or every key."
        ),
    )
    subject_id = forms.UUIDField(required=False, widget=forms.HiddenInput)

    field_order = ("subject_kind", "who", "metric", "value")

    def asked(self) -> dict[str, Any]:
        """What `set_limit` is asked for. Raises Refused for a name that nobody has."""
        values = dict(self.cleaned_data)
        who = values.pop("who").strip()
        if values["subject_id"] is None:
            values["subject_id"] = _named(values["subject_kind"], who)
        return values


class Section(NamedTuple):
    """The limits of one kind of subject."""

    title: str | Promise
    lead: str | Promise
    rows: list[limits.Shown]


@require_safe
@tenant_view()
def page(request: TenantRequest) -> HttpResponse:
    if request.GET.get("format") == "csv":
        return _csv(request.actor)
    return _page(request, LimitForm())


@require_POST
@tenant_view(QUOTAS_MANAGE)
def set_limit(request: TenantRequest) -> HttpResponse:
    form = LimitForm(request.POST)
    if form.is_valid():
        actor = request.actor
        if not isinstance(attempt(form, lambda: quotas.set_limit(actor=actor, **form.asked())), Failed):
            messages.success(request, _("The limit is set. It counts from now on."))
            return redirect("quotas", actor.tenant_slug)
    return _page(request, form)


@require_POST
@tenant_view(QUOTAS_MANAGE)
def remove_limit(request: TenantRequest) -> HttpResponse:
    actor, form = request.actor, limits.RemovalForm(request.POST)
    action, back = (reverse(name, args=[actor.tenant_slug]) for name in ("quota_remove", "quotas"))
    own = [row for row in selectors.limits(actor) if row.may_change]
    question = limits.removal(request, own, form, action=action, back=back)
    if not is_confirmed(request):
        return ask(request, question)
    quotas.remove_limit(actor=actor, **form.cleaned_data)
    messages.success(request, _("The limit is gone."))
    return redirect(back)


def _page(request: TenantRequest, form: LimitForm) -> HttpResponse:
    actor = request.actor
    found = selectors.limits(actor)
    may_change = actor.can(QUOTAS_MANAGE)
    rows = [limits.shown(row, may_change=may_change and row.may_change) for row in found]
    context = {
        "title": _("Quotas"),
        "sections": _sections(rows),
        "has_limits": bool(rows),
        "form": form,
        "offered": _offered() if may_change else [],
        "may_change": may_change,
    }
    return render(request, "administration/quotas.html", context, status=status_of(form))


def _sections(rows: list[limits.Shown]) -> list[Section]:
    words = {
        SubjectKind.TENANT: (_("Workspace"), _("What everybody here uses together.")),
        SubjectKind.GROUP: (
            _("Groups"),
            _("Shared by everybody in the group, those of groups below it included."),
        ),
        SubjectKind.MEMBER: (
            _("Members"),
            _(
                "Of each alone, in the chat and with personal keys. One’s own limit goes before that of every member."
            ),
        ),
        SubjectKind.KEY: (
            _("API keys"),
            _(
                "Of each alone. A key’s own limit goes before that of every key, and stays when it is rotated."
            ),
        ),
    }
    sections = [
        Section(title, lead, [row for row in rows if row.limit.subject_kind == kind])
        for kind, (title, lead) in words.items()
    ]
    return [section for section in sections if section.rows]


def _named(kind: str, who: str) -> UUID | None:
    """The id of the subject that somebody typed."""
    if not who or kind == SubjectKind.TENANT:
        return None
    found: UUID | None = None
    if kind == SubjectKind.GROUP:
        found = Group.objects.filter(name__iexact=who).values_list("pk", flat=True).first()
    elif kind == SubjectKind.MEMBER:
        found = Membership.objects.filter(user__email__iexact=who).values_list("user_id", flat=True).first()
    elif kind == SubjectKind.KEY:
        keys = ApiKey.objects.filter(name=who, revoked=None, successor_made=None)
        found = keys.values_list("pk", flat=True).first()
    if found is None:
        message = _("There is no “%(name)s” of this kind. Choose from the list, or type the whole name.")
        raise Refused("subject_unknown", message % {"name": who[:60]}, "who")
    return found


def _offered() -> list[tuple[str, str]]:
    """(value, what it is) of what the form suggests."""
    groups = Group.objects.order_by("-is_everyone", "name").values_list("name", flat=True)[:OFFERED_MOST]
    members = Membership.objects.order_by("user__email").values_list("user__email", flat=True)[:OFFERED_MOST]
    keys = ApiKey.objects.filter(revoked=None, successor_made=None).order_by("name")
    names = keys.values_list("name", flat=True)[:OFFERED_MOST]
    return [
        *((name, _("Group")) for name in groups),
        *((email, _("Member")) for email in members),
        *((name, _("API key")) for name in names),
    ]


def _csv(actor: Actor) -> HttpResponse:
    heading = [_("For"), _("Which"), _("Of what"), _("At most"), _("Used"), _("Set by the platform")]
    rows = []
    for row in selectors.limits(actor):
        shown = limits.shown(row, may_change=False)
        used = row.standing.used if row.standing else None
        kind = SubjectKind(row.limit.subject_kind).label
        by_platform = _("yes") if row.limit.is_ceiling else _("no")
        rows.append([kind, shown.subject, shown.metric, row.limit.value, used, by_platform])
    return csv_response(f"{actor.tenant_slug}-quotas", heading, rows)
