"""What the tests of rollouts share: the built-in deployment, and an upstream beside it that counts as ready."""

import pytest

from inference.deployments import services as deployments
from inference.registry.models import Deployment, Route
from inference.registry.operators import Operator, operator
from inference.registry.services import ensure_default_registry, ensure_default_route
from inference.rollouts.selectors import remembered
from tenants.models import User
from tenants.scope import tenant_scope
from tests.conftest import Company


@pytest.fixture
def by(platform_administrator: User) -> Operator:
    return operator(platform_administrator)


@pytest.fixture(autouse=True)
def fresh() -> None:
    """What another test's rollouts were is not remembered."""
    remembered.forget()


@pytest.fixture
def baseline(db: None) -> Deployment:
    ensure_default_registry()
    return Deployment.objects.get(name=Deployment.EMBEDDED)


@pytest.fixture
def candidate(by: Operator, baseline: Deployment) -> Deployment:
    return deployments.create_upstream(
        by=by,
        name="other",
        base_url="http://127.0.0.1:9/",
        upstream_model="smollm2",
        version_id=baseline.version_id,
    )


def route_of(company: Company) -> Route:
    """The company's route to the built-in model."""
    with tenant_scope(company.tenant.pk):
        return ensure_default_route()
