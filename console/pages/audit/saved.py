"""The page of saved searches: one's own and those that others share, to run, rename, share and delete."""

from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from audit.search import saved as saved_searches
from audit.search.asked import Asked
from audit.search.saved import Saved
from console.pages.administration.forms import FAILED, Failed, PageForm, attempt, status_of
from console.pages.audit import filters, sealing
from console.tenancy import TenantRequest, tenant_view
from tenants.actors import NotVisible
from tenants.errors import Refused
from tenants.roles import AUDIT_READ, REVIEW_WORK


class SavedForm(PageForm):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=120)
    shared = forms.BooleanField(
        label=gettext_lazy("Share with all reviewers"),
        required=False,
        help_text=gettext_lazy("They see its words and filters, and run it under their own name and reason."),
    )
    flags = forms.BooleanField(
        label=gettext_lazy("Flag new hits for review"),
        required=False,
        help_text=gettext_lazy("Records that come from now on and match are put into the review queue."),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(AUDIT_READ)
def page(request: TenantRequest) -> HttpResponse:
    """All of them. POST s=… (or the search's fields), name=…: save a search."""
    actor = request.actor
    form = SavedForm(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        asked = sealing.open_search(request, request.POST.get("s", ""))
        if asked is None:
            raise NotVisible("search")
        if form.is_valid():
            wanted = {**form.cleaned_data, "flags": form.cleaned_data["flags"] and actor.can(REVIEW_WORK)}
            saved = attempt(form, lambda: saved_searches.save(actor=actor, asked=asked, **wanted))
            if not isinstance(saved, Failed):
                messages.success(request, _("Saved. You find it beside the list of records."))
                return redirect(_run(request, saved))
        return _form(request, form, _("Save this search"), reference=request.POST.get("s", ""), asked=asked)
    context = {
        "title": _("Saved searches"),
        "rows": [(each, summary(each.asked)) for each in saved_searches.all_for(actor)],
        "removed": _removed(request),
    }
    return render(request, "audit/saved.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(AUDIT_READ)
def edit(request: TenantRequest, saved_id: UUID) -> HttpResponse:
    """Another name, sharing, flagging; POST s=… besides: what is searched for from now on."""
    actor = request.actor
    saved = saved_searches.one(actor, saved_id)
    if not saved.may_change:
        raise NotVisible("saved search")
    initial = {"name": saved.name, "shared": saved.shared, "flags": saved.flags}
    form = SavedForm(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        wanted = dict(form.cleaned_data)
        if not actor.can(REVIEW_WORK):
            wanted["flags"] = saved.flags
        changed = attempt(form, lambda: saved_searches.update(actor=actor, saved_id=saved_id, **wanted))
        if changed is not FAILED:
            messages.success(request, _("The change is saved."))
            return redirect("audit_saved", actor.tenant_slug)
    return _form(request, form, saved.name, asked=saved.asked)


@require_POST
@tenant_view(AUDIT_READ)
def remove(request: TenantRequest, saved_id: UUID) -> HttpResponse:
    """Delete one; the page that follows offers to undo it."""
    saved_searches.remove(actor=request.actor, saved_id=saved_id)
    return redirect(f"{reverse('audit_saved', args=[request.actor.tenant_slug])}?removed={saved_id}")


@require_POST
@tenant_view(AUDIT_READ)
def restore(request: TenantRequest, saved_id: UUID) -> HttpResponse:
    try:
        saved_searches.restore(actor=request.actor, saved_id=saved_id)
    except Refused as error:
        messages.error(request, error.message)
    else:
        messages.success(request, _("It is back."))
    return redirect("audit_saved", request.actor.tenant_slug)


def _form(
    request: TenantRequest, form: SavedForm, title: str, *, asked: Asked, reference: str = ""
) -> HttpResponse:
    if not request.actor.can(REVIEW_WORK):
        del form.fields["flags"]
    context = {"title": title, "form": form, "reference": reference, "told": summary(asked)}
    return render(request, "audit/saved_edit.html", context, status=status_of(form))


def _run(request: TenantRequest, saved: Saved) -> str:
    return f"{reverse('audit', args=[request.actor.tenant_slug])}?saved={saved.id}"


def _removed(request: TenantRequest) -> Saved | None:
    try:
        return saved_searches.removed(request.actor, UUID(request.GET.get("removed", "")))
    except (ValueError, NotVisible):
        return None


def summary(asked: Asked) -> dict[str, object]:
    """What one looks for, for people: its words and its filters."""
    form = filters.SearchForm(asked)
    form.is_valid()
    kind = filters.KIND_LABELS.get(asked.kind, asked.kind) if asked.kind else ""
    return {"text": asked.text, "kind": kind, "chips": filters.chips(form, asked)}
