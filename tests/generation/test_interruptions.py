"""Processes die in the middle of answers: everyone is told, and what was sent is what was recorded.

These tests have a stack of their own, because they kill it.
"""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import redis
import websockets
from asgiref.sync import sync_to_async

from audit.models import AuditRecord
from tenants.scope import tenant_scope
from tests.api.client import CHAT, LONG, chat, http, streamed, text_in
from tests.chat.browser import Browser, Tab
from tests.chat.recorded import Withdrawn, once_closed, recorded
from tests.chat.stack import Stack, inference_process, web_process
from tests.conftest import Company

STORY = "Write a very long and detailed story about a river, with many chapters."


@pytest.fixture(scope="module")
def frail(django_db_setup: None) -> Iterator[Stack]:
    """Room for three answers at a time and nobody waiting."""
    inference = inference_process(max_running=3, max_waiting=0)
    inference.start()
    web = web_process(inference_url=inference.url)
    web.start()
    try:
        web.wait_ready()
        inference.wait_ready()
        yield Stack(inference, web)
    finally:
        web.stop()
        inference.stop()


@pytest.fixture
async def visitor(frail: Stack) -> AsyncIterator[Browser]:
    opened = Browser(frail)
    yield opened
    await opened.close()


class Listener:
    """A streamed API answer being read in the background."""

    def __init__(self, stack: Stack, key: str) -> None:
        self.received, self.request_id = "", ""
        self.begun = asyncio.Event()
        self.task = asyncio.create_task(self._listen(stack, key))

    async def _listen(self, stack: Stack, key: str) -> None:
        async with streamed(stack, key) as response:
            self.request_id = response.headers["x-request-id"]
            async for piece in response.aiter_text():
                self.received += piece
                if len(text_in(self.received)) > 20:
                    self.begun.set()


def other_request(company: Company, *known: str) -> str:
    """The id of the one record that is not among `known`."""
    with tenant_scope(company.tenant.pk):
        ids = {str(found) for found in AuditRecord.objects.values_list("id", flat=True)}
    (remaining,) = ids - set(known)
    return remaining


async def works(tab: Tab) -> bool:
    await tab.ask("Say hello.")
    return (await tab.until("done"))["status"] == "completed"


async def test_a_full_model_is_busy_and_says_when_to_come_back(
    live_acme: Company, frail: Stack, visitor: Browser, key: str
) -> None:
    tab = await visitor.open(live_acme.member, "acme-bank")
    running = [await tab.ask(STORY) for _ in range(3)]
    for accepted in running:
        await tab.until(
            lambda f, g=accepted["generation"]: (
                any(seen["type"] == "delta" and seen["generation"] == g for seen in tab.frames)
                or (f["type"] == "delta" and f["generation"] == g)
            )
        )
    async with http(frail, key) as client:
        for stream in (False, True):
            refused = await client.post(CHAT, json=chat(stream=stream))
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["type"] == "rate_limit_error"
            record = await once_closed(live_acme, refused.headers["x-request-id"])
            assert (record.status, record.error_code, record.text) == ("refused", "inference_busy", "")
    asked = await tab.ask("Say hello.")
    done = await tab.until("done")
    assert (done["generation"], done["status"]) == (asked["generation"], "refused")
    assert done["error"]["code"] == "inference_busy"
    for accepted in running:
        await tab.send(type="stop", generation=accepted["generation"])
        await tab.until("done")


async def test_inference_is_killed_in_the_middle_of_answers(
    live_acme: Company, frail: Stack, visitor: Browser, key: str
) -> None:
    tab = await visitor.open(live_acme.member, "acme-bank")
    accepted = await tab.ask(STORY)
    listener = Listener(frail, key)
    async with http(frail, key) as client:
        whole = asyncio.create_task(client.post(CHAT, json=LONG))
        await tab.until(lambda frame: frame["type"] == "delta" and frame["seq"] >= 5)
        await listener.begun.wait()
        while await running_count(frail) < 3:
            await asyncio.sleep(0.02)
        frail.inference.stop(signal.SIGKILL)

        done = await tab.until("done", timeout_s=5)
        assert (done["status"], done["error"]["code"]) == ("interrupted", "inference_interrupted")
        record = await once_closed(live_acme, accepted["generation"])
        assert record.text == tab.text_of(accepted["generation"]) != ""
        assert record.status == "interrupted"

        await asyncio.wait_for(listener.task, 5)
        record = await once_closed(live_acme, listener.request_id)
        assert (record.status, record.text) == ("interrupted", text_in(listener.received))
        assert '"code": "inference_interrupted"' in listener.received
        assert "[DONE]" not in listener.received

        answer = await asyncio.wait_for(whole, 5)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "inference_interrupted")
        record = await once_closed(live_acme, answer.headers["x-request-id"])
        assert record.status == "interrupted"

    # While it is away every question is refused clearly; when it is back the same socket goes on.
    await tab.ask("Anyone there?", conversation=accepted["conversation"]["id"])
    done = await tab.until("done")
    assert (done["status"], done["error"]["code"]) == ("failed", "inference_unavailable")
    async with http(frail, key) as client:
        away = await client.post(CHAT, json=chat())
        assert (away.status_code, away.json()["error"]["code"]) == (503, "inference_unavailable")
    frail.inference.start()
    await sync_to_async(frail.inference.wait_ready)()
    assert await works(tab)


