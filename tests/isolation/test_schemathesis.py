"""Schemathesis asks every operation of the management API with the other tenant's key, for things of both tenants.

What it makes up comes from the OpenAPI document, valid and not; each answer must be as the document says, none an error
of ours, and of the first tenant nothing may change. Deterministic: the same requests in every run.
"""

from collections.abc import Callable, Iterator

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conftest import Company
from tests.isolation.operations import Things, make_things
from tests.isolation.test_every_operation import undone
from tests.support.digest import digest
from tests.support.keys import WRITE, make_key

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(300)]

EXAMPLES = 5  # An operation.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture
def application() -> Iterator[WSGIHandler]:
    """Django as a WSGI application that leaves the test's connection and transaction open between requests."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield WSGIHandler()
    for signal in signals:
        signal.connect(close_old_connections)


def test_the_api_keeps_its_word_and_its_walls(
    acme: Company,
    north: Company,
    application: WSGIHandler,
    subtests: pytest.Subtests,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("console.pace.REQUESTS_PER_MINUTE", 1_000_000)
    worlds = [make_things(acme), make_things(north)]
    key = make_key(north, WRITE)
    before = digest(acme.tenant)
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", application)
    statuses: list[int] = []
    for found in schema.get_all_operations():
        operation = found.ok()
        with subtests.test(operation.label):
            modes = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]
            _asker(st.one_of(modes), worlds, key, lambda: digest(acme.tenant) == before, statuses)()
    # It reached what it was to reach: things of its own tenant, walls, and refusals of bad input.
    assert {200, 201, 204, 404, 422} <= set(statuses)


def _asker(
    cases: st.SearchStrategy[Case],
    worlds: list[Things],
    key: str,
    is_untouched: Callable[[], bool],
    statuses: list[int],
) -> Callable[[], None]:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, things=st.sampled_from(worlds))
    def ask(case: Case, things: Things) -> None:
        # An id that is made up is nobody's: the parameters that name things name real ones.
        case.path_parameters = {name: things.get(name, made) for name, made in case.path_parameters.items()}
        headers = {"Authorization": f"Bearer {key}"}
        with undone():
            answer = case.call(headers=headers)
            statuses.append(answer.status_code)
            case.validate_response(answer, checks=CHECKS)
            assert is_untouched(), "something of the first tenant changed"

    return ask
