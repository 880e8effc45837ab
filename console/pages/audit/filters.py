"""The form of the search page: words, a reason, filters; and the filters in force as chips that can be taken away."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from audit.search.asked import KINDS, LONGEST_TEXT, WHENS, Asked
from audit.search.engine import Sort
from audit.selectors import Survey
from console.pages import labels
from console.pages.audit.sealing import LONGEST_REASON
from tenants.models import Group

KIND_LABELS: dict[str, str | Promise] = {
    "": gettext_lazy("Requests"),
    "changes": gettext_lazy("Changes"),
    "readings": gettext_lazy("Readings"),
}
WHEN_LABELS: dict[str, str | Promise] = {
    "today": gettext_lazy("Today"),
    "yesterday": gettext_lazy("Yesterday"),
    "7d": gettext_lazy("Last 7 days"),
    "30d": gettext_lazy("Last 30 days"),
    "monday": gettext_lazy("Last Monday"),
    "tuesday": gettext_lazy("Last Tuesday"),
    "wednesday": gettext_lazy("Last Wednesday"),
    "thursday": gettext_lazy("Last Thursday"),
    "friday": gettext_lazy("Last Friday"),
    "saturday": gettext_lazy("Last Saturday"),
    "sunday": gettext_lazy("Last Sunday"),
}
SORTS: dict[str, str | Promise] = {
    "": gettext_lazy("Newest first"),
    Sort.OLDEST.value: gettext_lazy("Oldest first"),
    Sort.TOKENS.value: gettext_lazy("Most tokens first"),
}
FACET_LABELS: dict[str, str | Promise] = {
    "status": gettext_lazy("Status"),
    "channel": gettext_lazy("Channel"),
    "user": gettext_lazy("User"),
    "group": gettext_lazy("Group"),
    "model": gettext_lazy("Model"),
    "version": gettext_lazy("Model version"),
    "event": gettext_lazy("What"),
    "rule": gettext_lazy("Rule"),
    "risk": gettext_lazy("Risk"),
}
OF_REQUESTS = ("model", "version", "channel", "status", "least", "most", "rule", "risk")
OF_ALL = ("user", "group", "when", "day", "since", "until", "sort")
KEPT = ("event", "rule", "risk")  # Set by a click on what was found, not typed.
FACET_MOST = 8
TIME_FORMATS = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
# May stand in an address as they are: they say nothing about anybody.
PLAIN = ("kind", "event", "channel", "status", "model", "when", "day", "sort")


class SearchForm(forms.Form):
    """Bound to what was asked. Times are in `zone`, which scripts fill in; else UTC."""

    text = forms.CharField(label=gettext_lazy("Words"), required=False, max_length=LONGEST_TEXT, strip=True)
    reason = forms.CharField(label=gettext_lazy("Reason"), required=False, max_length=LONGEST_REASON)
    kind = forms.ChoiceField(required=False, choices=[(code, code) for code in KINDS])
    user = forms.CharField(label=gettext_lazy("User"), required=False, max_length=254)
    group = forms.ChoiceField(label=gettext_lazy("Group"), required=False)
    model = forms.CharField(label=gettext_lazy("Model"), required=False, max_length=200)
    version = forms.CharField(label=gettext_lazy("Model version"), required=False, max_length=200)
    channel = forms.ChoiceField(label=gettext_lazy("Channel"), required=False)
    status = forms.ChoiceField(label=gettext_lazy("Status"), required=False)
    when = forms.ChoiceField(label=pgettext_lazy("a time", "When"), required=False)
    day = forms.DateField(label=gettext_lazy("On the day"), required=False, input_formats=["%Y-%m-%d"])
    since = forms.DateTimeField(label=gettext_lazy("From"), required=False, input_formats=TIME_FORMATS)
    until = forms.DateTimeField(label=gettext_lazy("Before"), required=False, input_formats=TIME_FORMATS)
    least = forms.IntegerField(
        label=gettext_lazy("Tokens, at least"), required=False, min_value=0, max_value=10**9
    )
    most = forms.IntegerField(
        label=gettext_lazy("Tokens, at most"), required=False, min_value=0, max_value=10**9
    )
    event = forms.CharField(label=gettext_lazy("What"), required=False, max_length=60)
    rule = forms.CharField(label=gettext_lazy("Rule"), required=False, max_length=100)
    risk = forms.CharField(label=gettext_lazy("Risk"), required=False, max_length=30)
    sort = forms.ChoiceField(label=gettext_lazy("Order"), required=False, choices=list(SORTS.items()))
    zone = forms.Field(required=False)  # Whatever is no zone means UTC.

    def __init__(self, asked: Asked, *, reason: str = "") -> None:
        super().__init__({**asked.told(), "reason": reason})
        self._asked = asked
        offered: dict[str, list[tuple[str, Any]]] = {
            "group": [
                (str(pk), _("Everyone") if is_everyone else name)
                for pk, name, is_everyone in Group.objects.order_by("-is_everyone", "name").values_list(
                    "pk", "name", "is_everyone"
                )
            ],
            "status": [(code, look.label) for code, look in labels.STATES.items()],
            "channel": list(labels.CHANNELS.items()),
            "when": [(code, WHEN_LABELS[code]) for code in WHENS],
        }
        if not asked.text:  # Only the index of the search is in this order.
            offered["sort"] = [(code, words) for code, words in SORTS.items() if code != Sort.TOKENS]
        for name, options in offered.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = options if name == "sort" else [("", _("Any")), *options]

    @property
    def is_of_events(self) -> bool:
        """No model answers an event, and all of it came about here."""
        return self._asked.kind in KINDS and self._asked.kind != ""

    @property
    def shown(self) -> tuple[str, ...]:
        """The filters that can be filled in."""
        return OF_ALL if self.is_of_events else (*OF_ALL[:2], *OF_REQUESTS[:6], *OF_ALL[2:])

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if self.errors:
            return values
        try:
            since, until = self._asked.span()
        except ValueError:
            self.add_error("day", _("There is no such day in the records. Choose another."))
            return values
        if since and until and since >= until:
            self.add_error(
                "until" if values.get("until") else "when", _("No time is left between start and end.")
            )
        if values["least"] is not None and values["most"] is not None and values["least"] > values["most"]:
            self.add_error("most", _("This is less than the least. Enter a larger number."))
        return values

    def cleaned(self) -> Asked:
        """What is asked, without spaces around it, and without filters that do not go with the kind."""
        names = [name for name in self._asked.told() if name in self.fields]
        values = {name: getattr(self._asked, name).strip() for name in names}
        # As numbers are written everywhere: the field takes "5.0" as well.
        values |= {name: str(self.cleaned_data[name]) for name in ("least", "most") if values.get(name)}
        asked = replace(self._asked, **values)
        return replace(asked, **dict.fromkeys(OF_REQUESTS, "")) if self.is_of_events else asked


class Chip(NamedTuple):
    """A filter in force. `name`: of the field that taking it away empties."""

    name: str
    label: str
    value: str


@dataclass(frozen=True)
class Facet:
    """One column's commonest values. `set`: what a click on one sends."""

    name: str
    label: str
    values: list[dict[str, Any]]
    is_longer: bool


