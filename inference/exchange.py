"""One HTTP request and its streamed answer, which no cancellation can tear apart.

httpcore ends an answer in several steps: it closes the connection or hands it back, and frees its place in the pool.
A cancellation between two of them leaves a connection open that nobody reads: the answer at its other end runs on,
and its place in the pool is lost for good. It takes a second cancellation while the first one's closing is under way,
or a single one at the very end of an answer. So httpx works in tasks of its own here, which its reader's
cancellations do not reach: one that waits for the answer's head is cancelled once, one that reads ends because its
connection is closed.

Imports httpx only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, Self

import httpx

_closings: set[asyncio.Task[None]] = set()  # Their readers may be gone, and a loop holds tasks only weakly.


class Exchange:
    """Sends `request` when entered; afterwards `response` is there, its body unread.

    Leaving the context hangs up, or hands the connection back once the body has been read. That is carried out
    however often whoever waits for it is cancelled. Entering and reading raise httpx.TransportError.
    """

    response: httpx.Response

    def __init__(self, client: httpx.AsyncClient, request: httpx.Request) -> None:
        self._client = client
        self._request = request
        self._is_open = False
        self._work: asyncio.Task[None] | None = None  # What httpx is doing for us.

    async def __aenter__(self) -> Self:
        try:
            await self._carry_out(self._open())
        except BaseException:
            await self._close_for_certain()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close_for_certain()

    async def read(self) -> str:
        """The whole body."""
        await self._carry_out(self._read())
        return self.response.text

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives."""
        arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._work = work = asyncio.create_task(self._forward(arrived))
        while (chunk := await arrived.get()) is not None:
            yield chunk
        await asyncio.shield(work)

    async def _open(self) -> None:
        self.response = await self._client.send(self._request, stream=True)
        self._is_open = True

    async def _read(self) -> None:
        await self.response.aread()

    async def _forward(self, arrived: asyncio.Queue[bytes | None]) -> None:
        try:
            async for chunk in self.response.aiter_bytes():
                arrived.put_nowait(chunk)
        finally:
            arrived.put_nowait(None)

    async def _carry_out(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = asyncio.create_task(work)
        await asyncio.shield(self._work)

    async def _close_for_certain(self) -> None:
        closing = asyncio.create_task(self._close())
        _closings.add(closing)
        closing.add_done_callback(_closings.discard)
        await asyncio.shield(closing)

    async def _close(self) -> None:
        assert self._work is not None
        if self._is_open:
            await self.response.aclose()
        else:
            self._work.cancel()
        # A reader that finds its connection closed raises, which is of interest to nobody by now.
        await asyncio.gather(self._work, return_exceptions=True)
