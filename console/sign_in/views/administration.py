"""How people sign in to a tenant, for its administrators: `/t/<slug>/administration/sign-in/`."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.pages import labels
from console.sign_in import services
from console.sign_in.models import IdentityProvider
from console.tenancy import TenantRequest, tenant_view
from tenants.actors import Actor
from tenants.errors import Refused
from tenants.roles import ADMINISTRATION_VIEW, PEOPLE_APPOINT, SIGN_IN_MANAGE


class ProviderForm(forms.Form):
    """An identity provider as its administrator writes it down. `is_new`: it has no short name yet."""

    slug = forms.CharField(label=gettext_lazy("Short name"), max_length=50)
    name = forms.CharField(label=gettext_lazy("Name"), max_length=120)
    issuer = forms.CharField(label=gettext_lazy("Issuer"), max_length=500)
    client_id = forms.CharField(label=gettext_lazy("Client ID"), max_length=255)
    client_secret = forms.CharField(
        label=gettext_lazy("Client secret"), max_length=1000, required=False, strip=False
    )
    domains = forms.CharField(label=gettext_lazy("E-mail domains"), max_length=5000)
    default_role = forms.ChoiceField(label=gettext_lazy("Role of new people"))
    just_in_time = forms.BooleanField(
        label=gettext_lazy("Let in people who were not invited"), required=False
    )
    vouches_for_duties = forms.BooleanField(
        label=gettext_lazy("Vouch for administrators and reviewers too"), required=False
    )
    enabled = forms.BooleanField(label=gettext_lazy("Enabled"), required=False)

    def __init__(self, *args: Any, actor: Actor, is_new: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_new:
            del self.fields["slug"]
        if not actor.can(PEOPLE_APPOINT):
            del self.fields["vouches_for_duties"]
        choices = [(role, labels.role(role)) for role in services.default_roles()]
        self.fields["default_role"] = forms.ChoiceField(
            label=self.fields["default_role"].label, choices=choices
        )

    def clean_domains(self) -> list[str]:
        return self.cleaned_data["domains"].replace(",", " ").split()


@require_safe
@tenant_view(ADMINISTRATION_VIEW)
def page(request: TenantRequest) -> HttpResponse:
    context = {
        "title": _("Sign-in"),
        "providers": services.providers(request.actor),
        "is_required": services.is_second_factor_required(request.actor),
        "may_change": request.actor.can(SIGN_IN_MANAGE),
        "sign_in_url": request.build_absolute_uri(reverse("sso_tenant", args=[request.actor.tenant_slug])),
    }
    return render(request, "sign_in/administration.html", context)


@require_POST
@tenant_view(SIGN_IN_MANAGE)
def second_factor(request: TenantRequest) -> HttpResponse:
    services.require_second_factor(actor=request.actor, required=request.POST.get("required") == "yes")
    messages.success(request, _("Saved."))
    return _back(request)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(SIGN_IN_MANAGE)
def add(request: TenantRequest) -> HttpResponse:
    initial = {"enabled": True, "default_role": "member"}
    data = request.POST if request.method == "POST" else None
    form = ProviderForm(data, actor=request.actor, is_new=True, initial=initial)
    if form.is_bound and form.is_valid():
        try:
            row = services.create_provider(actor=request.actor, **form.cleaned_data)
            messages.success(request, _("%(name)s is set up.") % {"name": row.name})
            return _back(request)
        except Refused as refused:
            form.add_error(refused.field if refused.field in form.fields else None, refused.message)
    return _form(request, form, None)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(SIGN_IN_MANAGE)
def edit(request: TenantRequest, provider_id: UUID) -> HttpResponse:
    row = services.provider(request.actor, provider_id)
    shown = (
        *("name", "issuer", "client_id", "default_role"),
        *("just_in_time", "vouches_for_duties", "enabled"),
    )
    initial = {**{field: getattr(row, field) for field in shown}, "domains": " ".join(row.domains)}
    data = request.POST if request.method == "POST" else None
    form = ProviderForm(data, actor=request.actor, is_new=False, initial=initial)
    if form.is_bound and form.is_valid():
        changes = dict(form.cleaned_data)
        if not changes["client_secret"]:
            del changes["client_secret"]  # left empty: as it was
        try:
            services.update_provider(actor=request.actor, provider_id=provider_id, **changes)
            messages.success(request, _("Saved."))
            return _back(request)
        except Refused as refused:
            form.add_error(refused.field if refused.field in form.fields else None, refused.message)
    return _form(request, form, row)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(SIGN_IN_MANAGE)
def delete(request: TenantRequest, provider_id: UUID) -> HttpResponse:
    row = services.provider(request.actor, provider_id)
    if request.method == "POST":
        services.delete_provider(actor=request.actor, provider_id=provider_id)
        messages.success(request, _("%(name)s is removed.") % {"name": row.name})
        return _back(request)
    title = _("Remove “%(name)s”?") % {"name": row.name}
    return render(request, "sign_in/provider_delete.html", {"title": title, "provider": row})


@require_POST
@tenant_view(SIGN_IN_MANAGE)
def test(request: TenantRequest, provider_id: UUID) -> HttpResponse:
    try:
        found = services.test_connection(actor=request.actor, provider_id=provider_id)
        messages.success(request, _("%(issuer)s answers as it should.") % {"issuer": found.issuer})
    except Refused as refused:
        messages.error(request, refused.message)
    return _back(request)


def _form(request: TenantRequest, form: ProviderForm, row: IdentityProvider | None) -> HttpResponse:
    slug = row.slug if row else "SHORT-NAME"
    callback = request.build_absolute_uri(reverse("sso_callback", args=[request.actor.tenant_slug, slug]))
    title = row.name if row else _("Add an identity provider")
    context = {"title": title, "form": form, "provider": row, "callback": callback}
    return render(request, "sign_in/provider.html", context, status=422 if form.errors else 200)


def _back(request: TenantRequest) -> HttpResponse:
    return redirect("sign_in_administration", request.actor.tenant_slug)