def chips(form: SearchForm, asked: Asked) -> list[Chip]:
    """The filters in force, in the order of the form; the words are in the box."""
    told = asked.told()
    names = [
        name
        for name in form.fields
        if name in told and name not in ("text", "kind", "sort", "zone", "reason")
    ]
    return [Chip(name, str(form.fields[name].label), _said(form, name, told[name])) for name in names]


def _said(form: SearchForm, name: str, value: str) -> str:
    field = form.fields[name]
    if isinstance(field, forms.ChoiceField):
        return str(dict(field.choices).get(value, value))  # type: ignore[arg-type]
    if name in ("since", "until"):
        return value.replace("T", " ")
    return labels.event(value) if name == "event" else value


# By column: (value, as people read it, how many), most first.
Counted = dict[str, list[tuple[str, str, int]]]


def counted(survey: Survey) -> Counted:
    """What a list without a search has in common."""
    return {
        name: [(value, value, count) for value, count in values] for name, values in survey.facets.items()
    }


def facets(found: Counted, asked: Asked) -> list[Facet]:
    """For the page, without those that one value alone fills and that narrow nothing."""
    told = asked.told()
    shown = []
    for name, label in FACET_LABELS.items():
        column = "model_version" if name == "version" else name
        values = [each for each in found.get(column, []) if each[0]]
        if not values or (len(values) == 1 and name not in told) or (asked.kind and name in OF_REQUESTS):
            continue
        rows = [
            {
                "set": f"{name}={value}",
                "label": _facet_value(name, value, words),
                "count": count,
                "chosen": told.get(name) == value,
            }
            for value, words, count in values[:FACET_MOST]
        ]
        shown.append(Facet(name, str(label), rows, len(values) > FACET_MOST))
    return shown


def _facet_value(name: str, value: str, words: str) -> str:
    named: dict[str, Any] = {"channel": labels.CHANNELS, "event": labels.EVENTS}
    if name == "status":
        return str(labels.state(value).label)
    return str(named.get(name, {}).get(value, words))


def suggestions(found: Counted) -> dict[str, list[str]]:
    """For the fields that are typed into: what the records at hand have there."""
    return {
        name: [value for value, _words, _count in found.get(column, []) if value][:50]
        for name, column in (("user", "user"), ("model", "model"), ("version", "model_version"))
    }
