"""Service accounts: programs that act for themselves, with a role and keys of their own."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import Failed, PageForm, attempt, posted, status_of
from console.pages.administration.keys import rows_of
from console.pages.listing import Column, Listing, csv_response
from console.tenancy import TenantRequest, tenant_view
from tenants import clock, keys
from tenants.actors import Actor, NotVisible
from tenants.custom_roles import roles
from tenants.models import ServiceAccount
from tenants.roles import KEYS_MANAGE, PEOPLE_APPOINT, Duty, Role, duties_of
from tenants.words import search_words

COLUMNS = (
    Column("name", gettext_lazy("Name"), ("name",)),
    Column("role", gettext_lazy("Role"), ("role",)),
    Column("keys", gettext_lazy("Valid keys"), ("valid_keys",), number=True),
    Column("created", gettext_lazy("Made"), ("created",)),
    Column("state", gettext_lazy("State")),
)


class AccountForm(PageForm):
    """A service account. `name` is given once: records name programs by it."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=120,
        help_text=gettext_lazy("What the program is called in records. It cannot be changed later."),
    )
    description = forms.CharField(label=gettext_lazy("Description"), max_length=500, required=False)
    role = forms.ChoiceField(
        label=gettext_lazy("Role"),
        help_text=gettext_lazy("What its keys may do at most; their scopes narrow it."),
    )

    def __init__(self, *args: Any, is_new: bool, roles: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_new:
            del self.fields["name"]
        field = self.fields["role"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = list(roles.items())


@require_safe
@tenant_view()
def page(request: TenantRequest) -> HttpResponse:
    actor = request.actor
    valid = Q(keys__revoked=None) & (Q(keys__expires=None) | Q(keys__expires__gt=clock.now()))
    found = keys.service_accounts(actor).annotate(valid_keys=Count("keys", filter=valid))
    for word in search_words(request.GET.get("q", "")):
        found = found.filter(Q(name__icontains=word) | Q(description__icontains=word))
    listing = Listing(request, found, COLUMNS)
    names = _role_names()
    if request.GET.get("format") == "csv":
        return _csv(actor, listing, names)
    for account in listing.page:
        account.role_name = names.get(account.role, account.role)
    context = {
        "title": _("Service accounts"),
        "listing": listing,
        "may_change": actor.can(KEYS_MANAGE),
    }
    return render(request, "administration/service_accounts.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(KEYS_MANAGE)
def create(request: TenantRequest) -> HttpResponse:
    actor = request.actor
    form = AccountForm(
        *posted(request), is_new=True, roles=_given_roles(actor), initial={"role": Role.MEMBER}
    )
    if form.is_bound and form.is_valid():
        made = attempt(form, lambda: keys.create_service_account(actor=actor, **form.cleaned_data))
        if not isinstance(made, Failed):
            messages.success(request, _("“%(name)s” is there. Give it a key.") % {"name": made.name})
            return redirect("service_account", actor.tenant_slug, made.pk)
    context = {"title": _("New service account"), "form": form}
    return render(request, "administration/service_account_new.html", context, status=status_of(form))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def one(request: TenantRequest, account_id: UUID) -> HttpResponse:
    actor, account = request.actor, _visible(request.actor, account_id)
    given = _given_roles(actor)
    may_change = actor.can(KEYS_MANAGE) and account.role in given
    if request.method == "POST" and not may_change:
        raise NotVisible(KEYS_MANAGE)
    initial = {"description": account.description, "role": account.role}
    form = AccountForm(*posted(request), is_new=False, roles=given, initial=initial)
    if form.is_bound and form.is_valid():
        changed = attempt(
            form,
            lambda: keys.update_service_account(actor=actor, account_id=account_id, **form.cleaned_data),
        )
        if not isinstance(changed, Failed):
            messages.success(request, _("Saved."))
            return redirect("service_account", actor.tenant_slug, account_id)
    context = {
        "title": account.name,
        "account": account,
        "role_name": _role_names().get(account.role, account.role),
        "form": form,
        "rows": rows_of(actor, list(keys.keys(actor).filter(service_account=account))),
        "may_change": may_change,
        "may_manage": actor.can(KEYS_MANAGE),
    }
    return render(request, "administration/service_account.html", context, status=status_of(form))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(KEYS_MANAGE)
def disable(request: TenantRequest, account_id: UUID) -> HttpResponse:
    actor, account = request.actor, _visible(request.actor, account_id)
    back = reverse("service_account", args=[actor.tenant_slug, account_id])
    if is_confirmed(request):
        keys.set_service_account_enabled(actor=actor, account_id=account_id, enabled=False)
        messages.success(request, _("“%(name)s” is disabled.") % {"name": account.name})
        return redirect(back)
    of_account = keys.keys(actor).filter(service_account=account)
    question = Question(
        title=_("Disable “%(name)s”?") % {"name": account.name},
        text=_(
            "Its keys stop working within a second, in the middle of an answer, until it is enabled again."
        ),
        names=[key.name for key in of_account if key.is_valid],
        button=_("Disable"),
        action=reverse("service_account_disable", args=[actor.tenant_slug, account_id]),
        back=back,
    )
    return ask(request, question)


@require_http_methods(["POST"])
@tenant_view(KEYS_MANAGE)
def enable(request: TenantRequest, account_id: UUID) -> HttpResponse:
    actor, account = request.actor, _visible(request.actor, account_id)
    form = PageForm({})
    done = attempt(
        form, lambda: keys.set_service_account_enabled(actor=actor, account_id=account_id, enabled=True)
    )
    if isinstance(done, Failed):
        messages.error(request, " ".join(map(str, form.non_field_errors())))
    else:
        messages.success(request, _("“%(name)s” is enabled.") % {"name": account.name})
    return redirect("service_account", actor.tenant_slug, account_id)


def _visible(actor: Actor, account_id: UUID) -> ServiceAccount:
    account = keys.service_accounts(actor).filter(pk=account_id).first()
    if account is None:
        raise NotVisible("service account")
    return account


def _given_roles(actor: Actor) -> dict[str, str]:
    """Those that the actor gives to programs: without a duty, or for owners with any but that of reading content."""
    given = {}
    for code, name, permissions in roles():
        duties = duties_of(permissions)
        if not duties or (actor.can(PEOPLE_APPOINT) and Duty.REVIEW not in duties):
            given[code] = name
    return given


def _role_names() -> dict[str, str]:
    return {code: name for code, name, _permissions in roles()}


def _csv(actor: Actor, listing: Listing, names: dict[str, str]) -> HttpResponse:
    heading = [_("Name"), _("Description"), _("Role"), _("Valid keys"), _("Made"), _("Disabled")]
    rows = [
        [
            account.name,
            account.description,
            names.get(account.role, account.role),
            account.valid_keys,
            account.created.isoformat(),
            account.disabled.isoformat() if account.disabled else "",
        ]
        for account in listing.rows
    ]
    return csv_response(f"{actor.tenant_slug}-service-accounts", heading, rows)
