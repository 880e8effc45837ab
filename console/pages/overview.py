"""The tenant administrator's dashboard: figures of requests, never their content."""

from typing import Any, NamedTuple

from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from audit import statistics
from console.pages import labels
from console.tenancy import TenantRequest, tenant_view
from tenants.roles import OVERVIEW_VIEW


class Window(NamedTuple):
    minutes: int
    buckets: int
    label: str | Promise


WINDOWS = (Window(15, 60, _("15 min")), Window(60, 60, _("1 hour")), Window(24 * 60, 96, _("24 hours")))
DEFAULT = WINDOWS[1]


@require_safe
@tenant_view(OVERVIEW_VIEW)
def page(request: TenantRequest) -> HttpResponse:
    window = _window(request)
    figures = _figures(request, window)
    totals = figures["totals"]
    error_rate = 100 * totals["errors"] / totals["requests"] if totals["requests"] else 0
    context = {
        "figures": figures,
        "error_rate": error_rate,
        "speed": 1000 / totals["itl_p50_ms"] if totals["itl_p50_ms"] else None,
        "windows": WINDOWS,
        "window": window,
    }
    return render(request, "pages/overview.html", context)


@require_safe
@tenant_view(OVERVIEW_VIEW)
def data(request: TenantRequest) -> JsonResponse:
    """What the page shows, again: `audit.statistics.overview`, each recent request with the look of its state."""
    return JsonResponse(_figures(request, _window(request)))


def _window(request: TenantRequest) -> Window:
    """The window asked for by ?minutes=; the default for anything else."""
    return next((each for each in WINDOWS if str(each.minutes) == request.GET.get("minutes")), DEFAULT)


def _figures(request: TenantRequest, window: Window) -> dict[str, Any]:
    figures = statistics.overview(request.actor, minutes=window.minutes, buckets=window.buckets)
    for recent in figures["recent"]:
        look = labels.state(recent["status"])
        recent["state"] = {"tone": look.tone, "icon": look.icon, "label": str(look.label)}
        recent["channel_label"] = str(labels.CHANNELS.get(recent["channel"], recent["channel"]))
    return figures
