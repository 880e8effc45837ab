"""Rules of alerts: listed, made, changed, and tried on the last day before they are kept."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from console.monitoring import preview, rules
from console.monitoring.catalogue import SERIES, SERIES_BY_NAME, Unit
from console.monitoring.models import Rule, Severity
from console.monitoring.rules import LONGEST_FOR_S, Terms
from console.pages.administration.confirm import Question, ask, is_confirmed
from console.pages.administration.forms import Failed, PageForm, attempt, posted, status_of
from console.pages.monitoring.alerts import FRAME, SEVERITIES, by_of, unit_of
from console.tenancy import platform_view
from tenants.actors import NotVisible

# What people write thresholds in, as so many of a series' own unit.
_WRITTEN: dict[Unit, tuple[float, str]] = {
    Unit.SHARE: (0.01, "%"),
    Unit.BYTES: (2**20, "MiB"),
    Unit.SECONDS: (1, "s"),
}
WINDOWS = (
    (60, gettext_lazy("1 minute")),
    (300, gettext_lazy("5 minutes")),
    (900, gettext_lazy("15 minutes")),
    (3600, gettext_lazy("1 hour")),
)


class RuleForm(PageForm):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=100)
    series = forms.ChoiceField(label=gettext_lazy("Series"))
    aggregation = forms.ChoiceField(label=gettext_lazy("Value"), choices=Rule.Aggregation.choices)
    window_s = forms.TypedChoiceField(label=gettext_lazy("Window"), choices=WINDOWS, coerce=int)
    comparison = forms.ChoiceField(label=gettext_lazy("Fires when it"), choices=Rule.Comparison.choices)
    threshold = forms.FloatField(
        label=gettext_lazy("Threshold"),
        help_text=gettext_lazy("In the unit that stands behind the series; 1 is up and 0 is down."),
    )
    for_s = forms.IntegerField(
        label=gettext_lazy("For how many seconds"), min_value=0, max_value=LONGEST_FOR_S, initial=60
    )
    severity = forms.ChoiceField(label=gettext_lazy("Severity"), choices=Severity.choices)
    enabled = forms.BooleanField(label=gettext_lazy("Switched on"), required=False, initial=True)

    def __init__(self, *args: Any, rule: Rule | None = None, **kwargs: Any) -> None:
        if rule is not None:
            kwargs["initial"] = _written(rule)
        super().__init__(*args, **kwargs)
        series = self.fields["series"]
        assert isinstance(series, forms.ChoiceField)
        series.choices = [(each.name, _with_unit(str(each.label), each.unit)) for each in SERIES]

    def terms(self) -> Terms:
        """What was typed, in the series' own unit."""
        values = dict(self.cleaned_data)
        unit, _word = _WRITTEN.get(SERIES_BY_NAME[values["series"]].unit, (1, ""))
        return Terms(**{**values, "name": values["name"].strip(), "threshold": values["threshold"] * unit})


@require_safe
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    found = Rule.objects.filter(removed=None).order_by("name")
    context = {
        "title": _("Rules"),
        "rows": [(rule, _shown(rule), SEVERITIES[Severity(rule.severity)]) for rule in found],
    }
    return render(request, "monitoring/rules.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def create(request: HttpRequest) -> HttpResponse:
    form = RuleForm(*posted(request))
    if form.is_bound and form.is_valid() and "preview" not in request.POST:
        made = attempt(form, lambda: rules.create_rule(by=by_of(request), terms=form.terms()))
        if not isinstance(made, Failed):
            messages.success(request, _("The rule is kept."))
            return redirect("alert_rules")
    return _edit(request, form, title=_("New rule"))


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def one(request: HttpRequest, rule_id: UUID) -> HttpResponse:
    rule = _rule(rule_id)
    form = RuleForm(*posted(request), rule=rule)
    if form.is_bound and form.is_valid() and "preview" not in request.POST:
        changed = attempt(
            form, lambda: rules.change_rule(by=by_of(request), rule_id=rule_id, terms=form.terms())
        )
        if not isinstance(changed, Failed):
            messages.success(request, _("The rule is kept."))
            return redirect("alert_rules")
    return _edit(request, form, title=rule.name, rule=rule)


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def remove(request: HttpRequest, rule_id: UUID) -> HttpResponse:
    rule = _rule(rule_id)
    if is_confirmed(request):
        rules.remove_rule(by=by_of(request), rule_id=rule_id)
        messages.success(request, _("The rule is gone."))
        return redirect("alert_rules")
    question = Question(
        title=_("Remove the rule “%(name)s”?") % {"name": rule.name},
        text=_("It fires no more. Its alerts stay in the history."),
        button=_("Remove the rule"),
        action=reverse("alert_rule_remove", args=[rule_id]),
        back=reverse("alert_rule", args=[rule_id]),
    )
    return ask(request, question, frame=FRAME)


def _rule(rule_id: UUID) -> Rule:
    rule = Rule.objects.filter(pk=rule_id, removed=None).first()
    if rule is None:
        raise NotVisible(str(rule_id))
    return rule


def _edit(request: HttpRequest, form: RuleForm, *, title: str, rule: Rule | None = None) -> HttpResponse:
    """The form, with what its rule would have done in the last day when it makes sense."""
    tried = None
    if form.is_bound and form.is_valid():
        tried = Rule(**asdict(form.terms()))
    elif not form.is_bound:
        tried = rule
    context = {
        "title": title,
        "form": form,
        "rule": rule,
        "tried": tried,
        "preview": preview.preview(tried) if tried else None,
        "unit": unit_of(tried) if tried else "",
    }
    return render(request, "monitoring/rule.html", context, status=status_of(form))


def _written(rule: Rule) -> dict[str, Any]:
    unit, _word = _WRITTEN.get(SERIES_BY_NAME[rule.series].unit, (1, ""))
    names = Terms.__dataclass_fields__
    return {**{name: getattr(rule, name) for name in names}, "threshold": round(rule.threshold / unit, 6)}


def _shown(rule: Rule) -> dict[str, Any]:
    series = SERIES_BY_NAME[rule.series]
    return {
        "series": series.label,
        "unit": series.unit,
        "aggregation": Rule.Aggregation(rule.aggregation).label,
        "comparison": Rule.Comparison(rule.comparison).label,
        "window": dict(WINDOWS).get(rule.window_s, f"{rule.window_s} s"),
    }


def _with_unit(label: str, unit: Unit) -> str:
    _factor, word = _WRITTEN.get(unit, (1, ""))
    return f"{label} ({word})" if word else label
