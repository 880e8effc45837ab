"""All versions of all models, filtered, sorted, and ticked for a comparison."""

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from console.pages.listing import Column, Listing, csv_response
from console.pages.models import words
from console.tenancy import platform_view
from inference.registry import selectors
from inference.registry.models import ModelImport, ModelVersion, Stage
from tenants.words import search_words

COLUMNS = (
    Column("version", gettext_lazy("Version"), ("model__name", "number")),
    Column("stage", gettext_lazy("Stage"), ("stage", "model__name")),
    Column("precision", gettext_lazy("Precision"), ("precision", "model__name")),
    Column("parameters", gettext_lazy("Parameters"), ("parameters",), number=True),
    Column("context", gettext_lazy("Context"), ("context_tokens",), number=True),
    Column("source", gettext_lazy("Source"), ("source_kind", "model__name")),
    Column("created", gettext_lazy("Since"), ("created",)),
)


@require_safe
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    found = selectors.versions().order_by("model__name", "-number")
    for word in search_words(request.GET.get("q", "")):
        found = found.filter(
            Q(model__name__icontains=word) | Q(model__title__icontains=word) | Q(architecture__icontains=word)
        )
    stage, kind = request.GET.get("stage", ""), request.GET.get("kind", "")
    if stage in Stage.values:
        found = found.filter(stage=stage)
    if kind in ModelVersion.Kind.values:
        found = found.filter(kind=kind)
    listing = Listing(request, found, COLUMNS, kept=("stage", "kind"))
    if request.GET.get("format") == "csv":
        return _csv(listing)
    context = {
        "title": _("Models"),
        "listing": listing,
        "rows": [(row, words.STAGES[row.stage], words.many(row.parameters)) for row in listing.page],
        "stages": [("", _("Any")), *Stage.choices],
        "stage": stage,
        "kinds": [("", _("Any")), *ModelVersion.Kind.choices],
        "kind": kind,
        "unfinished": [
            (row, words.IMPORTS[row.state])
            for row in ModelImport.objects.exclude(state=ModelImport.State.DONE).order_by("-pk")[:10]
        ],
    }
    return render(request, "models/list.html", context)


def _csv(listing: Listing) -> HttpResponse:
    heading = [column.label for column in COLUMNS] + [_("Digest")]
    rows = [
        [
            str(row),
            Stage(row.stage).label,
            row.precision,
            row.parameters,
            row.context_tokens,
            f"{row.source_kind}:{row.source}@{row.revision}",
            row.created.isoformat(),
            row.digest,
        ]
        for row in listing.rows
    ]
    return csv_response("models", heading, rows)
