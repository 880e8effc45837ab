"""What a reader gets is in the record before it gets it, and nothing is asked when nothing can be recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async

from audit import record
from audit.models import AuditChunk
from audit.output import Kind, decode, joined, text_of
from inference.client import Delta, InferenceClient
from inference.generation import run, running, stream
from inference.generation.errors import NotRecorded, QuotaNotCounted, ShuttingDown, StreamUnavailable
from inference.generation.run import Ending, Order
from inference.registry.selectors import Resolved
from inference.routing.choice import resolve
from tenants import valkey
from tenants.ids import day_of
from tenants.roles import CHAT_USE
from tenants.scope import tenant_scope
from tests.chat.recorded import Withdrawn, count_records, once_closed, recorded
from tests.chat.stack import TOKEN, Stack
from tests.conftest import Company

TOKENS = 60
TOOLS = [{"type": "function", "function": {"name": "weather"}}]
PROMPT = [{"role": "user", "content": "Write a very long story about a river."}]


class Witness:
    """A sink that looks, at each delivery, whether the text is in the database already."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self.request_id: UUID | None = None
        self.text = ""
        self.unrecorded: list[int] = []
        self.ending: Ending | None = None
        self.enough = asyncio.Event()
        self.ended = asyncio.Event()

    async def batch(self, *, seq: int, deltas: list[Delta], sealed: bytes) -> None:
        if not await sync_to_async(self._is_recorded)(seq, deltas, sealed):
            self.unrecorded.append(seq)
        self.text += text_of(deltas)
        if seq >= 5:
            self.enough.set()

    async def end(self, *, seq: int, ending: Ending) -> None:
        self.ending = ending
        self.ended.set()

    def _is_recorded(self, seq: int, deltas: list[Delta], sealed: bytes) -> bool:
        assert self.request_id is not None
        handle = record.Handle(self._company.tenant.pk, self.request_id)
        if joined(decode(record.open_output(handle, seq=seq, sealed=sealed))) != joined(deltas):
            return False
        with tenant_scope(self._company.tenant.pk):
            chunks = AuditChunk.objects.filter(
                day=day_of(self.request_id), request_id=self.request_id, seq=seq
            )
            return [bytes(chunk.sealed) for chunk in chunks] == [sealed]


@pytest.fixture
async def order(live_acme: Company, inference_here: Stack) -> AsyncIterator[Order]:
    def make() -> Order:
        actor = live_acme.actor(live_acme.member)
        with tenant_scope(live_acme.tenant.pk):
            return Order(
                actor=actor,
                channel="chat",
                permission=CHAT_USE,
                kind="chat",
                request={"messages": PROMPT, "max_tokens": TOKENS, "ignore_eos": True},
                resolved=resolve(actor, None),
            )

    yield await sync_to_async(make)()
    await running.of_this_loop().shut_down()


async def begin(order: Order, witness: Witness) -> run.Generation:
    witness.request_id = order.request_id
    return await run.begin(order, witness)


async def asked_of_the_model(stack: Stack, order: Order) -> float:
    """How many generation requests the inference process has ever had."""
    text = await order.resolved.client.metrics_text()
    lines = [line for line in text.splitlines() if line.startswith("custos_inference_requests_total{")]
    assert lines
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def test_every_piece_is_committed_before_it_is_delivered(live_acme: Company, order: Order) -> None:
    witness = Witness(live_acme)
    generation = await begin(order, witness)
    generation.start()
    await generation.wait()
    assert witness.unrecorded == []
    assert witness.ending is not None
    assert (witness.ending.status, witness.ending.finish_reason) == ("completed", "length")
    assert witness.ending.usage.completion_tokens == TOKENS
    assert witness.ending.timings.ttft_ms is not None
    record = await once_closed(live_acme, order.request_id)
    assert record.text == witness.text == text_of(generation.parts)


