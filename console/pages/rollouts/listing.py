"""All rollouts, those under way first."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from console.pages.rollouts import words
from console.tenancy import platform_view
from inference.rollouts import selectors

MOST = 200


@require_safe
@platform_view
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "rollouts/list.html", {"title": _("Rollouts"), **_state()})


@require_safe
@platform_view
def state(request: HttpRequest) -> HttpResponse:
    """What of the page changes by itself."""
    return render(request, "rollouts/list_state.html", _state())


def _state() -> dict[str, Any]:
    found = sorted(selectors.rollouts()[:MOST], key=lambda rollout: not rollout.is_open)
    return {"rows": [(rollout, words.STATES[rollout.state]) for rollout in found]}
