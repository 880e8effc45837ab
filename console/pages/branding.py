"""How a tenant's pages show whose they are: its name for itself, its colour, its logo."""

from typing import NamedTuple

from django.db.models import CharField, F, Func
from django.urls import reverse
from django_scopes import get_scope

from tenants.actors import Actor
from tenants.models import TenantSettings


class Branding(NamedTuple):
    """name: "" for the product's own. accent: a colour of tokens.css. logo: its address, or ""."""

    name: str
    accent: str
    logo: str


def branding_of(actor: Actor) -> Branding | None:
    """None outside the actor's tenant scope: error pages, drawn after it closed, need no database."""
    if get_scope().get("tenant") != actor.tenant_id:
        return None
    # The address changes with the picture, so that browsers may keep it.
    version = Func(F("logo"), function="md5", output_field=CharField())
    found = TenantSettings.objects.values_list("display_name", "accent", version).first()
    if found is None:
        return None
    name, accent, digest = found
    logo = f"{reverse('logo', args=[actor.tenant_slug])}?v={digest[:12]}" if digest else ""
    return Branding(name, accent, logo)