@pytest.mark.parametrize("wish", [{"n": 2}, {"tools": TOOLS}], ids=["reasoning", "tool calls"])
async def test_so_is_every_piece_of_reasoning_of_tool_calls_and_of_other_choices(
    live_acme: Company, order: Order, thinker: str, wish: dict[str, Any]
) -> None:
    def resolved() -> Resolved:
        with tenant_scope(live_acme.tenant.pk):
            return resolve(order.actor, thinker)

    asked = {"messages": PROMPT, **wish}
    order = replace(order, request=asked, resolved=await sync_to_async(resolved)())
    witness = Witness(live_acme)
    generation = await begin(order, witness)
    generation.start()
    await generation.wait()
    assert witness.unrecorded == []
    found = await once_closed(live_acme, order.request_id)
    assert found.parts == joined(generation.parts)
    assert {(part.choice, part.kind) for part in found.parts} == (
        {(0, Kind.TEXT), (0, Kind.TOOL_CALL)}
        if "tools" in wish
        else {(choice, kind) for choice in (0, 1) for kind in (Kind.REASONING, Kind.TEXT)}
    )


async def test_text_that_waits_for_a_commit_becomes_the_next_piece_and_none_is_lost(
    live_acme: Company, order: Order
) -> None:
    class Slow(Witness):
        pieces = 0

        async def batch(self, *, seq: int, deltas: list[Delta], sealed: bytes) -> None:
            await super().batch(seq=seq, deltas=deltas, sealed=sealed)
            self.pieces = seq
            while (await order.resolved.client.health())["running"]:
                await asyncio.sleep(0.05)

    greedy = {**order.request, "temperature": 0}
    body = {**greedy, "model": order.resolved.served_id}
    said = [item.text async for item in order.resolved.client.stream_chat(body) if isinstance(item, Delta)]
    witness = Slow(live_acme)
    generation = await begin(replace(order, request=greedy), witness)
    generation.start()
    await generation.wait()
    assert witness.pieces < TOKENS / 2
    assert witness.text == "".join(said)
    assert (await once_closed(live_acme, order.request_id)).text == witness.text


@pytest.mark.parametrize("status", ["stopped", "disconnected", "timed_out", "interrupted"])
async def test_however_it_is_cut_off_the_record_holds_what_was_delivered(
    live_acme: Company, order: Order, status: Any
) -> None:
    witness = Witness(live_acme)
    generation = await begin(order, witness)
    generation.start()
    await witness.enough.wait()
    generation.stop(status, "because")
    generation.stop("failed", "too late")  # The first reason wins.
    await generation.wait()
    record = await once_closed(live_acme, order.request_id)
    assert (record.status, record.error_code) == (status, "because")
    assert record.text == witness.text
    assert witness.unrecorded == []
    assert record.completion is not None
    assert 0 < record.completion.completion_tokens < TOKENS
    assert record.completion.prompt_tokens is None


async def test_without_a_record_of_the_intent_the_model_is_not_asked(
    live_acme: Company, order: Order, inference_here: Stack
) -> None:
    before = await asked_of_the_model(inference_here, order)
    with Withdrawn("INSERT", "audit_record"):
        for _ in range(20):
            with pytest.raises(NotRecorded):
                await begin(replace(order), Witness(live_acme))
    assert await asked_of_the_model(inference_here, order) == before
    assert await sync_to_async(count_records)(live_acme) == 0
    # The count does count: with the store back, one more.
    witness = Witness(live_acme)
    generation = await begin(replace(order, request={**order.request, "max_tokens": 2}), witness)
    generation.start()
    await generation.wait()
    assert await asked_of_the_model(inference_here, order) == before + 1


async def test_when_the_record_breaks_off_so_does_the_answer(live_acme: Company, order: Order) -> None:
    witness = Witness(live_acme)
    generation = await begin(order, witness)
    generation.start()
    await witness.enough.wait()
    with Withdrawn("INSERT", "audit_chunk"):
        await asyncio.wait_for(witness.ended.wait(), 5)
        at_the_end = witness.text
        await asyncio.sleep(0.3)
        assert witness.text == at_the_end
    assert witness.ending is not None
    assert (witness.ending.status, witness.ending.error_code) == ("failed", "audit_lost")
    record = await once_closed(live_acme, order.request_id)
    assert (record.status, record.text) == ("failed", witness.text)
    assert witness.unrecorded == []


