"""Where people land, and what the command palette finds."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from console.chat import selectors
from console.pages import navigation
from console.pages.navigation import person
from console.tenancy import TenantRequest, tenant_view
from tenants.access import memberships_of
from tenants.roles import CHAT_USE


@require_safe
@login_required
def home(request: HttpRequest) -> HttpResponse:
    """The first workspace, else the platform page, else a page that says whom to ask."""
    memberships = memberships_of(person(request))
    if memberships:
        return redirect("tenant", memberships[0].tenant.slug)
    if person(request).is_platform_administrator:
        return redirect("platform")
    return render(request, "pages/no_workspace.html")


@require_safe
@tenant_view()
def tenant(request: TenantRequest) -> HttpResponse:
    """The first area that the person's role opens."""
    start = navigation.landing(request.actor)
    return redirect(start) if start else render(request, "pages/no_area.html")


@require_safe
@tenant_view(CHAT_USE)
def palette(request: TenantRequest) -> JsonResponse:
    """The person's own conversations: {"conversations": [{"title", "url"}]}, newest first."""
    found = selectors.conversations_listed(request.actor)
    slug = request.actor.tenant_slug
    return JsonResponse(
        {
            "conversations": [
                {"title": each["title"], "url": reverse("conversation", args=[slug, each["id"]])}
                for each in found
            ]
        }
    )
