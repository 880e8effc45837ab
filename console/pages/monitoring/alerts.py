"""Alerts now and before; silences and acknowledgements."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from console.monitoring import notices, rules
from console.monitoring.models import Alert, Channel, Notice, Rule, Severity
from console.monitoring.rules import By
from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import Failed, PageForm, attempt
from console.pages.labels import State
from console.pages.listing import Column, Listing
from console.pages.navigation import person
from console.tenancy import platform_view, session_reference
from tenants import clock
from tenants.actors import NotVisible

FRAME = "monitoring/alerts_base.html"
STATES = {
    Alert.State.PENDING: State("warn", "s-time", Alert.State.PENDING.label),
    Alert.State.FIRING: State("bad", "s-bad", Alert.State.FIRING.label),
    Alert.State.RESOLVED: State("ok", "s-ok", Alert.State.RESOLVED.label),
}
SEVERITIES = {
    Severity.WARNING: State("warn", "s-warn", Severity.WARNING.label),
    Severity.CRITICAL: State("bad", "s-bad", Severity.CRITICAL.label),
}
COLUMNS = (
    Column("rule", gettext_lazy("Rule"), ("rule__name",)),
    Column("severity", gettext_lazy("Severity")),
    Column("state", gettext_lazy("State")),
    Column("began", gettext_lazy("Since"), ("began",)),
    Column("resolved", gettext_lazy("Until"), ("resolved",)),
    Column("worst", gettext_lazy("Worst value"), number=True),
    Column("told", gettext_lazy("Told")),
    Column("acknowledged", gettext_lazy("Acknowledged")),
)
SPANS = (
    ("1", gettext_lazy("1 hour")),
    ("4", gettext_lazy("4 hours")),
    ("24", gettext_lazy("1 day")),
    ("168", gettext_lazy("1 week")),
    ("720", gettext_lazy("30 days")),
)
FAILED_SHOWN = 20


class ReasonForm(PageForm):
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=rules.LONGEST_REASON,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=gettext_lazy("It is recorded with your name in every tenant."),
    )


class SilenceForm(ReasonForm):
    until = forms.ChoiceField(label=gettext_lazy("For how long"), choices=SPANS)


@require_safe
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    now = clock.now()
    found = Alert.objects.exclude(state=Alert.State.RESOLVED).select_related("rule")
    open_alerts = sorted(found, key=lambda alert: (alert.state != Alert.State.FIRING, alert.began))
    context = {
        "title": _("Alerts"),
        "alerts": [_shown(alert) for alert in open_alerts],
        "silences": rules.open_silences(now),
        "has_channels": Channel.objects.filter(enabled=True, removed=None).exists(),
        "failed": Notice.objects.exclude(error="")
        .filter(delivered=None)
        .select_related("channel", "alert__rule")
        .order_by("-pk")[:FAILED_SHOWN],
    }
    return render(request, "monitoring/alerts.html", context)


@require_safe
@platform_view
def history(request: HttpRequest) -> HttpResponse:
    found = Alert.objects.filter(fired__isnull=False).select_related("rule").order_by("-pk")
    rule = request.GET.get("rule", "")
    if rule:
        found = found.filter(rule_id=uuid_of(rule))
    listing = Listing(request, found, COLUMNS, kept=("rule",))
    context = {
        "title": _("History of alerts"),
        "listing": listing,
        "rows": [_shown(alert) for alert in listing.page],
        "rules": Rule.objects.order_by("name"),
        "rule": rule,
    }
    return render(request, "monitoring/history.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def acknowledge(request: HttpRequest, alert_id: UUID) -> HttpResponse:
    alert = Alert.objects.filter(pk=alert_id).exclude(state=Alert.State.PENDING).first()
    if alert is None:
        raise NotVisible(str(alert_id))
    form = ReasonForm(request.POST if is_confirmed(request) else None)
    question = Question(
        title=_("Acknowledge “%(name)s”?") % {"name": alert.rule.name},
        text=_("Others then see that somebody looks after it. It goes on firing until its cause is gone."),
        button=_("Acknowledge"),
        action=reverse("alert_acknowledge", args=[alert_id]),
        back=reverse("alerts"),
        form=form,
        is_danger=False,
    )
    return _answered(
        request,
        question,
        lambda values: rules.acknowledge(by=by_of(request), alert_id=alert_id, **values),
        done=_("The alert is acknowledged."),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def silence(request: HttpRequest, rule_id: UUID) -> HttpResponse:
    """Of one rule."""
    rule = Rule.objects.filter(pk=rule_id, removed=None).first()
    if rule is None:
        raise NotVisible(str(rule_id))
    title = _("Silence “%(name)s”?") % {"name": rule.name}
    return _silence(request, rule_id, title, reverse("alert_rule_silence", args=[rule_id]))


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def silence_all(request: HttpRequest) -> HttpResponse:
    return _silence(request, None, _("Silence all alerts?"), reverse("alerts_silence"))


@require_POST
@platform_view
def lift(request: HttpRequest, silence_id: UUID) -> HttpResponse:
    rules.lift_silence(by=by_of(request), silence_id=silence_id)
    messages.success(request, _("The silence is over."))
    return redirect("alerts")


def by_of(request: HttpRequest) -> By:
    """Who asks, and from where."""
    return By(
        user=person(request),
        address=request.META.get("REMOTE_ADDR") or "",
        session_ref=session_reference(request.session.session_key),
    )


def uuid_of(text: str) -> UUID:
    """Raises NotVisible for what is none."""
    try:
        return UUID(text)
    except ValueError:
        raise NotVisible(text) from None


def _silence(request: HttpRequest, rule_id: UUID | None, title: str, action: str) -> HttpResponse:
    question = Question(
        title=title,
        text=_(
            "Nobody is told meanwhile. Alerts are still raised, shown here and kept; whoever still fires when the "
            "silence ends is told of then."
        ),
        button=_("Silence"),
        action=action,
        back=reverse("alerts"),
        form=SilenceForm(request.POST if is_confirmed(request) else None),
    )

    def run(values: dict[str, Any]) -> object:
        until = clock.now() + timedelta(hours=int(values.pop("until")))
        return rules.silence(by=by_of(request), rule_id=rule_id, until=until, **values)

    return _answered(request, question, run, done=_("It is silent now."))


def _answered(
    request: HttpRequest, question: Question, run: Callable[[dict[str, Any]], object], *, done: str
) -> HttpResponse:
    """Ask, or do what was confirmed and say so."""
    form = question.form
    assert form is not None
    if form.is_bound and form.is_valid():
        values = dict(form.cleaned_data)
        if not isinstance(attempt(form, lambda: run(values)), Failed):
            messages.success(request, done)
            return redirect("alerts")
    return ask(request, question, frame=FRAME)


def _shown(alert: Alert) -> dict[str, Any]:
    told = alert.notices.filter(event=Notice.Event.FIRING)
    return {
        "alert": alert,
        "rule": alert.rule,
        "unit": unit_of(alert.rule),
        "state": STATES[Alert.State(alert.state)],
        "severity": SEVERITIES[Severity(alert.severity)],
        "told": told.exclude(delivered=None).count(),
        "to_tell": told.count(),
    }


def unit_of(rule: Rule) -> str:
    """The unit of the rule's series."""
    return notices.SERIES_BY_NAME[rule.series].unit
