"""Who read what: one's own readings, or everybody's for officers, with the alerts that wait for them."""

from datetime import datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from audit.readers import access, alerts, selectors
from audit.readers.models import Rule
from audit.readers.rules import CHECKS
from audit.record import READINGS, AuditUnavailable
from console.pages import labels
from console.pages.administration.forms import FAILED, PageForm, attempt, status_of
from console.tenancy import TenantRequest, tenant_view
from tenants.errors import Refused
from tenants.roles import AUDIT_READ, REVIEW_MANAGE

LONGEST_REASON = 300


class FilterForm(PageForm):
    """From the query string, which holds ids and days alone. What narrows nothing is left empty, and need not say so."""

    is_either_or = True
    person = forms.ChoiceField(label=gettext_lazy("Who read"), required=False)
    kind = forms.ChoiceField(label=gettext_lazy("What"), required=False)
    since = forms.DateField(label=gettext_lazy("From day (UTC)"), required=False)
    until = forms.DateField(label=gettext_lazy("To day (UTC)"), required=False)
    record = forms.UUIDField(
        label=gettext_lazy("Record id"),
        required=False,
        error_messages={"invalid": gettext_lazy("This is no id of a record.")},
    )

    def __init__(self, *args: Any, people: list[tuple[UUID, str]], sees_all: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("since", "until"):
            self.fields[name].widget.input_type = "date"
        kinds = [(kind, labels.event(kind)) for kind in READINGS]
        offered = {"person": [(str(user_id), label) for user_id, label in people], "kind": kinds}
        for name, choices in offered.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [("", _("Any")), *choices]
        if not sees_all:
            del self.fields["person"]

    def filters(self) -> selectors.Filters | None:
        """None when one makes no sense; the form then says which."""
        if not self.is_valid():
            return None
        found = self.cleaned_data
        person = found.get("person")
        until = found["until"] + timedelta(days=1) if found["until"] else None
        return selectors.Filters(
            user_id=UUID(person) if person else None,
            kind=found["kind"],
            since=_midnight(found["since"]),
            until=_midnight(until),
            record=found["record"],
        )


class ReasonForm(PageForm):
    reason = forms.CharField(
        label=gettext_lazy("Why do you look at their reasons?"),
        max_length=LONGEST_REASON,
        error_messages={"required": gettext_lazy("State a reason. It is recorded as a reading of your own.")},
    )


class RulesForm(PageForm):
    """A threshold and a switch for each rule."""

    def __init__(self, *args: Any, settings: list[alerts.Setting], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for each in settings:
            self.fields[each.rule] = forms.IntegerField(
                label=_MEASURES[each.rule], min_value=1, max_value=each.most, initial=each.threshold
            )
            self.fields[each.rule].widget.attrs["class"] = "input"
            self.fields[f"{each.rule}_on"] = forms.BooleanField(
                label=_("Raise an alert"), required=False, initial=each.enabled
            )
        self.rows = [(each, self[each.rule], self[f"{each.rule}_on"]) for each in settings]


_MEASURES: dict[str, Any] = {
    Rule.MANY: gettext_lazy("Openings within an hour"),
    Rule.MORE_THAN_USUAL: gettext_lazy("Times as many as on their usual day"),
    Rule.ODD_HOURS: gettext_lazy("Hours away from their usual ones"),
    Rule.ONE_PERSON: gettext_lazy("Openings of one person’s records within a day"),
    Rule.OWN_DEPARTMENT: gettext_lazy("Openings of these within a day"),
    Rule.NO_GROUND: gettext_lazy("Openings of these within a day"),
    Rule.SAME_REASON: gettext_lazy("Times within a day"),
    Rule.MASS_EXPORT: gettext_lazy("Records within a day"),
}


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(AUDIT_READ)
def page(request: TenantRequest) -> HttpResponse:
    """The readings. POST reason=…: with everybody's reasons, once this look is recorded."""
    actor = request.actor
    sees_all = access.sees_everybody(actor)
    form = FilterForm(request.GET, people=selectors.readers(actor) if sees_all else [], sees_all=sees_all)
    filters, cursor = form.filters(), request.GET.get("after", "")
    reason_form = ReasonForm(request.POST if request.method == "POST" else None)
    entries: list[selectors.Entry] = []
    following, shows_reasons = "", False
    status = 422 if filters is None or status_of(reason_form) == 422 else 200
    if filters is not None and reason_form.is_bound and reason_form.is_valid():
        reason = reason_form.cleaned_data["reason"]
        try:
            entries, following = selectors.with_reasons(actor, filters, cursor, reason=reason)
            shows_reasons = True
        except AuditUnavailable:
            reason_form.add_error(
                "reason", _("This look could not be recorded, so nothing is shown. Try again.")
            )
            status = 503
    if filters is not None and not shows_reasons:
        entries, following = selectors.readings(actor, filters, cursor)
    kept = {name: value for name, value in request.GET.items() if value and name in form.fields}
    context = {
        "title": _("Readers"),
        "sees_all": sees_all,
        "form": form,
        "reason_form": reason_form,
        "entries": entries,
        "hides_reasons": any(entry.reason is None for entry in entries),
        "shows_reasons": shows_reasons,
        "is_filtered": bool(kept),
        "here": urlencode({**kept, **({"after": cursor} if cursor else {})}),
        "first_query": urlencode(kept) if cursor else "",
        "next_query": urlencode({**kept, "after": following}) if following else "",
        "figures": selectors.figures(actor),
        "alerts": alerts.shown(actor, are_open=True) if sees_all else [],
        "answered": alerts.shown(actor, are_open=False)[:20] if sees_all else [],
        "longest": alerts.LONGEST_REASON,
    }
    return render(request, "audit/readers.html", context, status=status)


@require_POST
@tenant_view(REVIEW_MANAGE)
def acknowledge(request: TenantRequest, alert_id: UUID) -> HttpResponse:
    try:
        alerts.acknowledge(actor=request.actor, alert_id=alert_id, reason=request.POST.get("reason", ""))
        messages.success(request, _("Acknowledged. It stays among those that were answered."))
    except Refused as refused:
        messages.error(request, refused.message)
    return redirect("audit_readers", request.actor.tenant_slug)


@require_http_methods(["GET", "HEAD", "POST"])
@tenant_view(REVIEW_MANAGE)
def rules(request: TenantRequest) -> HttpResponse:
    """What is unusual here. POST: these thresholds hold from now on."""
    actor = request.actor
    form = RulesForm(request.POST if request.method == "POST" else None, settings=alerts.settings(actor))
    if form.is_bound and form.is_valid() and attempt(form, lambda: _set(request, form)) is not FAILED:
        messages.success(request, _("The thresholds hold from now on."))
        return redirect("audit_readers_rules", actor.tenant_slug)
    context = {"title": _("Alerts on reading"), "form": form}
    return render(request, "audit/readers_rules.html", context, status=status_of(form))


def _set(request: TenantRequest, form: RulesForm) -> None:
    for rule in CHECKS:
        threshold, enabled = form.cleaned_data[rule], form.cleaned_data[f"{rule}_on"]
        alerts.set_rule(actor=request.actor, rule=rule, threshold=threshold, enabled=enabled)


def _midnight(day: Any) -> datetime | None:
    return datetime.combine(day, time(), tzinfo=timezone.get_default_timezone()) if day else None