async def test_a_record_that_cannot_be_closed_is_told_and_left_to_the_reaper(
    live_acme: Company, order: Order
) -> None:
    witness = Witness(live_acme)
    generation = await begin(replace(order, request={**order.request, "max_tokens": 3}), witness)
    with Withdrawn("INSERT", "audit_completion"):
        generation.start()
        await generation.wait()
    assert witness.ending is not None
    assert (witness.ending.status, witness.ending.error_code) == ("completed", "audit_not_closed")
    open_record = await sync_to_async(recorded)(live_acme, order.request_id)
    assert (open_record.status, open_record.text) == (None, witness.text)
    assert not await stream.is_alive(order.key)


async def test_a_reader_that_cannot_be_reached_ends_the_answer(live_acme: Company, order: Order) -> None:
    class Unreachable(Witness):
        async def batch(self, *, seq: int, deltas: list[Delta], sealed: bytes) -> None:
            if seq == 3:
                raise StreamUnavailable("gone")
            await super().batch(seq=seq, deltas=deltas, sealed=sealed)

    witness = Unreachable(live_acme)
    generation = await begin(order, witness)
    generation.start()
    await generation.wait()
    record = await once_closed(live_acme, order.request_id)
    assert (record.status, record.error_code) == ("failed", "stream_unavailable")
    assert record.text.startswith(witness.text)


async def test_without_valkey_nothing_is_recorded_or_asked(
    live_acme: Company, order: Order, settings
) -> None:
    await valkey.close_client()
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    started = time.monotonic()
    with pytest.raises(QuotaNotCounted):
        await begin(order, Witness(live_acme))
    assert time.monotonic() - started < 5
    await valkey.close_client()
    assert await sync_to_async(count_records)(live_acme) == 0


async def test_a_heartbeat_is_there_while_it_runs_and_gone_afterwards(
    live_acme: Company, order: Order
) -> None:
    witness = Witness(live_acme)
    generation = await begin(order, witness)
    assert await stream.is_alive(order.key)
    generation.start()
    await witness.enough.wait()
    assert await stream.is_alive(order.key)
    generation.stop("stopped")
    await generation.wait()
    assert not await stream.is_alive(order.key)


async def test_another_process_stops_it_within_a_fifth_of_a_second(live_acme: Company, order: Order) -> None:
    witness = Witness(live_acme)
    generation = await begin(order, witness)
    generation.start()
    await witness.enough.wait()
    await stream.request_stop(order.key)
    asked_at = time.monotonic()
    await generation.wait()
    assert time.monotonic() - asked_at < 1
    assert (await once_closed(live_acme, order.request_id)).status == "stopped"


async def test_an_orderly_shutdown_closes_what_runs_and_starts_nothing_new(
    live_acme: Company, order: Order
) -> None:
    witness = Witness(live_acme)
    generation = await begin(order, witness)
    generation.start()
    await witness.enough.wait()
    await running.of_this_loop().shut_down()
    record = await once_closed(live_acme, order.request_id, timeout_s=0.5)
    assert (record.status, record.error_code) == ("interrupted", "shutting_down")
    assert record.text == witness.text
    with pytest.raises(ShuttingDown):
        await begin(replace(order), Witness(live_acme))


async def test_an_inference_service_that_is_away_leaves_a_failed_record(
    live_acme: Company, order: Order
) -> None:
    away = replace(
        order, resolved=replace(order.resolved, client=InferenceClient("http://127.0.0.1:9", TOKEN))
    )
    witness = Witness(live_acme)
    generation = await begin(away, witness)
    generation.start()
    await generation.wait()
    record = await once_closed(live_acme, order.request_id)
    assert (record.status, record.error_code, record.text) == ("failed", "inference_unavailable", "")
