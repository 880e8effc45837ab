"""Tenants as the platform's administrators see them: names, states, numbers and ceilings. Never content."""

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console import mail
from console.founding import found_tenant
from console.pages import limits
from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import Failed, PageForm, attempt, posted, status_of
from console.pages.closing import SlugForm, what_goes
from console.pages.labels import State
from console.pages.listing import Column, Listing, csv_response
from console.pages.navigation import person
from console.tenancy import platform_tenant_view, platform_view
from tenants import lifecycle, people
from tenants.actors import Actor, NotVisible
from tenants.models import ApiKey, Invitation, Membership, Tenant
from tenants.quotas import selectors
from tenants.quotas import services as quotas
from tenants.quotas.models import StorageUse, SubjectKind
from tenants.roles import Role
from tenants.scope import tenant_scope
from tenants.words import search_words

FRAME = "platform/base.html"
COLUMNS = (
    Column("name", gettext_lazy("Name"), ("name",)),
    Column("slug", gettext_lazy("Address"), ("slug",)),
    Column("status", gettext_lazy("Status"), ("status", "name")),
    Column("members", gettext_lazy("Members"), number=True),
    Column("storage", gettext_lazy("Storage"), number=True),
    Column("created", gettext_lazy("Since"), ("created",)),
)
LOOKS = {
    Tenant.Status.ACTIVE: State("ok", "s-ok", Tenant.Status.ACTIVE.label),
    Tenant.Status.SUSPENDED: State("warn", "s-stop", Tenant.Status.SUSPENDED.label),
    Tenant.Status.ARCHIVED: State("", "s-off", Tenant.Status.ARCHIVED.label),
    Tenant.Status.DELETING: State("bad", "s-time", Tenant.Status.DELETING.label),
    Tenant.Status.DELETED: State("", "s-no", Tenant.Status.DELETED.label),
}


class Turn(NamedTuple):
    """A change of a tenant's state. The words have a place for its %(name)s."""

    service: Callable[..., Tenant]
    title: str | Promise
    text: str | Promise
    button: str | Promise
    done: str | Promise
    is_danger: bool = False


TURNS = {
    "suspend": Turn(
        lifecycle.suspend,
        gettext_lazy("Suspend %(name)s?"),
        gettext_lazy(
            "Its people are shut out and its API keys refused within a second, in the middle of answers. "
            "Everything is kept, and comes back when it is resumed."
        ),
        gettext_lazy("Suspend"),
        gettext_lazy("%(name)s is suspended."),
        is_danger=True,
    ),
    "resume": Turn(
        lifecycle.resume,
        gettext_lazy("Resume %(name)s?"),
        gettext_lazy("Its people can sign in again and its API keys work again."),
        gettext_lazy("Resume"),
        gettext_lazy("%(name)s works again."),
    ),
    "archive": Turn(
        lifecycle.archive,
        gettext_lazy("Archive %(name)s?"),
        gettext_lazy(
            "It is closed for good and kept: nobody enters, nothing runs. A platform administrator can resume it."
        ),
        gettext_lazy("Archive"),
        gettext_lazy("%(name)s is archived."),
        is_danger=True,
    ),
    "keep": Turn(
        lifecycle.cancel_deletion,
        gettext_lazy("Keep %(name)s?"),
        gettext_lazy("It is not deleted. It stays closed, archived, until it is resumed."),
        gettext_lazy("Cancel the deletion"),
        gettext_lazy("%(name)s is kept, archived."),
    ),
}
POSSIBLE: dict[str, tuple[str, ...]] = {
    Tenant.Status.ACTIVE: ("suspend", "archive"),
    Tenant.Status.SUSPENDED: ("resume", "archive"),
    Tenant.Status.ARCHIVED: ("resume",),
    Tenant.Status.DELETING: ("keep",),
    Tenant.Status.DELETED: (),
}


class Figures(NamedTuple):
    """What is counted of a tenant. stored: bytes."""

    members: int
    owners: int
    keys: int
    stored: int


class TenantForm(PageForm):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=120)
    slug = forms.CharField(
        label=gettext_lazy("Short name"),
        max_length=50,
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "none"}),
        help_text=gettext_lazy(
            "For addresses: /t/short-name/. Small letters, digits and single hyphens; it stays as it is."
        ),
    )
    owner_email = forms.EmailField(
        label=gettext_lazy("The first owner’s e-mail address"),
        max_length=254,
        help_text=gettext_lazy("They are invited, and set everything else up themselves."),
    )


class OwnerForm(PageForm):
    email = forms.EmailField(label=gettext_lazy("E-mail address"), max_length=254)


