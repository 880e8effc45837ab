"""Who used how much: by day, member, model and key, as charts and as tables; one's own without the right to see all."""

from datetime import timedelta
from typing import Any, NamedTuple

from django import forms
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from console.pages import limits
from console.pages.administration.forms import PageForm
from console.pages.listing import csv_response
from console.tenancy import TenantRequest, tenant_view
from tenants import clock
from tenants.actors import Actor, NotVisible
from tenants.errors import Refused
from tenants.quotas import selectors
from tenants.quotas.prices import total
from tenants.quotas.selectors import By, UsageRow
from tenants.roles import API_USE, CHAT_USE, USAGE_VIEW

USUAL_DAYS = 30
CHARTED_MOST = 8  # Of members, models and keys; the table has them all.


class RangeForm(PageForm):
    """Days in UTC, both included."""

    since = forms.DateField(label=gettext_lazy("From"), widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label=gettext_lazy("To"), widget=forms.DateInput(attrs={"type": "date"}))


class Part(NamedTuple):
    """Usage added up by one thing. heading: of its column in the table."""

    by: By
    title: str | Promise
    heading: str | Promise
    rows: list[UsageRow]
    charted: int


PARTS: dict[By, tuple[str | Promise, str | Promise]] = {
    "day": (gettext_lazy("By day"), gettext_lazy("Day (UTC)")),
    "member": (gettext_lazy("By member"), gettext_lazy("Member")),
    "model": (gettext_lazy("By model"), gettext_lazy("Model")),
    "key": (gettext_lazy("By API key"), gettext_lazy("API key")),
}


@require_safe
@tenant_view()
def page(request: TenantRequest) -> HttpResponse:
    actor = request.actor
    if not any(actor.can(each) for each in (USAGE_VIEW, CHAT_USE, API_USE)):
        raise NotVisible(USAGE_VIEW)
    today = clock.today()
    usual = {"since": f"{today - timedelta(days=USUAL_DAYS - 1)}", "until": f"{today}"}
    form = RangeForm({name: request.GET.get(name) or value for name, value in usual.items()})
    parts: list[Part] = []
    if form.is_valid():
        try:
            if request.GET.get("format") == "csv":
                return _csv(actor, request.GET.get("by", ""), form.cleaned_data)
            parts = [_part(actor, by, form.cleaned_data) for by in _offered(actor)]
        except Refused as error:
            form.add_error(error.field if error.field in form.fields else None, error.message)
    context = {
        "title": _("Usage"),
        "form": form,
        "is_chosen": any(request.GET.get(name) for name in usual),
        "parts": parts,
        "totals": _total(parts[0].rows) if parts else None,
        "charts": {part.by: _chart(part) for part in parts},
        "standings": [limits.of_standing(each) for each in selectors.status(actor)],
        "sees_all": actor.can(USAGE_VIEW),
    }
    return render(request, "administration/usage.html", context, status=422 if form.errors else 200)


def _offered(actor: Actor) -> list[By]:
    """Without the right to see everybody's, a person is the only member there is."""
    return [by for by in PARTS if by != "member" or actor.can(USAGE_VIEW)]


def _part(actor: Actor, by: By, days: dict[str, Any]) -> Part:
    title, heading = PARTS[by]
    rows = selectors.usage(actor, by=by, **days)
    return Part(by, title, heading, rows, len(rows) if by == "day" else min(len(rows), CHARTED_MOST))


def _total(rows: list[UsageRow]) -> UsageRow:
    summed = ("requests", "prompt_tokens", "completion_tokens", "cached_tokens", "refused")
    sums = {name: sum(getattr(row, name) for row in rows) for name in summed}
    return UsageRow(key="", label="", **sums, cost=total(row.cost for row in rows))


def _chart(part: Part) -> dict[str, list[Any]]:
    """What the scripts draw: {"labels", "tokens", "written"}."""
    rows = part.rows[: part.charted]
    return {
        "labels": [row.label for row in rows],
        "tokens": [row.tokens for row in rows],
        "written": [row.completion_tokens for row in rows],
    }


def _csv(actor: Actor, by: str, days: dict[str, Any]) -> HttpResponse:
    """The table of one part, or with no `by` every day, member, key and model apart."""
    name = f"{actor.tenant_slug}-usage-{days['since']}-{days['until']}"
    if not by:
        heading, *rows = selectors.usage_csv(actor, **days)
        return csv_response(name, heading, rows)
    if by not in _offered(actor):
        raise NotVisible(by)
    part = _part(actor, next(each for each in PARTS if each == by), days)
    heading = [str(part.heading), _("Requests"), _("Tokens"), _("Tokens read"), _("Tokens written")]
    heading += [_("Tokens from the cache"), _("Refused"), _("Cost")]
    figures = [
        [
            row.label,
            row.requests,
            row.tokens,
            row.prompt_tokens,
            row.completion_tokens,
            row.cached_tokens,
            row.refused,
            str(row.cost),
        ]
        for row in part.rows
    ]
    return csv_response(f"{name}-{by}", heading, figures)
