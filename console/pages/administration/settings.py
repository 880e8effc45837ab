"""What a tenant has chosen for itself: names, models, who may join and from where, its look; and closing it."""

from typing import Any

from django import forms
from django.conf import settings as product
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from audit.record import Keeping
from audit.retention import policies
from console import pictures
from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import Failed, PageForm, attempt, posted, status_of
from console.pages.closing import SlugForm, what_goes
from console.tenancy import TenantRequest, tenant_view
from inference.registry.models import Route
from tenants import lifecycle
from tenants.actors import Actor, NotVisible
from tenants.models import TenantSettings
from tenants.roles import ADMINISTRATION_VIEW, SETTINGS_MANAGE, TENANT_CLOSE

LOGO_PIXELS = 512
LOGO_KEPT_S = 365 * 24 * 3600


class ListField(forms.CharField):
    """Several values, one a line."""

    def __init__(self, **kwargs: Any) -> None:
        attributes = {"rows": 3, "spellcheck": "false", "placeholder": kwargs.pop("placeholder", "")}
        super().__init__(required=False, max_length=10_000, widget=forms.Textarea(attrs=attributes), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        lines = super().clean(value).replace(",", "\n").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed("\n".join(initial), (data or "").replace("\r\n", "\n"))


class SettingsForm(PageForm):
    """The fields are those of `tenants.lifecycle.update_settings`."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=120,
        help_text=gettext_lazy("As records and invitations say it."),
    )
    display_name = forms.CharField(
        label=gettext_lazy("Display name"),
        max_length=120,
        required=False,
        help_text=gettext_lazy("Stands above the sidebar in place of “Custos”."),
    )
    default_language = forms.ChoiceField(
        label=gettext_lazy("Language of e-mails"),
        required=False,
        choices=[("", gettext_lazy("As the product")), *product.LANGUAGES],
        help_text=gettext_lazy("People choose the language of their pages themselves."),
    )
    allowed_models = forms.MultipleChoiceField(
        label=gettext_lazy("Models allowed"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None ticked: all. Who may use which of them is set under Access."),
    )
    registration = forms.ChoiceField(
        label=gettext_lazy("Who may join"), choices=TenantSettings.Registration, widget=forms.RadioSelect
    )
    registration_domains = ListField(
        label=gettext_lazy("E-mail domains"),
        placeholder="company.example",
        help_text=gettext_lazy(
            "One a line. Whoever has such an address asks for a link by mail, at /join/ and this workspace’s short name."
        ),
    )
    networks = ListField(
        label=gettext_lazy("Networks"),
        placeholder="10.1.0.0/16",
        help_text=gettext_lazy(
            "One a line. People and keys from elsewhere find nothing here. Empty: from everywhere."
        ),
    )
    accent = forms.ChoiceField(
        label=gettext_lazy("Colour"), choices=TenantSettings.Accent, widget=forms.RadioSelect
    )

    def __init__(self, *args: Any, row: TenantSettings, name: str, **kwargs: Any) -> None:
        shown = [field for field in self.base_fields if field != "name"]
        initial = {"name": name, **{field: getattr(row, field) for field in shown}}
        super().__init__(*args, initial=initial, **kwargs)
        field = self.fields["allowed_models"]
        assert isinstance(field, forms.ChoiceField)
        routes = {route.name: f"{route.label} ({route.name})" for route in Route.objects.order_by("name")}
        gone = {name: _("%(name)s (no such model now)") % {"name": name} for name in row.allowed_models}
        field.choices = list((gone | routes).items())

    def changes(self) -> dict[str, Any]:
        """Only what was changed: what somebody else saved meanwhile stays."""
        return {name: self.cleaned_data[name] for name in self.changed_data}


class LogoForm(PageForm):
    picture = forms.FileField(
        label=gettext_lazy("Logo"),
        allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": "image/png,image/jpeg,image/webp"}),
        help_text=gettext_lazy("PNG, JPEG or WebP, at most 1 MB. It is shown 28 pixels high."),
    )


SECTIONS: tuple[tuple[str | Promise, tuple[str, ...]], ...] = (
    (gettext_lazy("Names and language"), ("name", "display_name", "default_language")),
    (gettext_lazy("Models"), ("allowed_models",)),
    (gettext_lazy("Joining and networks"), ("registration", "registration_domains", "networks")),
)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def page(request: TenantRequest) -> HttpResponse:
    actor = request.actor
    row = _settings(actor)
    if request.method == "POST" and not actor.can(SETTINGS_MANAGE):
        raise NotVisible(SETTINGS_MANAGE)
    data, _files = posted(request)
    form = SettingsForm(data, row=row, name=actor.tenant_name)
    if form.is_bound and form.is_valid():
        saved = attempt(form, lambda: lifecycle.update_settings(actor=actor, **form.changes()))
        if not isinstance(saved, Failed):
            messages.success(request, _("Saved."))
            return redirect("settings", actor.tenant_slug)
    return _page(request, row, form, LogoForm())


@require_POST
@tenant_view(SETTINGS_MANAGE)
def logo(request: TenantRequest) -> HttpResponse:
    """POST picture=…, or remove=…"""
    actor, row = request.actor, _settings(request.actor)
    if "remove" in request.POST:
        lifecycle.set_logo(actor=actor, logo=None)
        messages.success(request, _("The logo is gone."))
        return redirect("settings", actor.tenant_slug)
    form = LogoForm(*posted(request))
    if form.is_valid():
        upload = form.cleaned_data["picture"]

        def take() -> None:
            drawn = pictures.redrawn(pictures.read(upload), pixels=LOGO_PIXELS, shape="whole")
            lifecycle.set_logo(actor=actor, logo=drawn)

        if not isinstance(attempt(form, take), Failed):
            messages.success(request, _("The logo is changed."))
            return redirect("settings", actor.tenant_slug)
    return _page(request, row, SettingsForm(row=row, name=actor.tenant_name), form)


@require_safe
@tenant_view()
def logo_picture(request: TenantRequest) -> HttpResponse:
    """The logo, for everybody in the tenant. Its address has a version, so browsers keep what they have."""
    picture = lifecycle.settings_of(request.actor).logo
    if picture is None:
        raise NotVisible("logo")
    response = HttpResponse(bytes(picture), content_type="image/webp")
    response.headers["Cache-Control"] = f"private, max-age={LOGO_KEPT_S}, immutable"
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(TENANT_CLOSE)
def archive(request: TenantRequest) -> HttpResponse:
    actor = request.actor
    form = SlugForm(request.POST if is_confirmed(request) else None, slug=actor.tenant_slug)
    if form.is_bound and form.is_valid():
        done = attempt(form, lambda: lifecycle.archive(actor=actor))
        if not isinstance(done, Failed):
            return _closed(request, _("It is archived. A platform administrator can resume it."))
    question = Question(
        title=_("Archive %(name)s?") % {"name": actor.tenant_name},
        text=_(
            "It closes within a second for everybody, you included: nobody signs in to it, and its API keys are "
            "refused. Everything is kept; a platform administrator can resume it."
        ),
        button=_("Archive"),
        action=reverse("archive_tenant", args=[actor.tenant_slug]),
        back=reverse("settings", args=[actor.tenant_slug]),
        form=form,
    )
    return ask(request, question)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(TENANT_CLOSE)
def delete(request: TenantRequest) -> HttpResponse:
    actor, days = request.actor, {"days": lifecycle.GRACE.days}
    form = SlugForm(request.POST if is_confirmed(request) else None, slug=actor.tenant_slug)
    if form.is_bound and form.is_valid():
        typed = form.cleaned_data["confirm_slug"]
        done = attempt(form, lambda: lifecycle.request_deletion(actor=actor, confirm_slug=typed))
        if not isinstance(done, Failed):
            words = _(
                "It is closed, and destroyed in %(days)d days. Until then a platform administrator can cancel."
            )
            return _closed(request, words % days)
    question = Question(
        title=_("Delete %(name)s?") % {"name": actor.tenant_name},
        text=_(
            "It closes within a second for everybody, you included. After %(days)d days all this is destroyed, and "
            "nobody can bring it back; until then a platform administrator can cancel."
        )
        % days,
        names=what_goes(),
        button=_("Delete the workspace"),
        action=reverse("delete_tenant", args=[actor.tenant_slug]),
        back=reverse("settings", args=[actor.tenant_slug]),
        form=form,
    )
    return ask(request, question)


def _page(
    request: TenantRequest, row: TenantSettings, form: SettingsForm, logo_form: LogoForm
) -> HttpResponse:
    actor = request.actor
    sections = [(label, [form[name] for name in names]) for label, names in SECTIONS]
    context = {
        "title": _("Settings"),
        "form": form,
        "sections": sections,
        "logo_form": logo_form,
        "has_logo": row.logo is not None,
        "mfa_required": row.mfa_required,
        "may_change": actor.can(SETTINGS_MANAGE),
        "may_close": actor.can(TENANT_CLOSE),
        "address": actor.address,
        "retention": policies.in_force(actor.tenant_id)[Keeping.REQUESTS],
    }
    status = max(status_of(form), status_of(logo_form))
    return render(request, "administration/settings.html", context, status=status)


def _settings(actor: Actor) -> TenantSettings:
    if not any(actor.can(each) for each in (ADMINISTRATION_VIEW, SETTINGS_MANAGE, TENANT_CLOSE)):
        raise NotVisible(ADMINISTRATION_VIEW)
    return lifecycle.settings_of(actor)


def _closed(request: HttpRequest, words: str) -> HttpResponse:
    """The last page of a tenant: those that could tell it are closed now."""
    return render(request, "administration/closed.html", {"words": words})
