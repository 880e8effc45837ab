"""Audit review: find a record by its metadata, then open it with a reason. Opening is itself recorded."""

import json
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import date
from typing import Any
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from django import forms
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from audit import selectors
from audit.output import Kind, Part
from audit.record import EMBEDDING, REQUESTS, AuditUnavailable, Keeping
from console.pages import labels
from console.tenancy import TenantRequest, tenant_view
from tenants import clock, envelope
from tenants.actors import require
from tenants.roles import AUDIT_LIST, AUDIT_READ

PAGE_SIZE = 50
REASON_KEY = "audit_reason"  # In the session: a reviewer rarely opens just one record for a reason.
# What the list can show: the words for it, and where its filters begin.
KINDS: dict[str, tuple[Any, selectors.RecordFilters]] = {
    "": (gettext_lazy("Requests"), selectors.RecordFilters()),
    "changes": (gettext_lazy("Changes"), selectors.CHANGES),
    "openings": (gettext_lazy("Openings of records"), selectors.OPENINGS),
}
TIME_FORMATS = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


class FilterForm(forms.Form):
    """The filters of the list, from the query string. Times are in `zone`, which scripts fill in; else UTC."""

    kind = forms.ChoiceField(
        label=gettext_lazy("Show"),
        required=False,
        choices=[(code, words) for code, (words, _filters) in KINDS.items()],
    )
    user = forms.ChoiceField(label=gettext_lazy("User"), required=False)
    model = forms.ChoiceField(label=gettext_lazy("Model"), required=False)
    status = forms.ChoiceField(label=gettext_lazy("Status"), required=False)
    channel = forms.ChoiceField(label=gettext_lazy("Channel"), required=False)
    since = forms.DateTimeField(label=gettext_lazy("From"), required=False, input_formats=TIME_FORMATS)
    until = forms.DateTimeField(label=gettext_lazy("Before"), required=False, input_formats=TIME_FORMATS)

    def __init__(self, data: Any, *, choices: selectors.FilterChoices) -> None:
        super().__init__(data)
        states: list[tuple[str, Any]] = [(code, look.label) for code, look in labels.STATES.items()]
        offered: dict[str, list[tuple[str, Any]]] = {
            "user": [(each, each) for each in choices.users],
            "model": [(each, each) for each in choices.models],
            "status": states,
            "channel": list(labels.CHANNELS.items()),
        }
        for name, options in offered.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [("", _("Any")), *options]
        if self.is_of_events:
            for name in ("model", "status", "channel"):  # No model answered, and all of it came about here.
                del self.fields[name]

    @property
    def is_of_events(self) -> bool:
        return bool(kind_of(self.data))

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        since, until = values.get("since"), values.get("until")
        if since and until and since >= until:
            self.add_error("until", _("This is not after the start. Choose a later time."))
        return values

    def filters(self) -> selectors.RecordFilters | None:
        """None when a filter makes no sense; the form then says which."""
        with timezone.override(zone_named(self.data.get("zone", ""))):
            if not self.is_valid():
                return None
            wanted = {name: value for name, value in self.cleaned_data.items() if name != "kind"}
            return replace(KINDS[self.cleaned_data["kind"]][1], **wanted)


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Why do you open this record?"),
        max_length=300,
        error_messages={
            "required": gettext_lazy("State a reason. It is kept with the record of this opening.")
        },
    )


def kind_of(query: Any) -> str:
    """What a query string asks to see; "" (requests) for what there is not."""
    kind = query.get("kind", "")
    return kind if kind in KINDS else ""


