"""The search page of the audit: what is recorded, found by its words and by the facts beside them.

Without words it lists records by their plain columns, which opens nothing and is open to roles that read no content.
Words are looked for in the content, so that a search needs a reason and is itself recorded before anything is shown.
How a search stays out of logs and histories: see `console.pages.audit.sealing`.
"""

from dataclasses import astuple, replace
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from audit import selectors
from audit.record import AuditUnavailable
from audit.search import engine
from audit.search import saved as saved_searches
from audit.search.asked import Asked
from audit.search.engine import Sort
from audit.search.query import BadQuery
from audit.search.saved import Saved
from console.pages.audit import actions, filters, sealing
from console.pages.audit.filters import SearchForm
from console.tenancy import TenantRequest, tenant_view
from tenants.roles import AUDIT_EXPORT, AUDIT_LIST, AUDIT_READ, REVIEW_WORK

PAGE_SIZE = 50


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(AUDIT_LIST)
def records(request: TenantRequest) -> HttpResponse:
    """GET: what is asked for in the address. POST: what is asked for from now on; leads to an address without words.

    POST `set=<name>=<value>` adds a filter to what the form says, `drop=<name>` takes one away.
    """
    if request.method == "POST":
        return _posted(request)
    asked, saved, is_lost = _asked_for(request)
    form = SearchForm(asked, reason=sealing.kept_reason(request))
    if is_lost:
        return _page(request, form, asked, {"state": "lost"})
    return _page(request, form, asked, _found(request, form, asked), saved=saved)


def _posted(request: TenantRequest) -> HttpResponse:
    values = request.POST.dict()
    name, is_set, value = values.get("set", "").partition("=")
    if is_set:
        values[name] = "" if values.get(name) == value else value  # A second click on a value lets go of it.
    values.pop(values.get("drop", ""), None)
    if not request.actor.can(AUDIT_READ):
        values.pop("text", None)
    if not values.get("text", "").strip() and values.get("sort") == Sort.TOKENS:
        values.pop("sort")  # A list is in order of time.
    reason = values.get("reason", "").strip()
    form = SearchForm(Asked.of(values), reason=reason)
    if not form.is_valid():
        return _page(request, form, Asked.of(values), {"state": "invalid"}, status=422)
    asked = form.cleaned()
    if asked.is_search and not reason:
        form.add_error("reason", _("State a reason. It is kept with the record of this search."))
        return _page(request, form, asked, {"state": "reason"}, status=422)
    if reason:
        sealing.keep_reason(request, reason)
    return redirect(address(request, asked))


def address(request: TenantRequest, asked: Asked) -> str:
    """Where what is asked is shown: in plain where that says nothing about anybody, else sealed."""
    told = asked.told()
    telling = {name for name in told if name != "zone"}
    query = told if telling <= set(filters.PLAIN) else {"s": sealing.seal_search(request, asked)}
    if not telling:
        query = {}
    return _with_query(reverse("audit", args=[request.actor.tenant_slug]), query)


