"""What the page tests share: recorded generations, and all pages by who may open them."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.utils import translation

from tenants.models import User
from tests.audit.conftest import (
    generation,
    owner,  # noqa: F401 (a fixture)
)
from tests.conftest import Company

QUESTION = "Who really owns the harbour company?"
ANSWER = "The harbour belongs to <b>nobody</b> & everyone."


@pytest.fixture(autouse=True)
def english() -> None:
    translation.activate("en")


@pytest.fixture
def recorded(acme: Company) -> str:
    """The id of a chat answer given to Acme's member."""
    asked = [{"role": "user", "content": QUESTION}]
    handle = generation(acme.actor(acme.member), texts=(ANSWER[:10], ANSWER[10:]), input=asked)
    return str(handle.request_id)


@pytest.fixture
def member_browser(acme: Company, client_of: Callable[[User], Client]) -> Client:
    return client_of(acme.member)


@pytest.fixture
def administrator_browser(acme: Company, client_of: Callable[[User], Client]) -> Client:
    return client_of(acme.administrator)


@pytest.fixture
def reviewer_browser(acme: Company, client_of: Callable[[User], Client]) -> Client:
    return client_of(acme.reviewer)
