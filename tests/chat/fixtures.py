"""Fixtures for the live chat and API, loaded as a plugin by tests/conftest.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from pytest_django.fixtures import Settings

from inference.registry.services import ensure_default_registry, ensure_default_route
from tenants.access import create_api_key
from tenants.scope import tenant_scope
from tests.chat.browser import Browser
from tests.chat.stack import TOKEN, Stack, inference_process, web_process
from tests.conftest import Company, make_company


@pytest.fixture(scope="session")
def stack(django_db_setup: None) -> Iterator[Stack]:
    """Started once; both processes."""
    inference = inference_process()
    web = web_process(inference_url=inference.url)
    inference.start()
    web.start()
    try:
        web.wait_ready()
        inference.wait_ready()
        yield Stack(inference, web)
    finally:
        web.stop()
        inference.stop()


@pytest.fixture
def live_acme(transactional_db: None) -> Company:
    """Acme Bank with a default route, committed, so that other processes see it."""
    return _with_route(make_company("acme-bank", "Acme Bank"))


@pytest.fixture
def live_north(transactional_db: None) -> Company:
    return _with_route(make_company("north-fund", "North Fund"))


def _with_route(company: Company) -> Company:
    ensure_default_registry()
    with tenant_scope(company.tenant.pk):
        ensure_default_route()
    return company


@pytest.fixture
async def browser(stack: Stack) -> AsyncIterator[Browser]:
    opened = Browser(stack)
    yield opened
    await opened.close()


@pytest.fixture
def inference_here(stack: Stack, settings: Settings) -> Stack:
    """Code in the test process uses the live inference process as well."""
    settings.INFERENCE_URL, settings.INFERENCE_TOKEN = stack.inference.url, TOKEN
    return stack


@pytest.fixture
def key(live_acme: Company) -> str:
    """An API key of Acme Bank."""
    return create_api_key(tenant_slug="acme-bank", name="robot")
