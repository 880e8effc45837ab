"""A generation holds its quota from before its record until its end, however it ends."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from audit import record
from audit.models import AuditRecord
from inference.client import InferenceClient
from inference.generation import run, running
from inference.generation.errors import NotRecorded, OverQuota, QuotaNotCounted
from inference.generation.run import Ending, Order
from inference.routing.choice import resolve
from tenants import clock, valkey
from tenants.ids import uuid7
from tenants.quotas import counters
from tenants.quotas.models import UsageDay
from tenants.roles import CHAT_USE
from tenants.scope import tenant_scope
from tests.chat.recorded import Withdrawn
from tests.conftest import Company
from tests.quotas.conftest import limited, reserve

in_thread = sync_to_async


class Silent(InferenceClient):
    """A model that reads and writes nothing until it is told to go on."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9")
        self.asked = asyncio.Event()

    async def stream_chat(self, request: dict[str, Any], **about: Any) -> AsyncIterator[Any]:
        self.asked.set()
        await asyncio.sleep(60)
        yield None


class Nobody:
    """Nobody listens."""

    async def batch(self, **piece: Any) -> None: ...

    async def end(self, *, seq: int, ending: Ending) -> None: ...


def an_order(company: Company, client: InferenceClient) -> Order:
    actor = company.actor(company.member)
    with tenant_scope(company.tenant.pk):
        resolved = replace(resolve(actor, None), client=client, context_tokens=100)
    return Order(
        actor=actor,
        channel="chat",
        permission=CHAT_USE,
        kind="chat",
        request={"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50},
        resolved=resolved,
    )


@pytest.fixture
async def order(live_acme: Company) -> Order:
    await in_thread(limited)(live_acme, "tokens_per_day", 100)
    return await in_thread(an_order)(live_acme, Silent())


async def left(order: Order) -> int:
    """Tokens of the day's 100 that another request could have."""
    try:
        standing = (await reserve(order.actor, 0)).standings[0]
    finally:
        await valkey.close_client()
    return standing.remaining


def records(company: Company) -> int:
    with tenant_scope(company.tenant.pk):
        return AuditRecord.objects.exclude(kind__startswith="quota.").count()


def usage_of(company: Company) -> list[tuple[int, int]]:
    with tenant_scope(company.tenant.pk):
        return list(UsageDay.objects.values_list("requests", "refused"))


async def test_it_is_held_while_it_runs_and_kept_by_the_heartbeat(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "LEASE_S", 1)
    monkeypatch.setattr(running, "ALIVE_EVERY_S", 0.3)
    generation = await run.begin(order, Nobody())
    assert await left(order) == 0
    generation.start()
    await asyncio.sleep(1.6)
    assert await left(order) == 0
    generation.stop("stopped")
    await generation.wait()
    assert await left(order) == 100


async def test_it_is_given_back_when_it_is_abandoned_or_cannot_be_recorded(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await run.begin(order, Nobody())
    await generation.abandon("not_stored")
    assert await left(order) == 100

    def away(**_fields: Any) -> None:
        raise record.AuditUnavailable

    monkeypatch.setattr(record, "begin", away)
    with pytest.raises(NotRecorded):
        await run.begin(order, Nobody())
    assert await left(order) == 100


async def test_what_is_refused_is_counted_and_neither_recorded_nor_asked(
    live_acme: Company, order: Order
) -> None:
    await in_thread(limited)(live_acme, "tokens_per_day", 10)
    with pytest.raises(OverQuota) as refused:
        await run.begin(order, Nobody())
    assert refused.value.code == "insufficient_quota"
    assert "10 tokens per day for your workspace" in refused.value.explained()
    assert await in_thread(records)(live_acme) == 0
    assert not order.resolved.client.asked.is_set()
    assert await in_thread(usage_of)(live_acme) == [(0, 1)]


async def test_without_valkey_nothing_is_recorded_or_asked(
    live_acme: Company, order: Order, settings
) -> None:
    await valkey.close_client()
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    with pytest.raises(QuotaNotCounted) as refused:
        await run.begin(order, Nobody())
    await valkey.close_client()
    assert refused.value.code == "quota_unavailable"
    assert refused.value.explained().startswith("Your limits cannot be checked right now")
    assert await in_thread(records)(live_acme) == 0


async def test_that_a_limit_refused_is_recorded_without_what_was_asked(
    live_acme: Company, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_thread(limited)(live_acme, "tokens_per_day", 10)
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    for _ in range(5):
        with pytest.raises(OverQuota):
            await run.begin(order, Nobody())
    monkeypatch.setattr(record, "record_event", unwritable)
    for _ in range(3):  # The eighth is due.
        with pytest.raises(OverQuota):
            await run.begin(order, Nobody())

    def refusals() -> list[tuple[str, str, dict[str, Any]]]:
        with tenant_scope(live_acme.tenant.pk):
            rows = AuditRecord.objects.filter(kind=run.REFUSED).order_by("id")
            return [
                (
                    r.user_label,
                    r.channel,
                    record.open_json(record.handle_of(r), field="input", sealed=r.input),
                )
                for r in rows
            ]

    limit = {"limit": "tokens_per_day", "route": order.resolved.route}
    told = ("member@acme-bank.example", "chat")
    assert await in_thread(refusals)() == [(*told, {**limit, "count": count}) for count in (1, 2, 4)]


async def test_a_thousand_requests_without_a_store_ask_the_model_nothing(
    live_acme: Company, order: Order
) -> None:
    await in_thread(limited)(live_acme, "tokens_per_day", 10_000_000)

    async def one() -> str:
        try:
            await run.begin(replace(order, request_id=uuid7()), Nobody())
        except NotRecorded:
            return "refused"
        return "begun"

    with Withdrawn("INSERT", "audit_record"):
        ended = [outcome for _ in range(20) for outcome in await asyncio.gather(*(one() for _ in range(50)))]
    assert ended == ["refused"] * 1000
    assert not order.resolved.client.asked.is_set()
    assert await in_thread(records)(live_acme) == 0


def unwritable(**_: Any) -> None:
    raise record.AuditUnavailable("PostgreSQL is away")
