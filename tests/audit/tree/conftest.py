"""What the tests of the log share: people of two companies, and a witness of their own where they ask for one."""

import pytest

from tenants.access import Actor
from tests.conftest import Company


@pytest.fixture
def northerner(north: Company) -> Actor:
    return north.actor(north.member)


@pytest.fixture
def officer(acme: Company) -> Actor:
    return acme.actor(acme.officer)
