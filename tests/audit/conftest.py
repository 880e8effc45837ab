"""What the audit tests share: people in two companies, and a quick way to record a whole generation."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection

from audit import record
from audit.record import Handle, Timings
from tenants.access import Actor
from tests.conftest import Company
from tests.support.services import Services


class Usage:
    """Token counts as the inference client gives them."""

    def __init__(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.cached_tokens = cached_tokens


def begin(actor: Actor, **changes: Any) -> Handle:
    """Record an intent with sensible values for what the test does not care about."""
    values: dict[str, Any] = {
        "actor": actor,
        "channel": "chat",
        "input": [{"role": "user", "content": "What is a beneficial owner?"}],
        "model": "smollm2-135m-instruct",
        "model_version": "sha256:0123",
        "route": "default",
        "route_reason": "only route",
        "parameters": {"temperature": 0.2, "stop": ["END"]},
        "client_address": "192.0.2.7",
    }
    return record.begin(**{**values, **changes})


def generation(
    actor: Actor,
    *,
    texts: tuple[str, ...] = ("Whoever ", "profits."),
    status: str = "completed",
    usage: Usage | None = None,
    timings: Timings | None = None,
    **changes: Any,
) -> Handle:
    """Record a generation from intent to completion."""
    handle = begin(actor, **changes)
    for seq, text in enumerate(texts, start=1):
        record.append(handle, seq=seq, text=text)
    record.complete(
        handle,
        status=status,
        finish_reason="stop",
        usage=usage or Usage(12, 5),
        timings=timings or Timings(queue_ms=3, ttft_ms=40, total_ms=90, itl_p50_ms=9.5),
    )
    return handle


def id_at(time: datetime) -> UUID:
    """A request id as it would have been made at that time (whole milliseconds)."""
    milliseconds = round(time.timestamp() * 1000)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | secrets.randbits(62))


# A test's tables hold a handful of rows, which PostgreSQL would rather read whole than by an index.
SMALL_TABLES = ("enable_seqscan", "enable_bitmapscan")


class Explain:
    """An execute wrapper that keeps the plan of each SELECT on the audit tables, as it is run.

    off: planner settings to switch off for the rest of the transaction.
    """

    def __init__(self, off: Sequence[str] = ()) -> None:
        self.found: list[tuple[str, str]] = []  # (SQL, plan)
        self._off = off

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.lstrip().startswith("SELECT") and "audit_" in sql:
            with connection.connection.cursor() as cursor:
                for setting in self._off:
                    cursor.execute(f"SET LOCAL {setting} = off")
                plan = cursor.execute("EXPLAIN (ANALYZE, COSTS OFF) " + sql, params).fetchall()
            self.found.append((sql, "\n".join(row[0] for row in plan)))
        return execute(sql, params, many, context)


@pytest.fixture
def member(acme: Company) -> Actor:
    return acme.actor(acme.member)


@pytest.fixture
def reviewer(acme: Company) -> Actor:
    return acme.actor(acme.reviewer)


@pytest.fixture
def administrator(acme: Company) -> Actor:
    return acme.actor(acme.administrator)


@pytest.fixture
def outsider(north: Company) -> Actor:
    """A reviewer of the other company."""
    return north.actor(north.reviewer)


@pytest.fixture
def owner(services: Services) -> Iterator[psycopg.Connection]:
    """The database's owner, who can do what no part of Custos does."""
    with psycopg.connect(services.postgres.url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def rows(owner: psycopg.Connection) -> Callable[[str, UUID], int]:
    """How many rows of a table belong to a request, whatever row-level security says."""

    def count(table: str, request_id: UUID) -> int:
        column = "id" if table == "audit_record" else "request_id"
        return owner.execute(f"SELECT count(*) FROM {table} WHERE {column} = %s", [request_id]).fetchone()[0]

    return count