@require_safe
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    found = Tenant.objects.order_by("name")
    for word in search_words(request.GET.get("q", "")):
        found = found.filter(Q(name__icontains=word) | Q(slug__icontains=word))
    status = request.GET.get("status", "")
    if status in Tenant.Status.values:
        found = found.filter(status=status)
    listing = Listing(request, found, COLUMNS, kept=("status",))
    if request.GET.get("format") == "csv":
        return _csv(listing)
    context = {
        "title": _("Tenants"),
        "listing": listing,
        "rows": [
            (tenant, figures_of(tenant), LOOKS[Tenant.Status(tenant.status)]) for tenant in listing.page
        ],
        "statuses": [("", _("Any")), *Tenant.Status.choices],
        "status": status,
    }
    return render(request, "platform/tenants.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def create(request: HttpRequest) -> HttpResponse:
    form = TenantForm(*posted(request))
    if form.is_bound and form.is_valid():
        asked = {
            **form.cleaned_data,
            "user": person(request),
            "address": request.META.get("REMOTE_ADDR") or "",
        }
        founded = attempt(form, lambda: found_tenant(**asked))
        if not isinstance(founded, Failed):
            tenant, invitation, token = founded
            with tenant_scope(tenant.pk):
                return _invited(request, tenant, invitation, token, title=_("The tenant is founded"))
    context = {"title": _("New tenant"), "form": form}
    return render(request, "platform/tenant_new.html", context, status=status_of(form))


@require_safe
@platform_tenant_view
def one(request: HttpRequest, tenant: Tenant, actor: Actor) -> HttpResponse:
    return _page_of(request, tenant, actor)


@require_http_methods(["GET", "HEAD", "POST"])
@platform_tenant_view
def turn(request: HttpRequest, tenant: Tenant, actor: Actor, action: str) -> HttpResponse:
    """Suspend, resume, archive, cancel the deletion: each after a question."""
    if action not in TURNS:
        raise NotVisible(action)
    wanted = TURNS[action]
    known = {"name": tenant.name}
    form = PageForm(request.POST if is_confirmed(request) else None)
    if form.is_bound:
        if isinstance(attempt(form, lambda: wanted.service(actor=actor)), Failed):
            messages.error(request, " ".join(map(str, form.non_field_errors())))
        else:
            messages.success(request, str(wanted.done) % known)
        return redirect("platform_tenant", tenant.slug)
    question = Question(
        title=str(wanted.title) % known,
        text=str(wanted.text),
        button=str(wanted.button),
        action=reverse("platform_tenant_turn", args=[tenant.slug, action]),
        back=reverse("platform_tenant", args=[tenant.slug]),
        is_danger=wanted.is_danger,
    )
    return ask(request, question, frame=FRAME)


@require_http_methods(["GET", "HEAD", "POST"])
@platform_tenant_view
def delete(request: HttpRequest, tenant: Tenant, actor: Actor) -> HttpResponse:
    form = SlugForm(request.POST if is_confirmed(request) else None, slug=tenant.slug)
    if form.is_bound and form.is_valid():
        typed = form.cleaned_data["confirm_slug"]
        done = attempt(form, lambda: lifecycle.request_deletion(actor=actor, confirm_slug=typed))
        if not isinstance(done, Failed):
            messages.success(request, _("%(name)s is being deleted.") % {"name": tenant.name})
            return redirect("platform_tenant", tenant.slug)
    question = Question(
        title=_("Delete %(name)s?") % {"name": tenant.name},
        text=_(
            "It closes now. After %(days)d days all this is destroyed, and nobody can bring it back; until then a "
            "platform administrator can cancel."
        )
        % {"days": lifecycle.GRACE.days},
        names=what_goes(),
        button=_("Delete the tenant"),
        action=reverse("platform_tenant_delete", args=[tenant.slug]),
        back=reverse("platform_tenant", args=[tenant.slug]),
        form=form,
    )
    return ask(request, question, frame=FRAME)


@require_POST
@platform_tenant_view
def invite_owner(request: HttpRequest, tenant: Tenant, actor: Actor) -> HttpResponse:
    form = OwnerForm(request.POST)
    if form.is_valid():
        email = form.cleaned_data["email"]
        made = attempt(form, lambda: people.invite(actor=actor, email=email, role=Role.OWNER))
        if not isinstance(made, Failed):
            return _invited(request, tenant, *made, title=_("The owner is invited"))
    return _page_of(request, tenant, actor, owner_form=form)


@require_POST
@platform_tenant_view
def revoke_owner(request: HttpRequest, tenant: Tenant, actor: Actor, invitation_id: UUID) -> HttpResponse:
    """Take back the invitation of an owner; of other roles the tenant's own people decide."""
    people.revoke_invitation(actor=actor, invitation_id=invitation_id)
    messages.success(request, _("The invitation was taken back; its link leads nowhere now."))
    return redirect("platform_tenant", tenant.slug)


@require_POST
@platform_tenant_view
def set_ceiling(request: HttpRequest, tenant: Tenant, actor: Actor) -> HttpResponse:
    form = limits.CeilingForm(request.POST)
    if form.is_valid():
        asked = {**form.cleaned_data, "subject_kind": SubjectKind.TENANT, "subject_id": None}
        done = attempt(form, lambda: quotas.set_limit(actor=actor, **asked))
        if not isinstance(done, Failed):
            messages.success(request, _("The ceiling is set."))
            return redirect("platform_tenant", tenant.slug)
    return _page_of(request, tenant, actor, ceiling_form=form)


@require_POST
@platform_tenant_view
def remove_ceiling(request: HttpRequest, tenant: Tenant, actor: Actor) -> HttpResponse:
    form, back = limits.RemovalForm(request.POST), reverse("platform_tenant", args=[tenant.slug])
    action = reverse("platform_ceiling_remove", args=[tenant.slug])
    question = limits.removal(request, selectors.limits(actor), form, action=action, back=back)
    if not is_confirmed(request):
        return ask(request, question, frame=FRAME)
    quotas.remove_limit(actor=actor, **form.cleaned_data)
    messages.success(request, _("The ceiling is gone."))
    return redirect(back)


def figures_of(tenant: Tenant) -> Figures:
    """Opens the tenant's scope: no query reaches over several tenants."""
    with tenant_scope(tenant.pk):
        active = Membership.objects.filter(disabled=None)
        return Figures(
            members=active.count(),
            owners=active.filter(role=Role.OWNER).count(),
            keys=ApiKey.objects.filter(revoked=None).count(),
            stored=StorageUse.objects.aggregate(stored=Sum("stored"))["stored"] or 0,
        )


def _page_of(
    request: HttpRequest,
    tenant: Tenant,
    actor: Actor,
    *,
    owner_form: OwnerForm | None = None,
    ceiling_form: limits.CeilingForm | None = None,
) -> HttpResponse:
    forms_shown = (owner_form or OwnerForm(), ceiling_form or limits.CeilingForm())
    status = Tenant.Status(tenant.status)
    may_change = status != Tenant.Status.DELETED
    figures, invitations = figures_of(tenant), list(_owner_invitations())
    is_waiting = any(invitation.is_open for invitation in invitations)
    context = {
        "title": tenant.name,
        "tenant": tenant,
        "look": LOOKS[status],
        "figures": figures,
        "owner_invitations": [] if figures.owners else invitations,
        "may_invite": status == Tenant.Status.ACTIVE and not figures.owners and not is_waiting,
        "owner_form": forms_shown[0],
        "ceiling_form": forms_shown[1],
        "ceilings": [limits.shown(row, may_change=may_change) for row in selectors.limits(actor)],
        "may_change": may_change,
        "turns": [(action, TURNS[action]) for action in POSSIBLE[status]],
        "may_delete": status not in (Tenant.Status.DELETING, Tenant.Status.DELETED),
    }
    code = max(status_of(form) for form in forms_shown)
    return render(request, "platform/tenant.html", context, status=code)


def _invited(
    request: HttpRequest, tenant: Tenant, invitation: Invitation, token: str, *, title: str
) -> HttpResponse:
    """The page that shows the invitation's link, this once."""
    origin = request.build_absolute_uri("/").rstrip("/")
    context = {
        "title": title,
        "tenant": tenant,
        "invitation": invitation,
        "link": mail.invitation_link(invitation, token, origin=origin),
        "is_mailed": mail.send_invitation(invitation, token, origin=origin),
    }
    return render(request, "platform/invited.html", context)


def _owner_invitations() -> QuerySet[Invitation]:
    return Invitation.objects.filter(role=Role.OWNER, accepted=None, revoked=None).order_by("-pk")


def _csv(listing: Listing) -> HttpResponse:
    heading = [_("Name"), _("Short name"), _("Status"), _("Members"), _("Storage in bytes"), _("Since")]
    rows = []
    for tenant in listing.rows:
        figures = figures_of(tenant)
        status = tenant.get_status_display()
        rows.append(
            [tenant.name, tenant.slug, status, figures.members, figures.stored, tenant.created.isoformat()]
        )
    return csv_response("tenants", heading, rows)
