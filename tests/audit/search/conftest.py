"""What the search's tests share: a generation that says something, an index, and what is found."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from audit.search import index
from audit.search.engine import Found, Search, find
from tenants.access import Actor
from tests.audit.conftest import generation

REASON = "sample"


def say(actor: Actor, text: str, answer: str = "", **changes: Any) -> UUID:
    """Record a generation in which a person said something, and maybe the model."""
    return generation(
        actor, input=[{"role": "user", "content": text}], texts=(answer,) if answer else (), **changes
    ).request_id


def look(actor: Actor, text: str = "", **filters: Any) -> Found:
    return find(actor, Search(text, **filters), reason=REASON)


def ids(actor: Actor, text: str = "", **filters: Any) -> list[UUID]:
    """What a search finds on its first page."""
    return [hit.summary.id for hit in look(actor, text, **filters).hits]


@pytest.fixture(params=["waiting", "indexed"])
def settle(request: pytest.FixtureRequest) -> Callable[[], object]:
    """Called before searching: once with records in the index, once while they wait to be."""
    return index.index_waiting if request.param == "indexed" else lambda: None
