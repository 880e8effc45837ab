import pytest

from tenants.access import create_api_key
from tests.chat.fixtures import browser, inference_here, live_acme, live_north, stack
from tests.conftest import Company

__all__ = ["browser", "inference_here", "live_acme", "live_north", "stack"]


@pytest.fixture
def key(live_acme: Company) -> str:
    """An API key of Acme Bank."""
    return create_api_key(tenant_slug="acme-bank", name="robot")
