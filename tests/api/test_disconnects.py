"""A client that goes away frees the model at once and leaves a record of what it was sent."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from audit.models import AuditRecord
from console.api.departure import Attended, Departure
from inference.generation import running as generations
from tenants.models import ApiKey
from tenants.scope import tenant_scope
from tests.api.client import CHAT, LONG, http, streamed, text_in
from tests.chat.recorded import once_closed
from tests.chat.stack import Stack
from tests.conftest import Company


async def running(stack: Stack) -> int:
    """Answers the inference process is working on."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(stack.inference.url + "/health")).json()["running"]


async def until_idle(stack: Stack) -> float:
    """Seconds until the inference process has nothing to do."""
    started = time.monotonic()
    while await running(stack):
        assert time.monotonic() - started < 10
        await asyncio.sleep(0.01)
    return time.monotonic() - started


async def only_request(company: Company) -> str:
    def look() -> str:
        with tenant_scope(company.tenant.pk):
            return str(AuditRecord.objects.get().id)

    return await sync_to_async(look)()


async def test_a_stream_that_its_client_leaves(live_acme: Company, stack: Stack, key: str) -> None:
    received = ""
    async with streamed(stack, key) as response:
        request_id = response.headers["x-request-id"]
        async for piece in response.aiter_text():
            received += piece
            if len(text_in(received)) > 60:
                break
        assert await running(stack) == 1
    assert await until_idle(stack) < 2
    record = await once_closed(live_acme, request_id)
    assert (record.status, record.error_code) == ("disconnected", "client_disconnected")
    assert record.text.startswith(text_in(received))
    assert record.completion is not None
    assert record.completion.completion_tokens < 1000


async def test_a_whole_answer_that_its_client_does_not_wait_for(
    live_acme: Company, stack: Stack, key: str
) -> None:
    async with http(stack, key) as client:
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=LONG))
        while not await running(stack):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert await until_idle(stack) < 2
    record = await once_closed(live_acme, await only_request(live_acme))
    assert (record.status, record.error_code) == ("disconnected", "client_disconnected")
    assert record.completion is not None
    assert record.completion.completion_tokens < 1000


async def test_a_revoked_key_ends_its_running_answer(live_acme: Company, stack: Stack, key: str) -> None:
    from tenants import clock

    def revoke() -> None:
        with tenant_scope(live_acme.tenant.pk):
            ApiKey.objects.update(revoked=clock.now())

    received, revoked_at = "", 0.0
    async with streamed(stack, key) as response:
        request_id = response.headers["x-request-id"]
        async for piece in response.aiter_text():
            received += piece
            if not revoked_at and len(text_in(received)) > 20:
                await sync_to_async(revoke)()
                revoked_at = time.monotonic()
    assert time.monotonic() - revoked_at < 2
    assert re.search(r'"code": "access_revoked"', received)
    assert "[DONE]" not in received
    record = await once_closed(live_acme, request_id)
    assert (record.status, record.error_code) == ("stopped", "access_revoked")
    assert record.text == text_in(received)


# --- Between the view and the first byte --------------------------------------------------------------------


class Held:
    """A response that a middleware's thread holds until the test lets it go."""

    def __init__(self) -> None:
        self.arrived, self.released = threading.Event(), threading.Event()

    def hold(self) -> None:
        self.arrived.set()
        self.released.wait(10)


held = Held()


def swallowing(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Any:
    """A synchronous middleware. A cancellation that meets it behind the view is forgotten: the response is sent."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        held.hold()
        return response

    return middleware


class Dropping(MiddlewareMixin):
    """One with a synchronous part. A cancellation that meets it loses the response, which nobody closes."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        held.hold()
        return response


@pytest.fixture
async def holding(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Held]:
    fresh = Held()
    monkeypatch.setitem(globals(), "held", fresh)
    yield fresh
    fresh.released.set()
    await generations.of_this_loop().shut_down()


@pytest.mark.parametrize("middleware", [swallowing, Dropping])
async def test_a_client_that_leaves_while_the_response_is_on_its_way_out(
    live_acme: Company, inference_here: Stack, key: str, settings: Any, holding: Held, middleware: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.{middleware.__name__}"]
    application = Attended(get_asgi_application())
    leave = asyncio.Event()
    body = [{"type": "http.request", "body": json.dumps({**LONG, "stream": True}).encode()}]

    async def receive() -> dict[str, Any]:
        if body:
            return body.pop()
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        """As uvicorn does once its client has left."""

    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {key}".encode())]
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers, "query_string": b""}
    handled = asyncio.create_task(application(scope, receive, send))
    assert await asyncio.to_thread(holding.arrived.wait, 20)
    assert await running(inference_here) == 1
    leave.set()
    await asyncio.sleep(0.05)  # The cancellation arrives first.
    holding.released.set()
    assert await until_idle(inference_here) < 2
    await handled
    record = await once_closed(live_acme, await only_request(live_acme))
    assert (record.status, record.error_code) == ("disconnected", "client_disconnected")


def test_what_is_begun_after_the_client_has_left_is_told_at_once() -> None:
    departure, told = Departure(), []
    departure.then(lambda: told.append("before"))
    assert told == []
    departure.happen()
    departure.then(lambda: told.append("after"))
    departure.happen()
    assert told == ["before", "after"]