async def running_count(stack: Stack) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(stack.inference.url + "/health")).json()["running"]


@pytest.mark.parametrize("table", ["audit_record", "audit_chunk"])
async def test_with_the_audit_store_away_no_word_is_delivered_on_any_channel(
    live_acme: Company, frail: Stack, visitor: Browser, key: str, table: str
) -> None:
    tab = await visitor.open(live_acme.member, "acme-bank")
    with Withdrawn("INSERT", table):
        async with http(frail, key) as client:
            for stream in (False, True):
                refused = await client.post(CHAT, json=chat(stream=stream))
                assert refused.status_code == 503
                assert refused.json()["error"]["code"] in ("audit_unavailable", "audit_lost")
        client_id = str(uuid.uuid4())
        await tab.send(type="ask", client_id=client_id, conversation=None, text="Hello?", route=None)
        told = await tab.until(lambda frame: frame["type"] in ("error", "done"))
    if table == "audit_record":
        assert (told["code"], told["client_id"]) == ("audit_unavailable", client_id)
        assert "could not be recorded" in told["message"]
    else:
        assert (told["status"], told["error"]["code"]) == ("failed", "audit_lost")
    assert [frame for frame in tab.frames if frame["type"] == "delta"] == []
    assert await works(tab)


async def test_a_web_process_that_is_told_to_stop_closes_its_answers_first(
    live_acme: Company, frail: Stack, key: str
) -> None:
    web = web_process(inference_url=frail.inference.url)
    web.start()
    await sync_to_async(web.wait_ready)()
    leaving = Stack(frail.inference, web)
    browser = Browser(leaving)
    tab = await browser.open(live_acme.member, "acme-bank")
    accepted = await tab.ask(STORY)
    listener = Listener(leaving, key)
    await tab.until(lambda frame: frame["type"] == "delta" and frame["seq"] >= 5)
    await listener.begun.wait()
    await sync_to_async(web.stop)()
    await asyncio.wait_for(listener.task, 5)
    with pytest.raises(websockets.ConnectionClosed):
        while True:
            await tab.receive()
    for request_id, text in [
        (accepted["generation"], tab.text_of(accepted["generation"])),
        (listener.request_id, text_in(listener.received)),
    ]:
        record = await sync_to_async(recorded)(live_acme, request_id)
        assert (record.status, record.error_code) == ("interrupted", "shutting_down")
        assert record.text.startswith(text)
        assert text
    assert '"code": "shutting_down"' in listener.received
    assert "Traceback" not in web.log()


async def test_an_answer_whose_web_process_was_killed_is_settled_from_the_record(
    live_acme: Company, frail: Stack, visitor: Browser, services: Any
) -> None:
    web = web_process(inference_url=frail.inference.url)
    web.start()
    await sync_to_async(web.wait_ready)()
    doomed = Browser(Stack(frail.inference, web))
    lost = await doomed.open(live_acme.member, "acme-bank")
    accepted = await lost.ask(STORY)
    await lost.until(lambda frame: frame["type"] == "delta" and frame["seq"] >= 5)
    web.stop(signal.SIGKILL)
    generation = accepted["generation"]

    tab = await visitor.open(live_acme.member, "acme-bank")
    await tab.send(type="resume", generation=generation, after=2)
    # The heartbeat outlives its process for some seconds; until then the answer may still go on.
    await tab.until(lambda frame: frame["type"] == "delta" and frame["seq"] >= 5)
    with redis.Redis.from_url(services.valkey.url) as valkey:
        assert valkey.delete(f"custos:{live_acme.tenant.pk}:generation:{generation}:alive") == 1
    done = await tab.until("done", timeout_s=5)
    assert (done["status"], done["error"]["code"]) == ("interrupted", "interrupted")
    record = await sync_to_async(recorded)(live_acme, generation)
    assert record.status is None  # The reaper closes it.
    head = "".join(f["text"] for f in lost.frames if f["type"] == "delta" and f["seq"] <= 2)
    assert head + tab.text_of(generation) == record.text
    # The conversation is free again.
    following = await tab.ask("Go on.", conversation=accepted["conversation"]["id"])
    await tab.until("delta")
    await tab.send(type="stop", generation=following["generation"])
    assert (await tab.until("done"))["status"] == "stopped"
