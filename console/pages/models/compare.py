"""Two versions side by side: what they are, how fast, how good. What differs is marked."""

from typing import Any, NamedTuple
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from console.pages.models import words
from console.tenancy import platform_view
from inference.registry import selectors
from inference.registry.models import ModelVersion


class Row(NamedTuple):
    label: str
    left: str
    right: str

    @property
    def differs(self) -> bool:
        return self.left != self.right


@require_safe
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    """?v=…&v=…: two versions. With fewer or more the page says what to do."""
    asked = [found for text in dict.fromkeys(request.GET.getlist("v")) if (found := _version(text))]
    choices = selectors.versions().order_by("model__name", "-number")
    context: dict[str, Any] = {
        "title": _("Compare versions"),
        "choices": choices,
        "asked": request.GET.getlist("v"),
    }
    if len(asked) == 2:
        left, right = asked
        context |= {"left": left, "right": right, "sections": _sections(left, right)}
    return render(request, "models/compare.html", context)


def _version(text: str) -> ModelVersion | None:
    try:
        return selectors.versions().filter(pk=UUID(text)).first()
    except ValueError:
        return None


def _sections(left: ModelVersion, right: ModelVersion) -> list[tuple[str, list[Row]]]:
    stages = [str(words.STAGES[selectors.stage_of(each)].label) for each in (left, right)]
    identity = [
        Row(_("Stage"), *stages),
        Row(_("Source"), *(f"{each.source} @ {each.revision}" for each in (left, right))),
        Row(_("Digest"), left.digest, right.digest),
    ]
    facts = _rows(dict(words.facts(left)), dict(words.facts(right)))
    figures = [
        {words.metric_label(name): words.measured(row) for name, row in selectors.figures_of(each).items()}
        for each in (left, right)
    ]
    names = sorted({*left.files, *right.files})
    files = [Row(name, _digest(left, name), _digest(right, name)) for name in names]
    found = [
        (_("Settings"), identity + facts),
        (_("Speed and quality"), _rows(*figures)),
        (_("Files"), files),
    ]
    return [(title, rows) for title, rows in found if rows]


def _rows(left: dict[str, str], right: dict[str, str]) -> list[Row]:
    return [Row(label, left.get(label, "–"), right.get(label, "–")) for label in {**left, **right}]


def _digest(version: ModelVersion, name: str) -> str:
    return version.files[name]["sha256"][:16] if name in version.files else "–"
