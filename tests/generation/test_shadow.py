"""A copy of a request is answered, recorded and shown to nobody, and gives way to whatever somebody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from audit.models import AuditRecord
from audit.output import Part, text_of
from inference.client import Delta, Event, Finished, InferenceClient, InferenceUnavailable, Usage
from inference.generation import run, running, shadow
from inference.generation.run import Ending, Order
from inference.registry.models import Route
from inference.registry.selectors import Resolved
from tenants.ids import day_of
from tenants.quotas.models import UsageDay
from tenants.roles import CHAT_USE
from tenants.scope import tenant_scope
from tests.chat.recorded import count_records, once_closed
from tests.conftest import Company


class Answering(InferenceClient):
    """Answers with one word, once it may; remembers how it was asked."""

    def __init__(self, word: str = "Yes.") -> None:
        super().__init__("")
        self.word = word
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked: list[dict[str, Any]] = []
        self.priorities: list[int] = []

    async def stream_chat(self, request: dict[str, Any], **facts: Any) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        self.priorities.append(facts["priority"])
        await self.may_answer.wait()
        if not self.word:
            raise InferenceUnavailable("It is down.")
        yield Delta(text=self.word)
        yield Finished(finish_reasons={0: "stop"}, usage=Usage(prompt_tokens=7, completion_tokens=2))


class Nobody:
    async def batch(self, **_: Any) -> None: ...

    async def end(self, **_: Any) -> None: ...


class Ended:
    """Waits for the end of a copy."""

    def __init__(self) -> None:
        self._end: asyncio.Future[tuple[str, Ending]] = asyncio.get_running_loop().create_future()

    async def __call__(self, parts: list[Part], ending: Ending) -> None:
        self._end.set_result((text_of(parts), ending))

    async def wait(self) -> tuple[str, Ending]:
        return await asyncio.wait_for(self._end, 20)


@pytest.fixture
async def order(live_acme: Company) -> AsyncIterator[Order]:
    def make() -> Order:
        actor = live_acme.actor(live_acme.member)
        with tenant_scope(live_acme.tenant.pk):
            route = Route.objects.get(is_default=True)
        resolved = Resolved(
            route=route.name,
            route_id=route.pk,
            reason="default",
            model="small",
            version="small@1",
            deployment="embedded",
            served_id="small",
            context_tokens=2048,
            client=Answering(),
        )
        return Order(
            actor=actor,
            channel="chat",
            permission=CHAT_USE,
            kind="chat",
            request={"messages": [{"role": "user", "content": "May I?"}]},
            resolved=resolved,
        )

    yield await sync_to_async(make)()
    await running.of_this_loop().shut_down()


def to(order: Order, client: InferenceClient) -> Any:
    return replace(order.resolved, client=client, deployment="beside")


def told(company: Company, order: Order) -> tuple[str, str]:
    with tenant_scope(company.tenant.pk):
        row = AuditRecord.objects.get(day=day_of(order.request_id), id=order.request_id)
        return row.route_reason, row.deployment


def requests_used(company: Company) -> int:
    with tenant_scope(company.tenant.pk):
        return sum(UsageDay.objects.values_list("requests", flat=True))


async def test_its_answer_is_recorded_and_counted_against_nobody(live_acme: Company, order: Order) -> None:
    other, ended = Answering(), Ended()
    before = await sync_to_async(requests_used)(live_acme)
    assert shadow.start(order, to(order, other), "shadow", ended)
    text, ending = await ended.wait()
    assert (text, ending.status) == ("Yes.", "completed")
    assert other.priorities == [shadow.LAST], "behind everybody"
    assert await sync_to_async(requests_used)(live_acme) == before


async def test_its_record_names_what_it_copies(live_acme: Company, order: Order) -> None:
    other, ended, seen = Answering(), Ended(), []

    async def intent(order: Order, genuine: Any = run.intent) -> Any:
        seen.append(order)
        return await genuine(order)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "intent", intent)
        assert shadow.start(order, to(order, other), "shadow", ended)
        await ended.wait()
    (copy,) = seen
    assert copy.request_id != order.request_id
    found = await once_closed(live_acme, copy.request_id)
    assert found.text == "Yes."
    reason, deployment = await sync_to_async(told)(live_acme, copy)
    assert (reason, deployment) == (f"shadow:{order.request_id}", "beside")


async def test_its_failure_is_its_own(order: Order) -> None:
    ended = Ended()
    assert shadow.start(order, to(order, Answering("")), "shadow", ended)
    _text, ending = await ended.wait()
    assert (ending.status, ending.error_code) == ("failed", "inference_unavailable")


async def test_beyond_a_few_they_are_dropped(live_acme: Company, order: Order) -> None:
    slow, ended = Answering(), [Ended() for _ in range(shadow.MOST)]
    slow.may_answer.clear()
    for each in ended:
        assert shadow.start(order, to(order, slow), "shadow", each)
    before = await sync_to_async(count_records)(live_acme)
    assert not shadow.start(order, to(order, slow), "shadow")
    await asyncio.sleep(0.5)
    assert len(slow.asked) == shadow.MOST
    assert await sync_to_async(count_records)(live_acme) <= before + shadow.MOST
    slow.may_answer.set()
    for each in ended:
        await each.wait()


async def test_they_give_way_to_what_somebody_waits_for(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "BUSY", 1)
    slow, other, ended = Answering(), Answering(), Ended()
    slow.may_answer.clear()
    other.may_answer.clear()
    assert shadow.start(order, to(order, other), "shadow", ended)
    while not other.asked:
        await asyncio.sleep(0.01)
    generation = await run.begin(replace(order, resolved=to(order, slow)), Nobody())
    generation.start()
    _text, ending = await ended.wait()
    assert ending.status == "stopped"
    assert not shadow.start(order, to(order, other), "shadow"), "none is begun meanwhile"
    slow.may_answer.set()
    await generation.wait()
    assert text_of(generation.parts) == "Yes."


async def test_a_copy_has_no_copy(order: Order) -> None:
    assert not shadow.start(replace(order, is_shadow=True), to(order, Answering()), "shadow")
