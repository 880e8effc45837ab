"""All deployments and how they are, and the memory that they share."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from console.pages.deployments import words
from console.tenancy import platform_view
from inference.deployments import capacity, selectors
from inference.registry.models import Deployment


@require_safe
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "deployments/list.html", {"title": _("Deployments"), **_state()})


@require_safe
@platform_view
def state(request: HttpRequest) -> HttpResponse:
    """What of the page changes by itself."""
    return render(request, "deployments/list_state.html", _state())


def _state() -> dict[str, Any]:
    standings, routes = selectors.standings(), selectors.routes_by_deployment()
    rows = [
        (
            each,
            words.STATES[each.state],
            words.trouble(each.trouble, each.trouble_detail),
            routes.get(each.deployment.pk, []),
        )
        for each in standings
    ]
    taken = sum(row.memory_mb for each in standings for row in each.instances)
    managed = any(each.deployment.kind == Deployment.Kind.MANAGED for each in standings)
    return {"rows": rows, "taken": taken, "budget": capacity.budget_mb(), "has_managed": managed}
