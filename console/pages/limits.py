"""Limits as pages show them: whose, how much, where they stand, in words and as a bar; and the form that sets one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.pages.administration.confirm import Question
from console.pages.administration.forms import PageForm
from tenants.actors import NotVisible
from tenants.quotas import wording
from tenants.quotas.counters import Standing
from tenants.quotas.models import Limit, Metric, SubjectKind
from tenants.quotas.selectors import WARN_PERCENT, LimitRow

# Written between digits in one language or another; none of them changes the number.
_BETWEEN_DIGITS = str.maketrans("", "", " ,'_’\u00a0\u202f")


class ValueField(forms.CharField):
    """A whole number as people type it: 1000000, 1,000,000 or 1 000 000."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("label", gettext_lazy("At most"))
        kwargs.setdefault("max_length", 30)
        kwargs.setdefault("widget", forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}))
        super().__init__(**kwargs)

    def clean(self, value: Any) -> int:
        digits = super().clean(value).translate(_BETWEEN_DIGITS)
        if not (digits.isascii() and digits.isdigit()):
            raise forms.ValidationError(_("Enter a whole number; 0 allows nothing."))
        return int(digits)


class CeilingForm(PageForm):
    """A limit of the tenant as a whole."""

    metric = forms.ChoiceField(label=gettext_lazy("Of what"), choices=Metric)
    value = ValueField(help_text=gettext_lazy("Storage in bytes: 1 GB is 1,073,741,824."))


class RemovalForm(forms.Form):
    """Which limit: by what the services know it. `subject_id`: empty for the tenant, every member, every key."""

    subject_kind = forms.ChoiceField(choices=SubjectKind)
    subject_id = forms.UUIDField(required=False)
    metric = forms.ChoiceField(choices=Metric)


@dataclass(frozen=True)
class Shown:
    """A limit in words. percent: of it used; None where that is not counted together or not known. tone: of the bar."""

    limit: Limit
    subject: str
    metric: str
    value: str
    used: str
    percent: int | None
    tone: str
    may_change: bool


def shown(row: LimitRow, *, may_change: bool) -> Shown:
    limit, standing = row.limit, row.standing
    metric = Metric(limit.metric)
    percent = standing.percent if standing else None
    return Shown(
        limit=limit,
        subject=row.subject or _SUBJECTS[SubjectKind(limit.subject_kind)](),
        metric=str(metric.label),
        value=amount(metric, limit.value),
        used=_used(row, metric),
        percent=percent if percent is None else min(percent, 100),
        tone=_tone(percent),
        may_change=may_change,
    )


def of_standing(standing: Standing) -> Shown:
    """A limit as it binds whoever looks."""
    rule = standing.rule
    limit = Limit(subject_kind=rule.kind, subject_id=rule.subject, metric=rule.metric, value=rule.value)
    row = LimitRow(limit=limit, subject=wording.subject(rule), standing=standing)
    return shown(row, may_change=False)


def amount(metric: Metric, value: int) -> str:
    if metric == Metric.STORAGE_BYTES:
        return filesizeformat(value)
    return number_format(value, use_l10n=True, force_grouping=True)


_SUBJECTS = {
    SubjectKind.TENANT: lambda: _("The whole workspace"),
    SubjectKind.GROUP: lambda: "",
    SubjectKind.MEMBER: lambda: _("Every member"),
    SubjectKind.KEY: lambda: _("Every key"),
}


def _used(row: LimitRow, metric: Metric) -> str:
    if row.standing is None:
        return _("counted for each alone")
    if row.standing.used is None:
        return _("not known now")
    return amount(metric, row.standing.used)


def _tone(percent: int | None) -> str:
    if percent is None or percent < WARN_PERCENT:
        return "ok"
    return "warn" if percent < 100 else "bad"


def removal(
    request: HttpRequest, rows: Sequence[LimitRow], form: RemovalForm, *, action: str, back: str
) -> Question:
    """The question before a limit goes, which must be one of `rows`. Raises NotVisible."""
    asked = form.cleaned_data if form.is_valid() else {}
    wanted = tuple(asked.get(name) for name in form.fields)
    for row in rows:
        if (row.limit.subject_kind, row.limit.subject_id, row.limit.metric) == wanted:
            limit = shown(row, may_change=row.may_change)
            return Question(
                title=_("Remove this limit?"),
                text=_("From now on it binds nobody. What was used goes on being counted."),
                names=[f"{limit.subject} · {limit.metric}: {limit.value}"],
                button=_("Remove"),
                action=action,
                back=back,
                hidden=[(name, request.POST.get(name, "")) for name in form.fields],
            )
    raise NotVisible("limit")
