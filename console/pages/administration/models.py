"""The workspace's routes and the models that they lead to, for whoever operates them."""

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from console.pages.models import words
from console.tenancy import TenantRequest, tenant_view
from inference.registry.selectors import routed_versions
from inference.routing import selectors
from tenants.roles import MODELS_OPERATE


@require_safe
@tenant_view(MODELS_OPERATE)
def page(request: TenantRequest) -> HttpResponse:
    rows = [
        (version, words.STAGES[version.stage], words.many(version.parameters), routes)
        for version, routes in routed_versions(request.actor)
    ]
    context = {"title": _("Models"), "rows": rows, "routes": selectors.routes()}
    return render(request, "administration/models.html", context)
