"""The pages of cases: the list, opening one, and records that join one. To those outside there is nothing here."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext
from django.views.decorators.http import require_http_methods, require_safe

from audit.cases import opening, selectors
from audit.cases.models import Case
from console.pages.administration.forms import FAILED, attempt, status_of
from console.pages.audit import case_labels
from console.pages.audit.case_forms import JoinForm, OpenForm
from console.pages.listing import Column, Listing, csv_response, selected
from console.tenancy import TenantRequest, tenant_view
from tenants.access import NotVisible
from tenants.roles import AUDIT_EXPORT, REVIEW_WORK

SHOWN: dict[str, Any] = {
    "": gettext_lazy("Open cases"),
    "mine": gettext_lazy("My cases"),
    "signature": gettext_lazy("Waiting for my signature"),
    "due": gettext_lazy("Due"),
    "closed": gettext_lazy("Closed cases"),
}
COLUMNS = (
    Column("case", gettext_lazy("Case")),
    Column("severity", gettext_lazy("Severity")),
    Column("status", gettext_lazy("Status")),
    Column("owner", gettext_lazy("Owner")),
    Column("records", gettext_lazy("Records"), number=True),
    Column("due", gettext_lazy("Due")),
)


@require_safe
@tenant_view(REVIEW_WORK)
def page(request: TenantRequest) -> HttpResponse:
    show = request.GET.get("show", "")
    show = show if show in SHOWN else ""
    if request.GET.get("format") == "csv":
        return _csv(request, show)
    found = selectors.list_cases(request.actor, show=show or "open", search=request.GET.get("q", ""))
    listing = Listing(request, found, COLUMNS, kept=("show",))
    rows = [
        {
            "listed": each,
            "typology": case_labels.typology(each.typology),
            "severity": case_labels.SEVERITIES[each.version.severity],
            "status": case_labels.STATUSES[each.version.status],
            "role": case_labels.member_role(each.role),
        }
        for each in listing.page
    ]
    waiting = selectors.count_waiting(request.actor)
    context = {
        "title": _("Cases"),
        "listing": listing,
        "rows": rows,
        "shown": [(code, label, code == show) for code, label in SHOWN.items()],
        "show": show,
        "waiting": waiting,
        "without_csv": not request.actor.can(AUDIT_EXPORT),
    }
    return render(request, "audit/cases.html", context)


def _csv(request: TenantRequest, show: str) -> HttpResponse:
    """The same cases as a table; that it was taken is known inside each of them."""
    found = selectors.export_cases(request.actor, show=show or "open", search=request.GET.get("q", ""))
    heading = [
        _("Number"),
        pgettext("of a case", "Title"),
        pgettext("of a case", "Kind"),
        *(column.label for column in COLUMNS[1:]),
        pgettext("a case", "Opened"),
    ]
    rows = (
        [
            each.case.number,
            each.title,
            case_labels.typology(each.typology),
            case_labels.SEVERITIES[each.version.severity].label,
            case_labels.STATUSES[each.version.status].label,
            each.owner,
            each.record_count,
            each.due and each.due.isoformat(timespec="seconds"),
            each.case.created.isoformat(timespec="seconds"),
        ]
        for each in found
    )
    response = csv_response("cases", heading, rows)
    response.headers["Cache-Control"] = "no-store"
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(REVIEW_WORK)
def create(request: TenantRequest) -> HttpResponse:
    """A new case. ?record=… or POST selected=…: with these records."""
    chosen = _chosen(request)
    is_sent = "title" in request.POST
    form = OpenForm(request.POST if is_sent else None, has_records=bool(chosen))
    if form.is_bound and form.is_valid():
        values = {"request_ids": chosen, **form.cleaned_data}
        made = attempt(form, lambda: opening.open_case(actor=request.actor, **values))
        if isinstance(made, Case):
            messages.success(request, _("The case %(number)s was opened.") % {"number": made.number})
            return redirect("case", request.actor.tenant_slug, made.pk)
    context = {"title": _("Open a case"), "form": form, "chosen": chosen}
    return render(request, "audit/case_new.html", context, status=status_of(form))


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(REVIEW_WORK)
def join(request: TenantRequest) -> HttpResponse:
    """The selected records join a case, or lead to a new one."""
    chosen = _chosen(request)
    if not chosen:
        messages.warning(request, _("Select at least one record first."))
        return redirect("audit", request.actor.tenant_slug)
    cases = selectors.joinable(request.actor)
    if not cases:
        return redirect(_new_with(request, chosen))
    form = JoinForm(request.POST if "reason" in request.POST else None, cases=cases)
    if form.is_bound and form.is_valid():
        case_id, reason = form.cleaned_data["case_id"], form.cleaned_data["reason"]
        values: dict[str, Any] = {"case_id": case_id, "request_ids": chosen, "reason": reason}
        count = attempt(form, lambda: opening.link_records(actor=request.actor, **values))
        if count is not FAILED:
            assert isinstance(count, int)
            text = ngettext("%d record joined the case.", "%d records joined the case.", count)
            messages.success(request, text % count)
            return redirect("case", request.actor.tenant_slug, case_id)
    context = {
        "title": _("Add to a case"),
        "form": form,
        "chosen": chosen,
        "new_url": _new_with(request, chosen),
    }
    return render(request, "audit/case_join.html", context, status=status_of(form))


def _new_with(request: TenantRequest, chosen: list[UUID]) -> str:
    query = "&".join(f"record={each}" for each in chosen)
    return f"{reverse('case_new', args=[request.actor.tenant_slug])}?{query}"


def _chosen(request: TenantRequest) -> list[UUID]:
    """The records that come along, each once. Raises NotVisible for more than can be taken at once."""
    found = selected(request, UUID)
    for text in request.GET.getlist("record"):
        try:
            found.append(UUID(text))
        except ValueError:
            continue
    found = list(dict.fromkeys(found))
    if len(found) > opening.MOST_RECORDS:
        raise NotVisible("records")
    return found
