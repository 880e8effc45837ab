"""A client that goes away frees the model at once and leaves a record of what it was sent."""

from __future__ import annotations

import asyncio
import re
import time

import httpx
from asgiref.sync import sync_to_async

from audit.models import AuditRecord
from tenants.models import ApiKey
from tenants.scope import tenant_scope
from tests.api.client import LONG, http, streamed, text_in
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
