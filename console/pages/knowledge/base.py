"""A base: its documents and folders, what is done with many of them, and its settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import FAILED, PageForm, attempt, posted, status_of
from console.pages.knowledge import words
from console.pages.knowledge.listing import BaseForm
from console.pages.listing import Column, Listing, csv_response, selected
from console.tenancy import TenantRequest, tenant_view
from knowledge import access, bases, documents, selectors, uploads
from knowledge.models import Base, State
from knowledge.selectors import ListedDocument, Place
from tenants.access import NotVisible
from tenants.errors import Refused
from tenants.words import search_words

COLUMNS = (
    Column("name", gettext_lazy("Name"), ("pk",)),
    Column("state", gettext_lazy("State"), ("state",)),
    Column("version", gettext_lazy("Version"), ("number",), number=True),
    Column("size", gettext_lazy("Size"), ("size",), number=True),
    Column("updated", gettext_lazy("Changed"), ("updated",)),
)
TOP = "top"


class MoveForm(PageForm):
    """Where documents are moved to."""

    to = forms.ChoiceField(label=gettext_lazy("Folder"))

    def __init__(self, *args: Any, folders: Sequence[Place], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["to"].choices = folder_choices(folders)  # type: ignore[attr-defined]


class FolderForm(PageForm):
    """What a folder is called, and where it stands."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=120,
        error_messages={"required": gettext_lazy("Enter a name.")},
    )
    to = forms.ChoiceField(label=gettext_lazy("In"), required=False)

    def __init__(self, *args: Any, folders: Sequence[Place], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["to"].choices = folder_choices(folders)  # type: ignore[attr-defined]


def folder_choices(folders: Sequence[Place]) -> list[tuple[str, str]]:
    return [(TOP, _("No folder")), *((str(place.folder.pk), place.label) for place in folders)]


def moved_to(chosen: str) -> dict[str, Any]:
    """What a choice of `folder_choices` means for the services."""
    return {"to_top": True} if chosen in ("", TOP) else {"folder_id": UUID(chosen)}


# --- The list -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _View:
    """A base as it was asked for."""

    listing: Listing
    rows: list[ListedDocument]
    folders: list[Place]


@require_safe
@tenant_view()
def page(request: TenantRequest, base_id: UUID) -> HttpResponse:
    actor = request.actor
    listed = selectors.one_base(actor, base_id)
    view = _view(request, listed.base)
    if request.GET.get("format") == "csv":
        return _csv(view)
    may_fill = selectors.may(actor, listed.base, access.CHANGE)
    context = {
        "title": listed.name,
        "listed": listed,
        "listing": view.listing,
        "rows": [(row, words.shown(row.version)) for row in view.rows],
        "folders": view.folders,
        "folder": request.GET.get("folder", ""),
        "states": [("", _("Any")), *State.choices],
        "state": request.GET.get("state", ""),
        "tag": request.GET.get("tag", ""),
        "may_fill": may_fill,
        "may_own": selectors.may(actor, listed.base, access.DELETE),
        "most_mb": uploads.most_bytes() // 1_000_000,
        "folder_form": FolderForm(folders=view.folders, auto_id="folder_%s"),
        "actions": [
            ("again", _("Read anew"), False),
            ("cancel", _("Cancel"), False),
            ("move", _("Move…"), False),
            ("delete", _("Delete…"), True),
        ],
    }
    return render(request, "knowledge/base.html", context)


@require_safe
@tenant_view()
def state(request: TenantRequest, base_id: UUID) -> HttpResponse:
    """The parts of the list that change by themselves, for the script that asks again and again."""
    listed = selectors.one_base(request.actor, base_id)
    view = _view(request, listed.base)
    rows = [(row, words.shown(row.version)) for row in view.rows]
    return render(request, "knowledge/base_state.html", {"listed": listed, "rows": rows})


def _view(request: TenantRequest, base: Base) -> _View:
    asked, sort = request.GET, request.GET.get("sort", "")
    folders = selectors.folders_of(base)
    found = selectors.documents_in(request.actor, base)
    if asked.get("folder") == TOP:
        found = found.filter(folder=None)
    chosen = [place.folder for place in folders if str(place.folder.pk) == asked.get("folder")]
    if chosen:
        found = found.filter(folder=chosen[0])
    if asked.get("state") in State.values:
        found = selectors.in_state(found, asked["state"])
    wanted, tag = search_words(asked.get("q", "")), asked.get("tag", "")
    if wanted or tag:
        found = found.filter(pk__in=selectors.matching(found, wanted, tag))
    is_named = sort.removeprefix("-") == "name"
    rows: Any = selectors.by_name(found, reverse=sort.startswith("-")) if is_named else found
    listing = Listing(request, rows, COLUMNS, kept=("folder", "state", "tag"))
    return _View(listing, selectors.listed(list(listing.page)), folders)


def _csv(view: _View) -> HttpResponse:
    paths = {place.folder.pk: place.label for place in view.folders}
    heading = [_("Name"), _("Folder"), _("Tags"), _("State"), _("Version"), _("Size"), _("Changed")]
    rows = [
        [
            row.name,
            paths.get(row.document.folder_id, "") if row.document.folder_id else "",
            ", ".join(row.tags),
            State(row.version.state).label,
            row.version.number,
            row.version.size,
            row.document.updated.isoformat(),
        ]
        for row in selectors.listed(list(view.listing.rows))
    ]
    return csv_response("documents", heading, rows)


# --- Many documents -----------------------------------------------------------------------------------


@require_POST
@tenant_view()
def bulk(request: TenantRequest, base_id: UUID) -> HttpResponse:
    """POST action=again, cancel, move or delete with the documents selected; the last two ask first."""
    actor, action = request.actor, request.POST.get("action", "")
    base = access.access_base(actor, base_id, access.CHANGE)
    found = selectors.documents_in(actor, base).filter(pk__in=selected(request, UUID))
    chosen = selectors.listed(list(found))
    back = reverse("knowledge_base", args=[actor.tenant_slug, base.pk])
    if not chosen:
        messages.warning(request, _("Select at least one document first."))
        return redirect(back)
    if action not in ("again", "cancel", "move", "delete"):
        raise NotVisible(action)
    form = MoveForm(
        *(posted(request) if is_confirmed(request) else (None, None)), folders=selectors.folders_of(base)
    )
    if action == "delete" and not is_confirmed(request):
        return ask(request, _deletion(request, chosen, back), frame=words.FRAME)
    if action == "move" and not (form.is_bound and form.is_valid()):
        return ask(request, _moving(request, chosen, back, form), frame=words.FRAME)
    _tell(request, [(row.name, _outcome(request, action, row, form)) for row in chosen])
    return redirect(back)


def _outcome(request: TenantRequest, action: str, row: ListedDocument, form: forms.Form) -> str:
    """Why it was not done; "" when it was. One that fails holds up no other."""
    actor, document_id = request.actor, row.document.pk
    deeds: dict[str, Callable[[], Any]] = {
        "again": lambda: documents.reindex(actor=actor, version_id=row.version.pk),
        "cancel": lambda: documents.cancel(actor=actor, version_id=row.version.pk),
        "delete": lambda: documents.delete_document(actor=actor, document_id=document_id),
        "move": lambda: documents.change_document(
            actor=actor, document_id=document_id, **moved_to(form.cleaned_data["to"])
        ),
    }
    try:
        deeds[action]()
    except Refused as refused:
        return refused.message
    except NotVisible:
        return _("You may not do this with it.")
    return ""


def _tell(request: TenantRequest, outcomes: list[tuple[str, str]]) -> None:
    done = sum(not why for _name, why in outcomes)
    if done:
        text = ngettext("Done with %d document.", "Done with %d documents.", done)
        messages.success(request, text % done)
    for name, why in [each for each in outcomes if each[1]][:10]:
        messages.error(request, f"{name}: {why}")


def _deletion(request: TenantRequest, chosen: Sequence[ListedDocument], back: str) -> Question:
    title = ngettext("Delete %d document?", "Delete %d documents?", len(chosen)) % len(chosen)
    return Question(
        title=title,
        text=_(
            "With all their versions, their files and what was found in them. Answers keep what they cited. "
            "This cannot be undone."
        ),
        button=_("Delete"),
        action=request.path,
        back=back,
        names=[row.name for row in chosen],
        hidden=[("action", "delete"), *(("selected", str(row.document.pk)) for row in chosen)],
    )


def _moving(
    request: TenantRequest, chosen: Sequence[ListedDocument], back: str, form: forms.Form
) -> Question:
    return Question(
        title=ngettext("Move %d document", "Move %d documents", len(chosen)) % len(chosen),
        text=_("Who may read them stays as it is."),
        button=_("Move"),
        action=request.path,
        back=back,
        names=[row.name for row in chosen],
        hidden=[("action", "move"), *(("selected", str(row.document.pk)) for row in chosen)],
        form=form,
        is_danger=False,
    )


# --- Folders ------------------------------------------------------------------------------------------


@require_POST
@tenant_view()
def make_folder(request: TenantRequest, base_id: UUID) -> HttpResponse:
    actor = request.actor
    base = access.access_base(actor, base_id, access.CHANGE)
    form = FolderForm(request.POST, folders=selectors.folders_of(base))
    if form.is_valid():
        place = moved_to(form.cleaned_data["to"])
        made = attempt(
            form,
            lambda: bases.make_folder(
                actor=actor,
                base_id=base.pk,
                name=form.cleaned_data["name"],
                parent_id=place.get("folder_id"),
            ),
        )
        if made is not FAILED:
            messages.success(request, _("The folder is made."))
    for problems in form.errors.values():
        messages.error(request, " ".join(map(str, problems)))
    return redirect("knowledge_base", actor.tenant_slug, base.pk)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def folder(request: TenantRequest, base_id: UUID, folder_id: UUID) -> HttpResponse:
    """Rename or move a folder."""
    actor = request.actor
    base = access.access_base(actor, base_id, access.CHANGE)
    shown = bases.folder_of(base, folder_id)
    others = [place for place in selectors.folders_of(base) if place.folder.pk != shown.pk]
    initial = {"name": bases.name_of_folder(shown), "to": str(shown.parent_id or TOP)}
    form = FolderForm(*posted(request), folders=others, initial=initial)
    if form.is_bound and form.is_valid():
        place = moved_to(form.cleaned_data["to"])
        changes: dict[str, Any] = {
            "name": form.cleaned_data["name"],
            "to_top": bool(place.get("to_top")),
            "parent_id": place.get("folder_id"),
        }
        changed = attempt(
            form,
            lambda: bases.change_folder(actor=actor, base_id=base.pk, folder_id=shown.pk, **changes),
        )
        if changed is not FAILED:
            messages.success(request, _("The folder was changed."))
            return redirect("knowledge_base", actor.tenant_slug, base.pk)
    context = {
        "title": initial["name"],
        "form": form,
        "folder": shown,
        "base_name": selectors.one_base(actor, base.pk).name,
        "base": base,
    }
    return render(request, "knowledge/folder.html", context, status=status_of(form))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def delete_folder(request: TenantRequest, base_id: UUID, folder_id: UUID) -> HttpResponse:
    actor = request.actor
    base = access.access_base(actor, base_id, access.CHANGE)
    shown = bases.folder_of(base, folder_id)
    back = reverse("knowledge_base", args=[actor.tenant_slug, base.pk])
    if not is_confirmed(request):
        question = Question(
            title=_("Delete the folder “%(name)s”?") % {"name": bases.name_of_folder(shown)},
            text=_("The documents and folders in it come to stand where it stood. Nothing else is lost."),
            button=_("Delete"),
            action=request.path,
            back=back,
        )
        return ask(request, question, frame=words.FRAME)
    bases.delete_folder(actor=actor, base_id=base.pk, folder_id=shown.pk)
    messages.success(request, _("The folder was deleted."))
    return redirect(back)


# --- Settings -----------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def settings(request: TenantRequest, base_id: UUID) -> HttpResponse:
    """Name, description and how passages are found."""
    actor = request.actor
    listed = selectors.one_base(actor, base_id, access.DELETE)
    base = listed.base
    initial = {
        "name": listed.name,
        "description": listed.description,
        "embedding_model": base.embedding_model,
    }
    form = BaseForm(*posted(request), actor=actor, now=base.embedding_model, initial=initial)
    if form.is_bound and form.is_valid():
        changes = form.cleaned_data
        if attempt(form, lambda: bases.change_base(actor=actor, base_id=base.pk, **changes)) is not FAILED:
            messages.success(request, _("The base was changed."))
            return redirect("knowledge_settings", actor.tenant_slug, base.pk)
    context = {"title": _("Settings of the base"), "form": form, "listed": listed}
    return render(request, "knowledge/settings.html", context, status=status_of(form))


@require_POST
@tenant_view()
def reindex(request: TenantRequest, base_id: UUID) -> HttpResponse:
    """Read every file anew."""
    count = documents.reindex_base(actor=request.actor, base_id=base_id)
    text = ngettext("%d file is read anew.", "%d files are read anew.", count)
    messages.success(request, text % count)
    return redirect("knowledge_base", request.actor.tenant_slug, base_id)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view()
def delete(request: TenantRequest, base_id: UUID) -> HttpResponse:
    actor = request.actor
    listed = selectors.one_base(actor, base_id, access.DELETE)
    if not is_confirmed(request):
        back = reverse("knowledge_settings", args=[actor.tenant_slug, base_id])
        return ask(request, _destruction(request, listed, back), frame=words.FRAME)
    bases.delete_base(actor=actor, base_id=base_id)
    messages.success(request, _("The base “%(name)s” was deleted.") % {"name": listed.name})
    return redirect("knowledge", actor.tenant_slug)


def _destruction(request: TenantRequest, listed: selectors.ListedBase, back: str) -> Question:
    found = selectors.documents_in(request.actor, listed.base)[:20]
    return Question(
        title=_("Delete the base “%(name)s”?") % {"name": listed.name},
        text=_(
            "All its documents are destroyed with their files and versions, also those that you may not read. "
            "Nobody can ask it any more; answers keep what they cited. This cannot be undone."
        ),
        button=_("Delete the base"),
        action=request.path,
        back=back,
        names=[documents.name_of(each) for each in found],
    )
