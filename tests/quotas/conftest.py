"""Setting limits and reserving as the product does, over the run's PostgreSQL and Valkey."""

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import pytest

from tenants import valkey
from tenants.actors import Actor, platform_actor
from tenants.ids import uuid7
from tenants.models import User
from tenants.quotas import reservations
from tenants.quotas.models import Limit
from tenants.quotas.reservations import Reservation
from tenants.quotas.services import set_limit
from tenants.scope import tenant_scope
from tests.conftest import Company, make_company

SetLimit = Callable[..., Limit]


@pytest.fixture(autouse=True)
async def own_connections() -> AsyncIterator[None]:
    """Of each test's event loop."""
    yield
    await valkey.close_client()


@pytest.fixture
def acme(transactional_db: None) -> Company:
    """Committed, so that the threads in which limits are looked up see it."""
    return make_company("acme-bank", "Acme Bank")


@pytest.fixture
def north(transactional_db: None) -> Company:
    return make_company("north-fund", "North Fund")


def limited(
    company: Company, metric: str, value: int, kind: str = "tenant", subject: UUID | None = None
) -> Limit:
    """A limit as the tenant's administrator sets it."""
    return limited_by(company.actor(company.administrator), metric, value, kind, subject)


def limited_by(
    actor: Actor, metric: str, value: int, kind: str = "tenant", subject: UUID | None = None
) -> Limit:
    with tenant_scope(actor.tenant_id):
        return set_limit(actor=actor, subject_kind=kind, subject_id=subject, metric=metric, value=value)


def platform_of(company: Company) -> Actor:
    user, _created = User.objects.get_or_create(
        email="platform@custos.example", is_platform_administrator=True
    )
    return platform_actor(user=user, tenant=company.tenant)


async def reserve(actor: Actor, tokens: int, **fields: Any) -> Reservation:
    return await reservations.reserve(
        actor=actor, request_id=uuid7(), route="r", model="m", tokens=tokens, **fields
    )


async def use(actor: Actor, tokens: int) -> None:
    """One request from beginning to end."""
    reservation = await reserve(actor, tokens)
    await reservations.settle(reservation, prompt_tokens=tokens, completion_tokens=0)


def in_scope(_actor: Actor, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with tenant_scope(_actor.tenant_id):
        return function(*args, **kwargs)