def _with_query(path: str, query: dict[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _asked_for(request: TenantRequest) -> tuple[Asked, Saved | None, bool]:
    """What the address asks for, the saved search it names, and whether it holds a search that cannot be read."""
    if saved_id := request.GET.get("saved"):
        saved = saved_searches.one(request.actor, _uuid(saved_id))
        return saved.asked, saved, False
    if reference := request.GET.get("s"):
        asked = sealing.open_search(request, reference)
        return asked or Asked(), None, asked is None
    plain = {name: value for name, value in request.GET.items() if name in (*filters.PLAIN, "zone")}
    return Asked.of(plain), None, False


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise selectors.NotVisible("saved search") from error


def _found(request: TenantRequest, form: SearchForm, asked: Asked) -> dict[str, Any]:
    """What the page shows of what there is, with `state` saying which of its faces that is."""
    if not form.is_valid():
        return {"state": "invalid"}
    cleaned = form.cleaned()
    if cleaned.is_search and not request.actor.can(AUDIT_READ):
        return {"state": "lost"}
    if not cleaned.is_search:
        return _listed(request, cleaned)
    found = _searched(request, form, cleaned)
    if "hits" in found:
        sealing.note_searched(request, asked)
    return found


def _listed(request: TenantRequest, asked: Asked) -> dict[str, Any]:
    wanted, cursor = asked.filters(), request.GET.get("after", "")
    oldest_first = asked.sort == Sort.OLDEST
    page = selectors.list_records(request.actor, wanted, cursor, PAGE_SIZE, oldest_first=oldest_first)
    survey = selectors.survey(request.actor, wanted)
    counted = filters.counted(survey)
    return {
        "state": "found" if page.records else "none",
        "records": page.records,
        "next_cursor": page.next_cursor,
        "total": min(survey.total, selectors.COUNT_MOST),
        "is_exact": survey.total <= selectors.COUNT_MOST,
        "facets": filters.facets(counted, asked),
        "suggestions": filters.suggestions(counted),
    }


def _searched(request: TenantRequest, form: SearchForm, asked: Asked) -> dict[str, Any]:
    reason = sealing.kept_reason(request)
    if not reason:
        form.add_error("reason", _("State a reason. It is kept with the record of this search."))
        return {"state": "reason"}
    try:
        found = engine.find(
            request.actor,
            asked.search(),
            reason=reason,
            cursor=request.GET.get("after", ""),
            limit=PAGE_SIZE,
            client_address=request.META.get("REMOTE_ADDR") or "",
        )
    except BadQuery as error:
        return {"state": "bad_query", "bad_query": str(error), "status": 422}
    except engine.SearchTooSlow as error:
        return {"state": "slow", "slow": str(error), "status": 503}
    except AuditUnavailable:
        return {"state": "unrecorded", "status": 503}
    counted = {name: [astuple(each) for each in values] for name, values in found.facets.items()}
    return {
        "state": "found" if found.hits else "none",
        "hits": found.hits,
        "next_cursor": found.next_cursor,
        "total": found.total,
        "is_exact": found.total_is_exact,
        "waiting": found.waiting,
        "facets": filters.facets(counted, asked),
        "suggestions": filters.suggestions(counted),
    }


def _page(
    request: TenantRequest,
    form: SearchForm,
    asked: Asked,
    found: dict[str, Any],
    *,
    saved: Saved | None = None,
    status: int = 200,
) -> HttpResponse:
    actor, may_search = request.actor, request.actor.can(AUDIT_READ)
    reference = sealing.seal_search(request, asked)
    cursor = request.GET.get("after", "")
    here = {name: value for name, value in request.GET.items() if name != "after"}
    context = {
        "form": form,
        "shown_filters": form.shown,
        "kept_filters": filters.KEPT,
        "asked": asked,
        "reference": reference,
        "kinds": [
            (words, address(request, replace(Asked(zone=asked.zone), kind=kind)), asked.kind == kind)
            for kind, words in filters.KIND_LABELS.items()
        ],
        "chips": filters.chips(form, asked) if form.is_valid() else [],
        "saved": saved,
        "saved_searches": saved_searches.all_for(actor) if may_search else [],
        "may_search": may_search,
        "may_export": may_search and actor.can(AUDIT_EXPORT),
        "may_flag": actor.can(REVIEW_WORK),
        "actions": actions.offered(actor),
        "has_reason": bool(sealing.kept_reason(request)),
        "audit_keys": True,
        "is_first": not cursor,
        "is_filtered": bool({name for name in asked.told() if name not in ("kind", "zone", "sort")}),
        "newest_query": urlencode(here),
        "older_query": urlencode({**here, "after": found["next_cursor"]}) if found.get("next_cursor") else "",
        **found,
    }
    return render(request, "audit/records.html", context, status=found.get("status", status))
