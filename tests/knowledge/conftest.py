"""Bases and documents made by the services, as the curator does. Straight into the tables: tests/support/knowledge.py."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from knowledge import bases, uploads
from knowledge.models import Base, Document
from tenants import access
from tenants.access import Actor, Level
from tenants.models import Group
from tenants.scope import tenant_scope
from tests.conftest import Company


@pytest.fixture
def inside(acme: Company) -> Iterator[Company]:
    """Acme Bank with its scope open."""
    with tenant_scope(acme.tenant.pk):
        yield acme


@pytest.fixture
def curator(acme: Company) -> Actor:
    return acme.actor(acme.curator)


@pytest.fixture
def member(acme: Company) -> Actor:
    return acme.actor(acme.member)


@pytest.fixture
def base(inside: Company, curator: Actor) -> Base:
    """Of the curator; everyone may ask it."""
    made = bases.make_base(actor=curator, name="Rules", description="What holds for us")
    access.put_grant(made, Group.objects.get(is_everyone=True), Level.VIEWER)
    return made


def add(
    actor: Actor, base_id: UUID, name: str = "law.txt", text: str = "Banks report large payments."
) -> Document:
    """A document in a base, whose file waits for the worker."""
    return uploads.upload(actor=actor, base_id=base_id, name=name, content=text.encode()).document
