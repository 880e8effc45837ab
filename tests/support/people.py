"""More people than a company has for each role."""

from tenants.access import Actor
from tenants.models import Membership, User
from tenants.scope import tenant_scope
from tests.conftest import Company


def with_role(company: Company, user: User, role: str) -> Actor:
    """The person as a member with this role."""
    with tenant_scope(company.tenant.pk):
        Membership.objects.create(user=user, role=role)
    return company.actor(user)
