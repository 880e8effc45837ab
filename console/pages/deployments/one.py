"""A deployment: its instances, what failed and why, what it was deployed with, and what can be done with it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import Failed, PageForm, attempt
from console.pages.deployments import words
from console.pages.deployments.new import SettingsForm
from console.pages.models.words import acting
from console.tenancy import platform_view
from inference.deployments import capacity, selectors, services
from inference.registry.models import Deployment
from tenants.actors import NotVisible

Kind = Deployment.Kind
Wanted = Deployment.Wanted


class ScaleForm(PageForm):
    replicas = forms.IntegerField(label=gettext_lazy("Instances"))


class KeyForm(PageForm):
    key = forms.CharField(
        label=gettext_lazy("Key"),
        max_length=services.MOST_KEY,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}, render_value=False),
        help_text=gettext_lazy("Takes the place of the one there is. Empty: none."),
    )


@require_safe
@platform_view
def page(request: HttpRequest, deployment_id: UUID) -> HttpResponse:
    return _page(request, selectors.deployment_by_id(deployment_id))


@require_safe
@platform_view
def state(request: HttpRequest, deployment_id: UUID) -> HttpResponse:
    """What of the page changes by itself."""
    return render(request, "deployments/one_state.html", _state(selectors.deployment_by_id(deployment_id)))


@require_POST
@platform_view
def configure(request: HttpRequest, deployment_id: UUID) -> HttpResponse:
    form = SettingsForm(request.POST)
    if form.is_valid():
        asked = form.cleaned_data
        done = attempt(
            form, lambda: services.configure(by=acting(request), deployment_id=deployment_id, **asked)
        )
        if not isinstance(done, Failed):
            messages.success(request, _("Saved."))
            return redirect("deployment", deployment_id)
    return _page(request, selectors.deployment_by_id(deployment_id), form, status=422)


@require_POST
@platform_view
def set_key(request: HttpRequest, deployment_id: UUID) -> HttpResponse:
    form = KeyForm(request.POST)
    if form.is_valid():
        asked = form.cleaned_data
        done = attempt(
            form, lambda: services.set_key(by=acting(request), deployment_id=deployment_id, **asked)
        )
        if not isinstance(done, Failed):
            messages.success(request, _("Saved."))
            return redirect("deployment", deployment_id)
    return _page(request, selectors.deployment_by_id(deployment_id), key_form=form, status=422)


@require_POST
@platform_view
def try_it(request: HttpRequest, deployment_id: UUID) -> HttpResponse:
    """Ask an upstream now how it is and what it serves."""
    form = PageForm(request.POST)
    found = attempt(form, lambda: services.try_deployed(by=acting(request), deployment_id=deployment_id))
    if isinstance(found, Failed):
        messages.error(request, " ".join(map(str, form.non_field_errors())))
    elif found.state != "ready":
        messages.error(request, _("It does not answer: %(detail)s") % {"detail": found.detail})
    else:
        count = len(found.models)
        words_of = ngettext(
            "It answers, and has %(count)d model: %(models)s",
            "It answers, and has %(count)d models: %(models)s",
            count,
        )
        messages.success(request, words_of % {"count": count, "models": ", ".join(found.models[:20])})
    return redirect("deployment", deployment_id)


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def turn(request: HttpRequest, deployment_id: UUID, action: str) -> HttpResponse:
    if action not in words.TURNS:
        raise NotVisible(action)
    deployment, words_of = selectors.deployment_by_id(deployment_id), words.TURNS[action]
    sent = request.POST if is_confirmed(request) else None
    form = ScaleForm(sent, initial={"replicas": deployment.replicas}) if action == "scale" else PageForm(sent)
    services_of: dict[str, Callable[..., Deployment]] = {
        "start": services.start,
        "stop": services.stop,
        "drain": services.drain,
        "restart": services.restart,
        "scale": services.scale,
    }
    if form.is_bound and form.is_valid():
        asked = form.cleaned_data
        done = attempt(
            form, lambda: services_of[action](by=acting(request), deployment_id=deployment_id, **asked)
        )
        if not isinstance(done, Failed):
            messages.success(request, str(words_of.done))
            return redirect("deployment", deployment_id)
    question = Question(
        title=str(words_of.title) % {"name": deployment.name},
        text=str(words_of.text),
        button=str(words_of.button),
        action=reverse("deployment_turn", args=[deployment_id, action]),
        back=reverse("deployment", args=[deployment_id]),
        names=[
            f"{tenant}: {', '.join(names)}"
            for tenant, names in selectors.routes_by_deployment().get(deployment_id, [])
            if words_of.is_danger
        ],
        form=form,
        is_danger=words_of.is_danger,
    )
    return ask(request, question, frame=words.FRAME)


def _page(
    request: HttpRequest,
    deployment: Deployment,
    form: SettingsForm | None = None,
    *,
    key_form: KeyForm | None = None,
    status: int = 200,
) -> HttpResponse:
    fields = ("max_context", "kv_memory_mb", "max_running", "speculation", "keep_warm")
    initial = {field: getattr(deployment, field) for field in fields}
    context = {
        "title": deployment.name,
        "form": form or SettingsForm(initial=initial),
        "key_form": key_form or KeyForm(),
        "routes": selectors.routes_by_deployment().get(deployment.pk, []),
        "context": deployment.max_context or deployment.version.context_tokens,
        "needed": capacity.needed_mb(deployment) if deployment.kind == Kind.MANAGED else None,
        **_state(deployment),
    }
    return render(request, "deployments/one.html", context, status=status)


def _state(deployment: Deployment) -> dict[str, Any]:
    standing = selectors.standing_of(deployment)
    return {
        "deployment": deployment,
        "standing": standing,
        "look": words.STATES[standing.state],
        "trouble": words.trouble(standing.trouble, standing.trouble_detail),
        "instances": [(row, words.INSTANCES[row.state]) for row in standing.instances],
        "ended": [
            (row, words.INSTANCES[row.state], words.failure(row.failure, row.failure_detail))
            for row in standing.ended
        ],
        "turns": [(action, words.TURNS[action]) for action in _possible(deployment)],
    }


def _possible(deployment: Deployment) -> list[str]:
    if deployment.kind == Kind.EMBEDDED:
        return []
    if deployment.wanted != Wanted.RUNNING:
        return ["start"] if deployment.wanted == Wanted.STOPPED else ["start", "stop"]
    return ["restart", "scale", "drain", "stop"] if deployment.kind == Kind.MANAGED else ["stop"]
