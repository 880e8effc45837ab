"""The way in: to the first tab that the person may open."""

from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_safe

from console.pages import tabs
from console.pages.administration.areas import AREAS
from console.tenancy import TenantRequest, tenant_view
from tenants.actors import NotVisible


@require_safe
@tenant_view()
def first(request: TenantRequest) -> HttpResponse:
    found = tabs.open_to(request.actor, AREAS)
    if not found:
        raise NotVisible("administration")
    return redirect(found[0].url_name, slug=request.actor.tenant_slug)
