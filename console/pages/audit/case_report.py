"""What is taken from a case: a record's text on the page, its report, and the export with proof."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from audit.cases.access import case_of
from audit.cases.opening import linked_records
from audit.cases.report import making, texts
from audit.cases.report.facts import opened
from audit.record import AuditUnavailable
from console.pages.audit.case import as_download
from console.pages.errors import not_recorded
from console.tenancy import TenantRequest, tenant_view
from tenants.access import NotVisible, require
from tenants.errors import Refused
from tenants.roles import AUDIT_READ, REVIEW_WORK


@require_safe
@tenant_view(REVIEW_WORK)
def record(request: TenantRequest, case_id: UUID, request_id: UUID) -> HttpResponse:
    """The text of a record of the case; that it was opened is known inside the case alone."""
    require(request.actor, AUDIT_READ)
    case = case_of(request.actor, case_id)
    if request_id not in linked_records(case):
        raise NotVisible("record of the case")
    view = opened(request.actor, case, request_id, address=request.actor.address)
    context = {
        "title": _("Record"),
        "case": case,
        "request_id": request_id,
        "summary": view.summary if view else None,
        "state": str(view.state) if view else "gone",
        "turns": texts.turns(view) if view else [],
    }
    return render(request, "audit/case_record.html", context)


@dataclass(frozen=True)
class _Bundle:
    """What was asked for: an export with proof, which is written outside of the page's transaction."""

    case_id: UUID


@require_POST
def report(request: TenantRequest, slug: str, case_id: UUID) -> HttpResponse:
    """POST form=pdf, jsonl or bundle: a download."""
    answer = _report(request, slug=slug, case_id=case_id)
    if not isinstance(answer, _Bundle):
        return answer
    actor = request.actor
    try:
        made = making.make_bundle(actor, case_id, address=actor.address)
    except NotVisible as error:
        raise Http404 from error
    except AuditUnavailable:
        return not_recorded(request)
    except Refused as error:
        messages.error(request, error.message)
        return redirect("case", actor.tenant_slug, case_id)
    return as_download(made.name, made.content, made.media_type)


@tenant_view(REVIEW_WORK)
def _report(request: TenantRequest, case_id: UUID) -> Any:
    form, language = request.POST.get("form", ""), request.POST.get("language", "")
    language = language if language in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE
    actor = request.actor
    case_of(actor, case_id)
    if form == "bundle":
        return _Bundle(case_id)
    try:
        made = making.make_report(actor, case_id, form=form, language=language, address=actor.address)
    except Refused as error:
        messages.error(request, error.message)
        return redirect("case", actor.tenant_slug, case_id)
    return as_download(made.name, made.content, made.media_type)
