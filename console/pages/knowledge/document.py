"""A document: its versions and what became of them, its details, who reads it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import FAILED, PageForm, attempt, posted, status_of
from console.pages.knowledge import words
from console.pages.knowledge.base import folder_choices, moved_to
from console.tenancy import TenantRequest, tenant_view
from knowledge import access, documents, selectors, uploads
from knowledge.models import Document, Version
from knowledge.selectors import Place
from tenants.access import Actor, NotVisible
from tenants.errors import Refused

_TURNS = {
    "restrict": (documents.restrict, gettext_lazy("From now on only whom you grant it to reads it.")),
    "open": (documents.unrestrict, gettext_lazy("From now on everyone reads it who may ask its base.")),
}
_DEEDS = {
    "again": (documents.reindex, gettext_lazy("The file is read anew.")),
    "cancel": (documents.cancel, gettext_lazy("Cancelled.")),
}


class DetailsForm(PageForm):
    """What a document is called, its tags and its folder."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=documents.MOST_NAME,
        error_messages={"required": gettext_lazy("Enter a name.")},
    )
    tags = forms.CharField(
        label=gettext_lazy("Tags"),
        max_length=1000,
        required=False,
        help_text=gettext_lazy("Separated by commas."),
    )
    to = forms.ChoiceField(label=gettext_lazy("Folder"), required=False)

    def __init__(self, *args: Any, folders: Sequence[Place], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["to"].choices = folder_choices(folders)  # type: ignore[attr-defined]

    def clean_tags(self) -> list[str]:
        return self.cleaned_data["tags"].replace("，", ",").split(",")


class ValidityForm(PageForm):
    """The days on which a version holds."""

    valid_from = forms.DateField(
        label=gettext_lazy("Holds from"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    valid_until = forms.DateField(
        label=gettext_lazy("Until, that day not included"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def page(request: TenantRequest, document_id: UUID) -> HttpResponse:
    """A document with its versions; POST changes its details."""
    actor = request.actor
    document = access.access_document(actor, document_id)
    folders = selectors.folders_of(document.base)
    name, tags = documents.name_of(document), documents.tags_of(document)
    initial = {"name": name, "tags": ", ".join(tags), "to": str(document.folder_id or "top")}
    form = DetailsForm(*posted(request), folders=folders, initial=initial)
    if request.method == "POST":
        document = access.access_document(actor, document_id, access.EDIT)
        if form.is_valid() and _change(actor, document, form):
            messages.success(request, _("The document was changed."))
            return redirect("knowledge_document", actor.tenant_slug, document.pk)
    rows = _rows(document)
    context = {
        "title": name,
        "document": document,
        "base_name": selectors.one_base(actor, document.base_id).name,
        "tags": tags,
        "path": next((each.label for each in folders if each.folder.pk == document.folder_id), ""),
        "form": form,
        "rows": rows,
        "is_at_work": any(shown.is_at_work for _name, _version, shown in rows),
        "may_edit": _may(actor, document, access.EDIT),
        "may_own": _may(actor, document, access.OWN),
        "most_mb": uploads.most_bytes() // 1_000_000,
    }
    return render(request, "knowledge/document.html", context, status=status_of(form))


@require_safe
@tenant_view()
def state(request: TenantRequest, document_id: UUID) -> HttpResponse:
    """The states of its versions, for the script that asks again and again."""
    document = access.access_document(request.actor, document_id)
    rows = [(None, version, words.shown(version)) for version in selectors.versions_of(document)]
    return render(request, "knowledge/document_state.html", {"rows": rows})


@require_POST
@tenant_view()
def turn(request: TenantRequest, document_id: UUID, action: str) -> HttpResponse:
    """Restrict a document, or open it again."""
    if action not in _TURNS:
        raise NotVisible(action)
    service, done = _TURNS[action]
    try:
        service(actor=request.actor, document_id=document_id)
        messages.success(request, str(done))
    except Refused as refused:
        messages.error(request, refused.message)
    return redirect("knowledge_document", request.actor.tenant_slug, document_id)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def delete(request: TenantRequest, document_id: UUID) -> HttpResponse:
    actor = request.actor
    document = access.access_document(actor, document_id, access.OWN)
    name = documents.name_of(document)
    if not is_confirmed(request):
        question = Question(
            title=_("Delete “%(name)s”?") % {"name": name},
            text=_(
                "Its versions are destroyed with their files and what was found in them. Answers keep what they "
                "cited. This cannot be undone."
            ),
            button=_("Delete"),
            action=request.path,
            back=reverse("knowledge_document", args=[actor.tenant_slug, document_id]),
            names=[
                _("Version %(number)d: %(name)s")
                % {"number": version.number, "name": uploads.file_name_of(version)}
                for version in selectors.versions_of(document)
            ],
        )
        return ask(request, question, frame=words.FRAME)
    documents.delete_document(actor=actor, document_id=document_id)
    messages.success(request, _("“%(name)s” was deleted.") % {"name": name})
    return redirect("knowledge_base", actor.tenant_slug, document.base_id)


# --- Versions -----------------------------------------------------------------------------------------


@require_POST
@tenant_view()
def act(request: TenantRequest, version_id: UUID, action: str) -> HttpResponse:
    """Read a version anew, or stop reading it."""
    if action not in _DEEDS:
        raise NotVisible(action)
    service, done = _DEEDS[action]
    version = documents.version_of(request.actor, version_id)
    try:
        service(actor=request.actor, version_id=version_id)
        messages.success(request, str(done))
    except Refused as refused:
        messages.error(request, refused.message)
    return redirect("knowledge_document", request.actor.tenant_slug, version.document_id)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def validity(request: TenantRequest, version_id: UUID) -> HttpResponse:
    """On which days a version holds."""
    actor = request.actor
    version = documents.version_of(actor, version_id, access.EDIT)
    initial = {"valid_from": version.valid_from, "valid_until": version.valid_until}
    form = ValidityForm(*posted(request), initial=initial)
    if form.is_bound and form.is_valid():
        days = form.cleaned_data
        changed = attempt(form, lambda: documents.set_validity(actor=actor, version_id=version_id, **days))
        if changed is not FAILED:
            messages.success(request, _("The days are set."))
            return redirect("knowledge_document", actor.tenant_slug, version.document_id)
    context = {
        "title": _("Validity of version %(number)d") % {"number": version.number},
        "form": form,
        "document": version.document,
        "document_name": documents.name_of(version.document),
        "base_name": selectors.one_base(actor, version.base_id).name,
    }
    return render(request, "knowledge/validity.html", context, status=status_of(form))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def delete_version(request: TenantRequest, version_id: UUID) -> HttpResponse:
    actor = request.actor
    version = documents.version_of(actor, version_id, access.OWN)
    back = reverse("knowledge_document", args=[actor.tenant_slug, version.document_id])
    if not is_confirmed(request):
        question = Question(
            title=_("Delete version %(number)d?") % {"number": version.number},
            text=_("Its file and what was found in it are destroyed. This cannot be undone."),
            button=_("Delete"),
            action=request.path,
            back=back,
            names=[uploads.file_name_of(version)],
        )
        return ask(request, question, frame=words.FRAME)
    try:
        documents.delete_version(actor=actor, version_id=version_id)
        messages.success(request, _("The version was deleted."))
    except Refused as refused:
        messages.error(request, refused.message)
    return redirect(back)


@require_POST
@tenant_view()
def download(request: TenantRequest, version_id: UUID) -> HttpResponse:
    """The file as it came. No browser opens it: what is in it is somebody else's."""
    version = documents.version_of(request.actor, version_id)
    try:
        name, content = uploads.take(actor=request.actor, version_id=version_id)
    except Refused as refused:
        messages.error(request, refused.message)
        return redirect("knowledge_document", request.actor.tenant_slug, version.document_id)
    response = HttpResponse(content, content_type="application/octet-stream")
    response.headers["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


# --- Parts --------------------------------------------------------------------------------------------


def _change(actor: Actor, document: Document, form: DetailsForm) -> bool:
    values = form.cleaned_data
    changes = {"name": values["name"], "tags": values["tags"], **moved_to(values["to"])}
    return (
        attempt(form, lambda: documents.change_document(actor=actor, document_id=document.pk, **changes))
        is not FAILED
    )


def _rows(document: Document) -> list[tuple[str, Version, words.Shown]]:
    return [
        (uploads.file_name_of(version), version, words.shown(version))
        for version in selectors.versions_of(document)
    ]


def _may(actor: Actor, document: Document, permission: str) -> bool:
    try:
        access.access_document(actor, document.pk, permission)
    except NotVisible:
        return False
    return True
