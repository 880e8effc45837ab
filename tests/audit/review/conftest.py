"""What the review tests share: a flagged record, and one more reviewer than a company has."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from audit.review.flags import Raised, raise_flag
from audit.review.models import ReviewItem
from tenants.access import Actor
from tenants.models import Membership, User
from tenants.scope import tenant_scope
from tests.audit.conftest import generation
from tests.conftest import Company, make_user


@pytest.fixture
def anna(acme: Company) -> User:
    """A second reviewer."""
    user = make_user("anna@acme-bank.example", name="Anna Berg")
    with tenant_scope(acme.tenant.pk):
        Membership.objects.create(user=user, role="reviewer")
    return user


@pytest.fixture
def officer(acme: Company) -> Actor:
    return acme.actor(acme.officer)


@pytest.fixture
def asked(member: Actor) -> UUID:
    """The id of a record of Acme's member."""
    return generation(member).request_id


@pytest.fixture
def flagged(reviewer: Actor, asked: UUID) -> Raised:
    """That record under review, by the hand of the reviewer."""
    return raise_flag(actor=reviewer, request_id=asked, source="hand", reason="It smells.")


@pytest.fixture
def item_now(acme: Company) -> Callable[[UUID], ReviewItem]:
    """How an item stands now, whoever may see it."""

    def read(item_id: UUID) -> Any:
        with tenant_scope(acme.tenant.pk):
            return ReviewItem.objects.select_related("queue").get(pk=item_id)

    return read