def zone_named(name: str) -> Any:
    """A time zone by its name (`Asia/Shanghai`), UTC for names that are none."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return timezone.get_default_timezone()


@require_safe
@tenant_view(AUDIT_LIST)
def records(request: TenantRequest) -> HttpResponse:
    """The list: metadata only."""
    choices = selectors.filter_choices(request.actor, KINDS[kind_of(request.GET)][1])
    form = FilterForm(request.GET, choices=choices)
    filters = form.filters()
    cursor = request.GET.get("after", "")
    page = selectors.list_records(request.actor, filters, cursor, PAGE_SIZE) if filters else None
    kept = {name: value for name, value in request.GET.items() if value and name in ("zone", *form.fields)}
    context = {
        "form": form,
        "page": page,
        "count": selectors.count_records(request.actor, filters) if filters else 0,
        "count_most": selectors.COUNT_MOST,
        "is_filtered": any(name in form.fields for name in kept),
        "is_first": not cursor,
        "newest_query": urlencode(kept),
        "older_query": urlencode({**kept, "after": page.next_cursor}) if page and page.next_cursor else "",
    }
    return render(request, "audit/records.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(AUDIT_LIST)
def record(request: TenantRequest, request_id: UUID) -> HttpResponse:
    """GET: the metadata and a question for the reason. POST reason=…: the content, once the opening is recorded."""
    if request.method == "POST":
        require(request.actor, AUDIT_READ)
        form = ReasonForm(request.POST)
        if form.is_valid():
            return _opened(request, request_id, form.cleaned_data["reason"])
    else:
        form = ReasonForm(initial={"reason": _kept_reason(request)})
    summary = selectors.find_record(request.actor, request_id)
    context = {
        "summary": summary,
        "is_event": summary.kind not in REQUESTS,
        "form": form,
        "may_open": request.actor.can(AUDIT_READ),
    }
    return render(request, "audit/record.html", context)


def _opened(request: TenantRequest, request_id: UUID, reason: str) -> HttpResponse:
    address = request.META.get("REMOTE_ADDR") or ""
    try:
        view = selectors.open_record(request.actor, request_id, reason=reason, client_address=address)
    except AuditUnavailable:
        return render(request, "audit/unavailable.html", {"request_id": request_id}, status=503)
    _keep_reason(request, reason)
    is_event = view.summary.kind not in REQUESTS
    context = {
        "summary": view.summary,
        "is_event": is_event,
        "view": view,
        "reason": reason,
        "change": _change(view.input) if is_event and view.input is not None else None,
        "turns": [] if is_event else _turns(view.input),
        "answers": _answers(view.output),
        "parameters": {name: _readable(value) for name, value in view.parameters.items()},
        "is_embedding": view.summary.kind == EMBEDDING,
    }
    return render(request, "audit/record.html", context)


def _keep_reason(request: TenantRequest, reason: str) -> None:
    """Sealed, for sessions lie in the database and a reason may name a person."""
    day = clock.today()
    sealed = envelope.seal(day=day, plaintext=reason.encode(), **_place_of_reason(request))
    request.session[REASON_KEY] = [day.isoformat(), b64encode(sealed).decode()]


def _kept_reason(request: TenantRequest) -> str:
    """The last reason stated in this session and tenant; "" when there is none."""
    try:
        day, sealed = request.session[REASON_KEY]
        where = _place_of_reason(request)
        return envelope.open_sealed(day=date.fromisoformat(day), sealed=b64decode(sealed), **where).decode()
    except (KeyError, ValueError, envelope.Tampered, envelope.KeyDestroyed):
        return ""


def _place_of_reason(request: TenantRequest) -> dict[str, Any]:
    aad = {"field": REASON_KEY, "user": request.actor.user_id}
    return {"tenant_id": request.actor.tenant_id, "purpose": Keeping.READINGS, "aad": aad}


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


def _turns(asked: Any) -> list[dict[str, str]]:
    """What was asked, as [{role, text}]: the messages of a chat, or prompts (text or token ids)."""
    if isinstance(asked, list) and all(isinstance(each, int) for each in asked):
        return [{"role": _("Prompt"), "text": str(asked)}]
    if isinstance(asked, list):
        return [
            turn for each in asked for turn in (_message(each) if isinstance(each, dict) else _turns(each))
        ]
    return [{"role": _("Prompt"), "text": asked or ""}]


def _message(message: dict[str, Any]) -> list[dict[str, str]]:
    """One message of a chat, with what an earlier answer thought and called as turns of their own."""
    roles = {
        "system": _("System"),
        "user": _("Question"),
        "assistant": _("Earlier answer"),
        "tool": _("Result of a tool"),
    }
    role = roles.get(message.get("role", ""), message.get("role", ""))
    thought, said = message.get("reasoning_content"), message.get("content")
    calls = [call["function"] for call in message.get("tool_calls") or []]
    return [
        *([{"role": f"{role} · {_('Reasoning')}", "text": thought}] if thought else []),
        *([{"role": role, "text": said or ""}] if said or not calls else []),
        *({"role": f"{role} · {_call(call['name'])}", "text": call["arguments"]} for call in calls),
    ]


def _answers(parts: list[Part]) -> list[dict[str, str]]:
    """What was answered, as [{role, text}]; the role of plain text is "" where there is only one answer."""
    several = len({part.choice for part in parts}) > 1 or any(part.choice for part in parts)
    return [{"role": _label(part, several), "text": part.text} for part in parts]


def _label(part: Part, several: bool) -> str:
    kinds = {Kind.TEXT: "", Kind.REASONING: _("Reasoning"), Kind.TOOL_CALL: _call(part.name)}
    choice = _("Answer %(number)s") % {"number": part.choice + 1} if several else ""
    return " · ".join(word for word in (choice, kinds[part.kind]) if word)


def _call(name: str) -> str:
    return _("Call of %(function)s") % {"function": name}


def _readable(value: Any) -> str:
    """A parameter as a reviewer reads it: words as they are, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
