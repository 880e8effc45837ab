"""The banner that a limit is nearly used up."""

from typing import Any

from django import template

from tenants.quotas import selectors
from tenants.scope import tenant_scope

register = template.Library()


@register.inclusion_tag("parts/quota_banner.html", takes_context=True)
def quota_banner(context: dict[str, Any]) -> dict[str, Any]:
    """For pages of a tenant: hidden while there is plenty, so that a script can show it later."""
    actor = context["request"].actor
    with tenant_scope(actor.tenant_id):
        return {"banner": selectors.banner(actor)}
