"""Founding a tenant: its row and settings, the routes to the models that everyone starts with, its first owner's way in."""

from django.db import transaction

from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants import lifecycle, people
from tenants.actors import platform_actor
from tenants.errors import Refused
from tenants.models import Invitation, Tenant, User
from tenants.roles import Role
from tenants.scope import tenant_scope


@transaction.atomic
def found_tenant(
    *, user: User, slug: str, name: str, owner_email: str, address: str = ""
) -> tuple[Tenant, Invitation, str]:
    """The tenant, the invitation of its first owner, and the token of its link, which cannot be had again.

    All or nothing. Raises NotVisible for whoever is no platform administrator, and Refused.
    """
    tenant = lifecycle.create_tenant(user=user, slug=slug, name=name, address=address)
    ensure_default_registry()
    with tenant_scope(tenant.pk):
        ensure_default_route()
        actor = platform_actor(user=user, tenant=tenant, address=address)
        try:
            invitation, token = people.invite(actor=actor, email=owner_email, role=Role.OWNER)
        except Refused as error:
            field = "owner_email" if error.field == "email" else error.field
            raise Refused(error.code, error.message, field) from error
    return tenant, invitation, token
