"""The figures of the review, each with its table; of people only for whoever manages them."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from audit.review import statistics
from audit.review.models import Outcome
from audit.review.statistics import Figures
from console.pages.listing import csv_response
from console.tenancy import TenantRequest, tenant_view
from tenants.roles import REVIEW_MANAGE, REVIEW_WORK

DAYS = (7, 30, 90)


@require_safe
@tenant_view(REVIEW_WORK)
def page(request: TenantRequest) -> HttpResponse:
    """?days=7, 30 or 90; ?format=csv: the figures of queues, sources and people as one file."""
    asked = request.GET.get("days", "")
    days = int(asked) if asked in {str(each) for each in DAYS} else 30
    figures = statistics.figures(request.actor, days=days)
    if request.GET.get("format") == "csv":
        return _csv(figures)
    context = {
        "title": _("Figures"),
        "review_page": "statistics",
        "may_manage": request.actor.can(REVIEW_MANAGE),
        "figures": figures,
        "days": days,
        "choices": DAYS,
        "agreement": None if figures.agreement is None else round(figures.agreement * 100),
        "ages": _bars([(_age(code), count) for code, count in figures.ages.items()]),
        "outcomes": _bars([(str(Outcome(code).label), count) for code, count in figures.outcomes.items()]),
        "daily": [
            (day, [counts[code] for code in Outcome.values], sum(counts.values()))
            for day, counts in reversed(figures.days)
            if sum(counts.values())
        ],
        "outcome_labels": [label for _code, label in Outcome.choices],
        "tables": [
            (_("By queue"), _("Queue"), [(row.label or _("Default queue"), row) for row in figures.queues]),
            (_("By what flagged"), _("Flagged by"), [(row.label, row) for row in figures.sources]),
        ],
        "outcome_codes": Outcome.values,
    }
    return render(request, "audit/review_statistics.html", context)


def _age(code: str) -> str:
    words = {
        "1": _("up to a day"),
        "3": _("up to 3 days"),
        "7": _("up to 7 days"),
        "30": _("up to 30 days"),
        "more": _("longer"),
    }
    return words[code]


def _bars(rows: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """(label, count, percent of the largest)."""
    most = max((count for _label, count in rows), default=0) or 1
    return [(label, count, round(100 * count / most)) for label, count in rows]


def _csv(figures: Figures) -> HttpResponse:
    heading: list[Any] = [
        _("Of"),
        _("Name"),
        _("Open"),
        _("Late"),
        *(label for _code, label in Outcome.choices),
        _("Hours to a decision (median)"),
    ]
    rows = [
        [kind, row.label or _("Default queue"), row.open, row.late, *row.decided.values(), row.hours]
        for kind, found in ((_("Queue"), figures.queues), (_("Flagged by"), figures.sources))
        for row in found
    ]
    return csv_response("review", heading, rows)
