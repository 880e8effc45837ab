"""Platform health, for platform administrators: processes, inference, tenants. Nobody's content."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from console import health
from console.pages.navigation import person
from inference.client import InferenceUnavailable
from tenants.models import Tenant

View = Callable[[HttpRequest], HttpResponse]


def platform_view(view: View) -> View:
    """For platform administrators; to anybody else who is signed in, the page does not exist."""

    @wraps(view)
    def wrapped(request: HttpRequest) -> HttpResponse:
        if not person(request).is_platform_administrator:
            raise Http404
        return view(request)

    return require_safe(login_required(wrapped))


@platform_view
def page(request: HttpRequest) -> HttpResponse:
    context = {"state": _state(), "tenants": Tenant.objects.order_by("name")}
    return render(request, "pages/platform.html", context)


@platform_view
def data(request: HttpRequest) -> JsonResponse:
    """{"parts": [{"name", "label", "ok", "detail"}], "inference": {…} or null}."""
    return JsonResponse(_state())


def _state() -> dict[str, Any]:
    names = {
        "database": _("Database"),
        "valkey": _("Queue and streams"),
        "inference": _("Inference"),
        "worker": _("Background work"),
    }
    parts = [{"name": name, "label": names.get(name, name), **part} for name, part in health.parts().items()]
    return {"parts": parts, "inference": _inference()}


def _inference() -> dict[str, Any] | None:
    try:
        figures = health.inference()
    except InferenceUnavailable:
        return None
    return {**figures, "state": health.inference_state(figures["state"])}
