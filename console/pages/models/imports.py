"""Imports: begun with a form, watched, cancelled and resumed."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console import tasks
from console.pages.administration.forms import Failed, PageForm, attempt, posted, status_of
from console.pages.models import words
from console.tenancy import platform_view
from inference.registry import imports, store, uploads
from inference.registry.failures import sentence
from inference.registry.models import ModelImport, ModelVersion
from tenants.actors import NotVisible

Source = ModelVersion.Source
SOURCES = (Source.FOLDER, Source.UPLOAD, Source.HUB)
ACTIONS = {
    "cancel": (imports.cancel, gettext_lazy("The import is cancelled. What is on the disk is kept.")),
    "resume": (imports.resume, gettext_lazy("The import goes on.")),
    "discard": (imports.discard, gettext_lazy("The import’s files are removed.")),
    "finish": (imports.finish_upload, gettext_lazy("The files are there. They are being verified.")),
}


class ImportForm(PageForm):
    """What every source needs."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=100,
        required=False,
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "none"}),
        help_text=gettext_lazy(
            "By which programs ask for it. With the name of a model here, it becomes its next version."
        ),
    )
    title = forms.CharField(label=gettext_lazy("Title"), max_length=100, required=False)
    precision = forms.ChoiceField(
        label=gettext_lazy("Precision"),
        choices=words.PRECISIONS,
        help_text=gettext_lazy("In which the engine holds the weights; int8 takes half the memory."),
    )
    licence = forms.CharField(
        label=gettext_lazy("Licence"),
        max_length=100,
        required=False,
        help_text=gettext_lazy("Empty: as the model card says."),
    )


class FolderForm(ImportForm):
    source = forms.CharField(
        label=gettext_lazy("Folder"),
        max_length=500,
        widget=forms.TextInput(attrs={"list": "folders", "spellcheck": "false", "autocapitalize": "none"}),
        help_text=gettext_lazy("Its path in the models’ folder of the server. The files stay there."),
    )
    field_order = ("source",)


class HubForm(ImportForm):
    source = forms.CharField(
        label=gettext_lazy("Repository"),
        max_length=200,
        widget=forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "none"}),
        help_text=gettext_lazy("As organisation/name."),
    )
    revision = forms.CharField(
        label=gettext_lazy("Revision"),
        max_length=100,
        help_text=gettext_lazy("A commit, a tag or a branch; the commit that it is now is registered."),
    )
    field_order = ("source", "revision")


class UploadForm(ImportForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].required = True


FORMS: dict[str, type[ImportForm]] = {
    Source.FOLDER: FolderForm,
    Source.UPLOAD: UploadForm,
    Source.HUB: HubForm,
}


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def begin(request: HttpRequest) -> HttpResponse:
    """?from=folder|upload|hub: the form of that source."""
    kind = request.GET.get("from", "")
    if kind not in FORMS:
        kind = str(Source.FOLDER)
    form = FORMS[kind](*posted(request))
    if form.is_bound and form.is_valid():
        asked = {"source": "", **form.cleaned_data}
        row = attempt(form, lambda: imports.begin(by=words.acting(request), source_kind=kind, **asked))
        if not isinstance(row, Failed):
            tasks.import_models.delay_on_commit()
            return redirect("model_import", row.pk)
    context = {
        "title": _("Import a model"),
        "form": form,
        "kind": kind,
        "sources": [(str(source), source.label) for source in SOURCES],
        "folders": store.folders() if kind == Source.FOLDER else [],
        "has_folder": kind != Source.FOLDER or bool(store.is_there()),
        "latest": [(row, words.IMPORTS[row.state]) for row in ModelImport.objects.order_by("-pk")[:20]],
    }
    return render(request, "models/import_new.html", context, status=status_of(form))


@require_safe
@platform_view
def page(request: HttpRequest, import_id: UUID) -> HttpResponse:
    row = imports.import_by_id(import_id)
    context = {
        "title": _("Import of %(name)s") % {"name": row.name},
        "row": row,
        "state": _state(row),
        "accept": ".safetensors,.gguf,.json,.jinja,.model,.txt,.md",
    }
    return render(request, "models/import.html", context)


@require_safe
@platform_view
def state(request: HttpRequest, import_id: UUID) -> JsonResponse:
    return JsonResponse(_state(imports.import_by_id(import_id)))


@require_POST
@platform_view
def act(request: HttpRequest, import_id: UUID, action: str) -> HttpResponse:
    if action not in ACTIONS:
        raise NotVisible(action)
    service, done = ACTIONS[action]
    form = PageForm(request.POST)
    if isinstance(attempt(form, lambda: service(by=words.acting(request), import_id=import_id)), Failed):
        messages.error(request, " ".join(map(str, form.non_field_errors())))
    else:
        messages.success(request, str(done))
        tasks.import_models.delay_on_commit()
    return redirect("model_import", import_id)


def _state(row: ModelImport) -> dict[str, Any]:
    """What the page shows, and asks for again."""
    look = words.IMPORTS[row.state]
    is_receiving = row.state == ModelImport.State.RECEIVING
    return {
        "state": row.state,
        "tone": look.tone,
        "icon": look.icon,
        "label": str(look.label),
        "step": str(words.STEPS.get(row.step, "")) if row.state == ModelImport.State.RUNNING else "",
        "done": row.bytes_done,
        "total": row.bytes_total,
        "percent": min(100, 100 * row.bytes_done // row.bytes_total) if row.bytes_total else 0,
        "failure": sentence(row.failure, row.failure_detail) if row.failure else "",
        "files": row.files,
        "received": uploads.received(row) if is_receiving else {},
        "version": reverse("model_version", args=[row.version_id]) if row.version_id else "",
    }
