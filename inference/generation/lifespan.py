"""The server process's life, as ASGI tells it: generations end in order before the process does."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

from inference import client
from inference.generation import running
from tenants import valkey

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def lifespan(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """An ASGI lifespan application."""
    await receive()
    _stop_generations_on(signal.SIGTERM, signal.SIGINT)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await running.of_this_loop().shut_down()
    await client.close_pool()
    await valkey.close_client()
    await send({"type": "lifespan.shutdown.complete"})


def _stop_generations_on(*numbers: int) -> None:
    """At a signal, before the server's own handling: it would first wait for open answers to finish."""
    loop, generations = asyncio.get_running_loop(), running.of_this_loop()
    for number in numbers:
        servers_own = signal.getsignal(number)
        if not callable(servers_own):
            continue

        def handle(number: int, frame: FrameType | None, servers_own: Any = servers_own) -> None:
            loop.call_soon_threadsafe(generations.close)
            servers_own(number, frame)

        signal.signal(number, handle)
