"""The page of one record: metadata first, its content once the opening and the reason for it are recorded."""

import json
from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from audit import selectors
from audit.output import Kind, Part
from audit.record import EMBEDDING, REQUESTS, AuditUnavailable
from audit.search.asked import Asked
from audit.search.query import BadQuery, Phrase, Prefix, Word, parse
from audit.turns import called, of_message
from console.pages.audit import actions, neighbours, sealing
from console.tenancy import TenantRequest, tenant_view
from tenants.actors import require
from tenants.roles import AUDIT_LIST, AUDIT_READ


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Why do you open this record?"),
        max_length=sealing.LONGEST_REASON,
        error_messages={
            "required": gettext_lazy("State a reason. It is kept with the record of this opening.")
        },
    )


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(AUDIT_LIST)
def record(request: TenantRequest, request_id: UUID) -> HttpResponse:
    """GET: the metadata and a question for the reason. POST reason=…: the content, once the opening is recorded.

    POST kept=yes: for the reason that was stated last. ?s=…: the search that one came from: its words are marked, and
    its other records are next to this one.
    """
    if request.method == "POST":
        require(request.actor, AUDIT_READ)
        kept = {"reason": sealing.kept_reason(request)} if "kept" in request.POST else None
        form = ReasonForm(kept or request.POST)
        if form.is_valid():
            return _opened(request, request_id, form.cleaned_data["reason"])
    else:
        form = ReasonForm(initial={"reason": sealing.kept_reason(request)})
    summary = selectors.find_record(request.actor, request_id)
    context = {
        "form": form,
        "may_open": request.actor.can(AUDIT_READ),
        **_around(request, summary),
    }
    return render(request, "audit/record.html", context)


def _opened(request: TenantRequest, request_id: UUID, reason: str) -> HttpResponse:
    address = request.META.get("REMOTE_ADDR") or ""
    try:
        view = selectors.open_record(request.actor, request_id, reason=reason, client_address=address)
    except AuditUnavailable:
        return render(request, "audit/unavailable.html", {"request_id": request_id}, status=503)
    sealing.keep_reason(request, reason)
    is_event = view.summary.kind not in REQUESTS
    context = {
        **_around(request, view.summary),
        "view": view,
        "reason": reason,
        "change": _change(view.input) if is_event and view.input is not None else None,
        "turns": [] if is_event else turns(view.input),
        "answers": answers(view.output),
        "parameters": {name: _readable(value) for name, value in view.parameters.items()},
        "is_embedding": view.summary.kind == EMBEDDING,
    }
    return render(request, "audit/record.html", context)


def _around(request: TenantRequest, summary: selectors.Summary) -> dict[str, Any]:
    """What stands around the content: what can be done with the record, and the search that one came from."""
    asked = sealing.open_search(request, request.GET.get("s", ""))
    # The records beside this one tell what a search finds: only of one that is recorded.
    among = asked if asked and (not asked.is_search or sealing.was_searched(request, asked)) else None
    return {
        "summary": summary,
        "is_event": summary.kind not in REQUESTS,
        "actions": actions.offered(request.actor),
        "reference": request.GET["s"] if asked else "",
        "audit_keys": True,
        "has_reason": bool(sealing.kept_reason(request)),
        "asked": asked,
        "marks": _terms(asked) if asked else [],
        "neighbours": neighbours.neighbours(request.actor, among, summary.id) if among else None,
    }


def _terms(asked: Asked) -> list[Word | Prefix | Phrase]:
    """What was searched for, to be marked; nothing when no words were."""
    try:
        return parse(asked.text).terms()
    except BadQuery:
        return []


def _change(detail: dict[str, Any]) -> dict[str, Any]:
    """An event's detail: fields as [{name, before, after}], and facts beside them by name. What was not there is ""."""
    before, after = detail.get("before") or {}, detail.get("after") or {}
    fields = [
        {"name": name, "before": _said(before.get(name)), "after": _said(after.get(name))}
        for name in dict.fromkeys((*before, *after))
    ]
    facts = {name: _said(value) for name, value in detail.items() if name not in ("before", "after")}
    return {"fields": fields, "facts": facts}


def _said(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return "" if value in (None, "", [], {}) else _readable(value)


def turns(asked: Any) -> list[dict[str, str]]:
    """What was asked, as [{role, text}]: the messages of a chat, or prompts (text or token ids)."""
    if isinstance(asked, list) and all(isinstance(each, int) for each in asked):
        return [{"role": _("Prompt"), "text": str(asked)}]
    if isinstance(asked, list):
        return [
            turn
            for each in asked
            for turn in (
                [said._asdict() for said in of_message(each)] if isinstance(each, dict) else turns(each)
            )
        ]
    return [{"role": _("Prompt"), "text": asked or ""}]


def answers(parts: list[Part]) -> list[dict[str, str]]:
    """What was answered, as [{role, text}]; the role of plain text is "" where there is only one answer."""
    several = len({part.choice for part in parts}) > 1 or any(part.choice for part in parts)
    return [{"role": _label(part, several), "text": part.text} for part in parts]


def _label(part: Part, several: bool) -> str:
    kinds = {Kind.TEXT: "", Kind.REASONING: _("Reasoning"), Kind.TOOL_CALL: called(part.name)}
    choice = _("Answer %(number)s") % {"number": part.choice + 1} if several else ""
    return " · ".join(word for word in (choice, kinds[part.kind]) if word)


def _readable(value: Any) -> str:
    """A parameter as a reviewer reads it: words as they are, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
