"""People who wait at a screen go before programs, whatever the programs say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from asgiref.sync import sync_to_async

from audit.output import text_of
from inference.client import InferenceClient
from inference.generation import run, running
from inference.generation.run import Ending, Order
from inference.registry.selectors import Resolved
from inference.routing.choice import resolve
from tenants.roles import API_USE, CHAT_USE
from tenants.scope import tenant_scope
from tests.chat.recorded import once_closed
from tests.conftest import Company

ANSWER = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"".join(
    b"data: " + line + b"\n\n" for line in (b'{"choices":[{"delta":{"content":"Yes."}}]}', b"[DONE]")
)


@dataclass
class OtherServer:
    """Speaks OpenAI's API and nothing of Custos's; remembers what it was sent."""

    headers: str = ""
    body: dict[str, Any] = field(default_factory=dict)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(self.headers.split("content-length: ")[1].split("\r\n")[0])
        self.body = json.loads(await reader.readexactly(length))
        writer.write(ANSWER)
        await writer.drain()
        writer.close()


class Nobody:
    async def batch(self, **_: Any) -> None: ...

    async def end(self, *, seq: int, ending: Ending) -> None: ...


@pytest.fixture
async def other() -> AsyncIterator[tuple[OtherServer, InferenceClient]]:
    remembers = OtherServer()
    async with await asyncio.start_server(remembers.answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield remembers, InferenceClient(f"http://127.0.0.1:{port}")
    await running.of_this_loop().shut_down()


def default_route(company: Company) -> Resolved:
    with tenant_scope(company.tenant.pk):
        return resolve(company.actor(company.member), None)


@pytest.mark.parametrize(
    ("channel", "asked", "sent"),
    [("chat", None, None), ("api", None, 1), ("api", -7, 1), ("api", 0, 1), ("api", 5, 5)],
)
async def test_a_program_may_only_stand_further_back(
    live_acme: Company,
    other: tuple[OtherServer, InferenceClient],
    channel: Literal["chat", "api"],
    asked: int | None,
    sent: int | None,
) -> None:
    server, client = other
    wish = {} if asked is None else {"priority": asked}
    order = Order(
        actor=await sync_to_async(live_acme.actor)(live_acme.member),
        channel=channel,
        permission=CHAT_USE if channel == "chat" else API_USE,
        kind="chat",
        request={"messages": [{"role": "user", "content": "May I?"}], **wish},
        resolved=replace(await sync_to_async(default_route)(live_acme), served_id="served", client=client),
    )
    generation = await run.begin(order, Nobody())
    generation.start()
    await generation.wait()
    assert text_of(generation.parts) == "Yes."
    assert "priority" not in server.body, "other servers would refuse it"
    assert server.body["model"] == "served"
    if sent is None:
        assert "x-custos-priority" not in server.headers
    else:
        assert f"x-custos-priority: {sent}\r\n" in server.headers
    record = await once_closed(live_acme, order.request_id)
    assert record.parameters == wish, "the record holds what was asked"
