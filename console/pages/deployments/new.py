"""New deployments: of a version on this server, and of what somebody else's server serves."""

import re
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from console.pages.administration.forms import Failed, PageForm, attempt, posted, status_of
from console.pages.models.words import acting
from console.tenancy import platform_view
from inference.deployments import capacity, selectors, services
from inference.deployments.looks import Look
from inference.registry import selectors as registry
from inference.registry.models import ModelVersion, Stage

PLAIN = {"spellcheck": "false", "autocapitalize": "none", "autocomplete": "off"}


class SettingsForm(PageForm):
    """What instances are started with. A change of it replaces them."""

    max_context = forms.IntegerField(
        label=gettext_lazy("Context"),
        required=False,
        help_text=gettext_lazy("Tokens of prompt and answer together. Empty: as much as the model has."),
    )
    kv_memory_mb = forms.IntegerField(
        label=gettext_lazy("Memory for context, MB"),
        initial=512,
        help_text=gettext_lazy("For keys and values of all requests of an instance together."),
    )
    max_running = forms.IntegerField(
        label=gettext_lazy("Answers at once"),
        initial=64,
        help_text=gettext_lazy("As many as an instance generates together; others wait in line."),
    )
    speculation = forms.BooleanField(
        label=gettext_lazy("Guess tokens ahead"),
        required=False,
        initial=True,
        help_text=gettext_lazy("Guesses are checked, so answers stay the same; they mostly come sooner."),
    )
    keep_warm = forms.BooleanField(
        label=gettext_lazy("Keep loaded"),
        required=False,
        initial=True,
        help_text=gettext_lazy(
            "Otherwise it is loaded when somebody asks for it, and gives way when another needs the room."
        ),
    )


class NewForm(SettingsForm):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=50,
        widget=forms.TextInput(attrs=PLAIN),
        help_text=gettext_lazy("Small letters, digits and hyphens. It stays, for records name it."),
    )
    version_id = forms.ChoiceField(
        label=gettext_lazy("Version"),
        help_text=gettext_lazy("With what an instance takes, without the memory for context."),
    )
    replicas = forms.IntegerField(
        label=gettext_lazy("Instances"),
        initial=1,
        help_text=gettext_lazy("Processes that share the requests, each with the model in memory."),
    )
    field_order = ("name", "version_id", "replicas")

    def __init__(self, *args: Any, versions: list[Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["version_id"].choices = [  # type: ignore[attr-defined]
            (str(row.pk), f"{row} · {row.precision} · {_size(row)}") for row in versions
        ]


class UpstreamForm(PageForm):
    name = NewForm.base_fields["name"]
    base_url = forms.CharField(
        label=gettext_lazy("Address"),
        max_length=400,
        widget=forms.TextInput(attrs=PLAIN | {"inputmode": "url"}),
        help_text=gettext_lazy("Of a server that speaks OpenAI’s API, as vLLM does: http://10.0.0.5:8000"),
    )
    key = forms.CharField(
        label=gettext_lazy("Key"),
        max_length=services.MOST_KEY,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}, render_value=False),
        help_text=gettext_lazy("If the server asks for one. It is kept sealed and never shown again."),
    )
    upstream_model = forms.CharField(
        label=gettext_lazy("Model"),
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs=PLAIN | {"list": "models-there"}),
        help_text=gettext_lazy("As the server calls it. A test of the connection lists what it has."),
    )
    version_id = forms.ChoiceField(
        label=gettext_lazy("Which version that is"),
        required=False,
        help_text=gettext_lazy(
            "Records name it as what answered. Without one, what is served there becomes one."
        ),
    )
    context_tokens = forms.IntegerField(
        label=gettext_lazy("Context"),
        initial=8192,
        min_value=128,
        max_value=10_000_000,
        help_text=gettext_lazy("Tokens of prompt and answer together, as the server was started with."),
    )
    max_running = forms.IntegerField(
        label=gettext_lazy("Answers at once"),
        initial=64,
        help_text=gettext_lazy("As many as it generates together; its load is told by that."),
    )

    def __init__(self, *args: Any, versions: list[Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["version_id"].choices = [  # type: ignore[attr-defined]
            ("", _("One of its own")),
            *((str(row.pk), f"{row} · {row.precision}".rstrip(" ·")) for row in versions),
        ]


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def create(request: HttpRequest) -> HttpResponse:
    """?version=…: the version that is chosen at first."""
    versions = [
        row
        for row in _deployable()
        if row.kind == ModelVersion.Kind.TEXT and row.source_kind != ModelVersion.Source.UPSTREAM
    ]
    form = NewForm(*posted(request), versions=versions, initial=_initial(request, versions))
    if form.is_bound and form.is_valid():
        asked = {**form.cleaned_data, "version_id": UUID(form.cleaned_data["version_id"])}
        made = attempt(form, lambda: services.create(by=acting(request), **asked))
        if not isinstance(made, Failed):
            messages.success(request, _("%(name)s is being started.") % {"name": made.name})
            return redirect("deployment", made.pk)
    standings = selectors.standings()
    context = {
        "title": _("Deploy a version"),
        "form": form,
        "has_versions": bool(versions),
        "taken": sum(row.memory_mb for each in standings for row in each.instances),
        "budget": capacity.budget_mb(),
    }
    return render(request, "deployments/new.html", context, status=status_of(form))


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def create_upstream(request: HttpRequest) -> HttpResponse:
    """With the button `try` the address is only asked what it serves."""
    form = UpstreamForm(*posted(request), versions=_deployable())
    found: Look | None = None
    if form.is_bound and form.is_valid():
        asked = dict(form.cleaned_data)
        if "try" in request.POST:
            tried = attempt(form, lambda: services.try_upstream(base_url=asked["base_url"], key=asked["key"]))
            found = None if isinstance(tried, Failed) else tried
        else:
            asked["version_id"] = UUID(asked["version_id"]) if asked["version_id"] else None
            made = attempt(form, lambda: services.create_upstream(by=acting(request), **asked))
            if not isinstance(made, Failed):
                messages.success(request, _("%(name)s answers from now on.") % {"name": made.name})
                return redirect("deployment", made.pk)
    context = {"title": _("Connect an upstream"), "form": form, "found": found}
    return render(request, "deployments/upstream_new.html", context, status=status_of(form))


def _size(version: ModelVersion) -> str:
    megabytes = capacity.weights_mb(version) + capacity.OVERHEAD_MB
    return _("about %(size)s MB") % {"size": number_format(megabytes, force_grouping=True)}


def _deployable() -> list[Any]:
    return list(
        registry.versions()
        .filter(stage__in=(Stage.STAGED, Stage.PRODUCTION))
        .order_by("model__name", "-number")
    )


def _initial(request: HttpRequest, versions: list[Any]) -> dict[str, Any]:
    asked = request.GET.get("version", "")
    chosen = next((row for row in versions if str(row.pk) == asked), None)
    if chosen is None:
        return {}
    name = re.sub(r"[^a-z0-9]+", "-", f"{chosen.model.name}-{chosen.number}".lower()).strip("-")[-50:]
    return {"version_id": asked, "name": name.strip("-")}
