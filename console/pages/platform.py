"""Platform health, for platform administrators: processes and inference. Nobody's content."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from console import health
from console.tenancy import platform_view
from inference.client import InferenceUnavailable


@require_safe
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/platform.html", {"state": _state()})


@require_safe
@platform_view
def data(request: HttpRequest) -> JsonResponse:
    """{"parts": [{"name", "label", "ok", "detail"}], "inference": {…} or null}."""
    return JsonResponse(_state())


def part_label(name: str) -> str:
    """What a part of the product is called on pages."""
    names = {
        "database": _("Database"),
        "valkey": _("Queue and streams"),
        "inference": _("Inference"),
        "worker": _("Background work"),
    }
    return names.get(name, name)


def _state() -> dict[str, Any]:
    parts = [{"name": name, "label": part_label(name), **part} for name, part in health.parts().items()]
    return {"parts": parts, "inference": _inference()}


def _inference() -> dict[str, Any] | None:
    try:
        figures = health.inference()
    except InferenceUnavailable:
        return None
    return {**figures, "state": health.inference_state(figures["state"])}
