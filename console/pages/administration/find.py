"""People and groups by a few letters, for the command palette and for fields that ask for somebody."""

from django.http import JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from console.tenancy import TenantRequest, tenant_view
from tenants import groups, people

MOST = 8


@require_safe
@tenant_view()
def page(request: TenantRequest) -> JsonResponse:
    """?q=…: {"people": [{"label", "email", "url"}], "groups": [{"label", "url"}]}; nothing for nothing."""
    slug, words = request.actor.tenant_slug, request.GET.get("q", "").strip()
    members = people.members(request.actor, words).values_list("pk", "user__name", "user__email")
    found = groups.groups(request.actor, words).filter(is_everyone=False).values_list("pk", "name")
    return JsonResponse(
        {
            "people": [
                {
                    "label": f"{name} · {email}" if name else email,
                    "email": email,
                    "url": reverse("member", args=[slug, pk]),
                }
                for pk, name, email in members[: MOST if words else 0]
            ],
            "groups": [
                {"label": name, "url": reverse("group", args=[slug, pk])}
                for pk, name in found[: MOST if words else 0]
            ],
        }
    )
