"""What the routing tests share: a company with a route, and deployments of the default model."""

from collections.abc import Callable

import pytest

from inference.registry.models import Deployment, Route
from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants.scope import tenant_scope
from tests.conftest import Company

Deployed = Callable[[str], Deployment]


@pytest.fixture
def route(acme: Company) -> Route:
    ensure_default_registry()
    with tenant_scope(acme.tenant.pk):
        return ensure_default_route()


@pytest.fixture
def deployed(route: Route) -> Deployed:
    """Another deployment of the same version, elsewhere."""

    def make(name: str) -> Deployment:
        return Deployment.objects.create(
            name=name, version=route.deployment.version, base_url=f"http://{name}.example/v1"
        )

    return make
