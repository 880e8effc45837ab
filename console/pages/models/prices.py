"""What tokens cost: prices of models, and what each tenant spent on which."""

from datetime import date
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from console.pages.administration.forms import Failed, PageForm, attempt, posted, status_of
from console.pages.listing import csv_response
from console.pages.models import words
from console.tenancy import platform_view
from inference.registry import prices
from inference.registry.models import Model
from tenants import clock
from tenants.quotas.models import Price
from tenants.quotas.prices import current, total

HISTORY = 50
MOST_DAYS = 366


class PriceForm(PageForm):
    model_id = forms.ModelChoiceField(
        Model.objects.order_by("name"), label=gettext_lazy("Model"), empty_label=None
    )
    since = forms.DateField(label=gettext_lazy("From"), widget=forms.DateInput(attrs={"type": "date"}))
    currency = forms.CharField(label=gettext_lazy("Currency"), max_length=3)
    read = forms.DecimalField(label=gettext_lazy("A million tokens read"), min_value=0, decimal_places=4)
    cached = forms.DecimalField(
        label=gettext_lazy("A million tokens from the cache"), min_value=0, decimal_places=4
    )
    written = forms.DecimalField(
        label=gettext_lazy("A million tokens written"), min_value=0, decimal_places=4
    )


class SpanForm(PageForm):
    """Days in UTC, both included."""

    first = forms.DateField(label=gettext_lazy("From"), widget=forms.DateInput(attrs={"type": "date"}))
    last = forms.DateField(label=gettext_lazy("To"), widget=forms.DateInput(attrs={"type": "date"}))

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        first, last = said.get("first"), said.get("last")
        if first and last and not 0 <= (last - first).days < MOST_DAYS:
            self.add_error(
                "last", _("Choose at most %(most)d days, the first before the last.") % {"most": MOST_DAYS}
            )
        return said


@require_http_methods(["GET", "HEAD", "POST"])
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    today = clock.today()
    form = PriceForm(*posted(request), initial=_initial(today))
    if form.is_bound and form.is_valid():
        asked = form.cleaned_data | {"model_id": form.cleaned_data["model_id"].pk}
        done = attempt(form, lambda: prices.set_price(by=words.acting(request), **asked))
        if not isinstance(done, Failed):
            messages.success(request, _("The price is kept."))
            return redirect("prices")
    usual = {"first": f"{today.replace(day=1)}", "last": f"{today}"}
    span = SpanForm({name: request.GET.get(name) or value for name, value in usual.items()})
    rows = prices.spent(span.cleaned_data["first"], span.cleaned_data["last"]) if span.is_valid() else []
    if request.GET.get("format") == "csv" and span.is_valid():
        return _csv(span.cleaned_data["first"], span.cleaned_data["last"], rows)
    known = current(today)
    context = {
        "title": _("Prices and costs"),
        "form": form,
        "span": span,
        "rows": rows,
        "total": total(row.cost for row in rows),
        "models": [(model, known.get(model.name)) for model in Model.objects.order_by("name")],
        "history": Price.objects.order_by("-pk")[:HISTORY],
        "today": today,
    }
    return render(
        request, "models/prices.html", context, status=status_of(form) if form.errors else status_of(span)
    )


def _initial(today: date) -> dict[str, Any]:
    last = Price.objects.order_by("-pk").first()
    return {"since": today, "currency": last.currency if last else "", "cached": Decimal(0)}


def _csv(first: date, last: date, rows: list[prices.Spent]) -> HttpResponse:
    heading = [_("Tenant"), _("Model"), _("Tokens read"), _("Tokens written"), _("Cost")]
    figures = [
        [row.tenant, row.model, row.prompt_tokens, row.completion_tokens, str(row.cost)] for row in rows
    ]
    return csv_response(f"costs-{first}-{last}", heading, figures)
