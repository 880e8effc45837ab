"""An answer that takes too long is closed as timed out, on every channel, with what was delivered.

The application runs inside the test process here, so that the limit can be short, yet long enough for
a first token on a busy machine; the model is the real one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator

from console.routing import application
from inference.generation import running
from tests.api.client import CHAT, LONG, text_in
from tests.chat.browser import new_session
from tests.chat.recorded import once_closed
from tests.chat.stack import Stack
from tests.conftest import Company

LIMIT_S = 1


@pytest.fixture(autouse=True)
async def a_short_limit(inference_here: Stack, settings: Any) -> AsyncIterator[None]:
    settings.GENERATION_TIME_LIMIT_S = LIMIT_S
    yield
    await running.of_this_loop().shut_down()


def http_here(key: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=application, client=("127.0.0.1", 1))
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers, timeout=30)


async def test_over_the_websocket(live_acme: Company, settings: Any) -> None:
    session = await sync_to_async(new_session)(live_acme.member)
    headers = [
        (b"cookie", f"{settings.SESSION_COOKIE_NAME}={session}".encode()),
        (b"origin", b"http://localhost"),
        (b"host", b"localhost"),
    ]
    tab = WebsocketCommunicator(application, "/ws/t/acme-bank/chat/", headers=headers)
    assert (await tab.connect(timeout=10))[0]
    ask = {
        "type": "ask",
        "client_id": str(uuid.uuid4()),
        "text": "Write a very long story about a river.",
    }
    await tab.send_to(text_data=json.dumps(ask))
    frames = []
    while not frames or frames[-1]["type"] != "done":
        frames.append(json.loads(await tab.receive_from(timeout=20)))
    await tab.disconnect()
    done = frames[-1]
    assert (done["status"], done["error"]["code"]) == ("timed_out", "time_limit")
    record = await once_closed(live_acme, done["generation"])
    assert (record.status, record.error_code) == ("timed_out", "time_limit")
    assert record.text == "".join(f["text"] for f in frames if f["type"] == "delta") != ""
    assert record.completion is not None
    assert LIMIT_S * 1000 <= record.completion.total_ms + 100 < LIMIT_S * 1000 + 3000


async def test_in_a_stream(live_acme: Company, key: str) -> None:
    async with http_here(key) as client:
        response = await client.post(CHAT, json={**LONG, "stream": True})
    assert response.status_code == 200
    record = await once_closed(live_acme, response.headers["x-request-id"])
    assert record.status == "timed_out"
    assert record.text == text_in(response.text) != ""
    assert '"code": "time_limit"' in response.text
    assert "[DONE]" not in response.text


async def test_in_a_whole_answer(live_acme: Company, key: str) -> None:
    async with http_here(key) as client:
        response = await client.post(CHAT, json=LONG)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "time_limit")
    record = await once_closed(live_acme, response.headers["x-request-id"])
    assert record.status == "timed_out"
    assert record.text != ""
