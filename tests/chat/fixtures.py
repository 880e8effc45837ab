"""Fixtures for the live chat and API, loaded as a plugin by tests/conftest.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from pytest_django.fixtures import Settings

from inference.registry.models import Deployment, Model, ModelVersion
from inference.registry.services import add_route, ensure_default_registry, ensure_default_route
from tenants import clock
from tenants.access import create_api_key
from tenants.models import ApiKey
from tenants.scope import tenant_scope
from tests.chat.browser import Browser
from tests.chat.stack import TOKEN, Process, Stack, inference_process, web_process
from tests.conftest import Company, make_company
from tests.support.scripted_model import make_scripted_model
from tests.support.services import MODELS_DIR

# What the scripted model says, and what it says when it is given tools; see make_scripted_model.
THINKER = "thinker"
ANSWER = ["<think>", "The capital ", "is asked.", "</think>", "It is ", "Paris."]
CALL = ["I look. ", "<tool_call>", '{"name": "weather", "arguments": {"city": "Paris"}}', "</tool_call>"]


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


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A second inference process, of a model that reasons and calls tools: started once."""
    folder = tmp_path_factory.mktemp("models") / THINKER
    process = inference_process(model=str(make_scripted_model(folder, answer=ANSWER, call=CALL)), token="")
    process.start()
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()
        # The models' folder is kept from run to run, for what is compiled there; this model is not.
        for pin in MODELS_DIR.glob(f"{THINKER}-*.pin.json"):
            pin.unlink(missing_ok=True)


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
def thinker(live_acme: Company, scripted: Process) -> str:
    """Acme Bank's route to the scripted model."""
    version = ModelVersion.objects.create(
        model=Model.objects.create(name=THINKER, title=THINKER), number=1, source="a test", revision="1",
        digest="-", precision="-", served_id=THINKER, context_tokens=2048,
    )  # fmt: skip
    deployment = Deployment.objects.create(name=THINKER, version=version, base_url=scripted.url)
    with tenant_scope(live_acme.tenant.pk):
        return add_route(name=THINKER, label=THINKER, deployment=deployment).name


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
    text = create_api_key(tenant_slug="acme-bank", name="robot")
    with tenant_scope(live_acme.tenant.pk):
        ApiKey.objects.update(last_used=clock.now())  # Its first use is a record of its own.
    return text
