"""What limits add to a request: reserving before it and settling after it.

    python -m benchmarks.quota_overhead [--requests 1500]

Starts PostgreSQL and Valkey with Custos's settings in a temporary folder and goes through requests without a model:
reserve, then settle, which also adds the usage to its day in the database. "cold" looks the limits up in the database
each time, as the first request in a second does. Goal, on 2 cores: ≤ 2 ms at the median a request.
"""

import argparse
import asyncio
import os
import secrets
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.audit_append import _prepare
from console.supervisor.postgres import PostgresServer
from console.supervisor.valkey import ValkeyServer

METRICS = (
    "requests_per_minute",
    "tokens_per_minute",
    "tokens_per_day",
    "tokens_per_month",
    "concurrent_streams",
)
TOKENS = 500
WARM_UP = 100
AT_ONCE = 16


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--requests", type=int, default=1500, help="how many a row of the table")
    options = arguments.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="custos-bench-"))
    folder.chmod(0o755)  # The database runs as another account when we are root.
    password = secrets.token_hex(16)
    postgres, valkey = (
        PostgresServer(folder / "postgres", password),
        ValkeyServer(folder / "valkey", password),
    )
    try:
        postgres.start()
        valkey.start()
        os.environ["REDIS_URL"] = valkey.url
        tenant_id = _prepare(folder, postgres.url, password)
        _report(tenant_id, options.requests)
    finally:
        valkey.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _report(tenant_id: UUID, requests: int) -> None:
    from tenants.quotas import rules

    print(f"{os.cpu_count()} cores, {requests} requests a row; times in ms (p50 / p99)\n")
    print(f"{'':34}{'reserve':>16}{'settle':>16}{'both':>16}")
    actor = _actor(tenant_id)
    _row("no limits", actor, requests)
    _limit(tenant_id, "tenant")
    _row("5 limits: of the tenant", actor, requests)
    for kind in ("group", "member"):
        _limit(tenant_id, kind)
    _row("15: tenant, group, member", actor, requests)
    _row(f"15, {AT_ONCE} requests at once", actor, requests, at_once=AT_ONCE)
    rules.CACHED_S = 0.0
    _row("15, cold", actor, requests)


def _actor(tenant_id: UUID) -> Any:
    """A member, who is in the tenant's group of everyone."""
    from tenants.access import Actor
    from tenants.models import Group, Membership, User
    from tenants.scope import tenant_scope

    user = User.objects.create(email="bench@bench.example")
    with tenant_scope(tenant_id):
        Membership.objects.create(user=user, role="member")
        Group.objects.get_or_create(name="Everyone", is_everyone=True)
    return Actor(
        tenant_id=tenant_id,
        tenant_slug="bench",
        tenant_name="Bench",
        label="bench",
        role="member",
        permissions=frozenset(),
        user_id=user.pk,
    )


def _limit(tenant_id: UUID, kind: str) -> None:
    """A limit of each metric that is never reached."""
    from tenants.models import Group
    from tenants.quotas import counters
    from tenants.quotas.models import Limit
    from tenants.scope import tenant_scope

    with tenant_scope(tenant_id):
        subject = Group.objects.get(is_everyone=True).pk if kind == "group" else None
        for metric in METRICS:
            Limit.objects.create(subject_kind=kind, subject_id=subject, metric=metric, value=10**12)
    counters.limits_changed(tenant_id)


def _row(name: str, actor: Any, requests: int, *, at_once: int = 1) -> None:
    samples = asyncio.run(_measured(actor, requests, at_once))
    cells = ""
    for column in zip(*samples, strict=True):
        percentiles = statistics.quantiles(column, n=100)
        cells += f"{percentiles[49] * 1000:>8.2f} /{percentiles[98] * 1000:6.2f}"
    print(f"{name:34}{cells}", flush=True)


async def _measured(actor: Any, requests: int, at_once: int) -> list[tuple[float, float, float]]:
    """Seconds that reserving, settling and both took, of each request."""
    from tenants import valkey

    samples: list[tuple[float, float, float]] = []

    async def one() -> None:
        samples.append(await _request(actor))

    for _ in range((WARM_UP + requests) // at_once):
        await asyncio.gather(*(one() for _ in range(at_once)))
    await valkey.close_client()
    return samples[WARM_UP:]


async def _request(actor: Any) -> tuple[float, float, float]:
    from tenants.ids import uuid7
    from tenants.quotas import reservations

    begun = time.perf_counter()
    held = await reservations.reserve(
        actor=actor, request_id=uuid7(), route="r", model="m", tokens=2 * TOKENS
    )
    reserved = time.perf_counter()
    await asyncio.sleep(0)  # The answer.
    ended = time.perf_counter()
    await reservations.settle(held, prompt_tokens=TOKENS, completion_tokens=TOKENS // 2)
    settled = time.perf_counter()
    return reserved - begun, settled - ended, (reserved - begun) + (settled - ended)


if __name__ == "__main__":
    main()
