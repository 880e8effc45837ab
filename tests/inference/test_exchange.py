"""Whenever and however often a reader is cancelled, its connection ends and its place in the pool is free again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx
import pytest

from inference import client as inference
from inference.client import Delta, Finished, InferenceClient, close_pool

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TURNS = range(8)  # Of the event loop: more than httpcore takes to close a connection.


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


DELTA = chunk(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n')
END = chunk(b"data: [DONE]\n\n") + chunk(b"")


class Server:
    """Answers each request with `head`, and with `rest` once `more` is set; `left` when a client hung up."""

    def __init__(self) -> None:
        self.port = 0
        self.head, self.rest = HEAD + DELTA, b""
        self.asked, self.more, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            if not piece.endswith(b"}"):
                continue  # The body is yet to come.
            self.asked.set()
            writer.write(self.head)
            if self.rest:
                await self.more.wait()
                writer.write(self.rest)
        self.left.set()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    answering = Server()
    async with await asyncio.start_server(answering.answer, "127.0.0.1", 0) as listening:
        answering.port = listening.sockets[0].getsockname()[1]
        yield answering
        await close_pool()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> InferenceClient:
    """With room for a single connection, so that a place that stays taken is noticed by the next request."""
    monkeypatch.setattr(inference, "_LIMITS", httpx.Limits(max_connections=1))
    monkeypatch.setattr(inference, "_TIMEOUT", httpx.Timeout(5, pool=0.5))
    return InferenceClient(f"http://127.0.0.1:{server.port}")


class Reader:
    """A task that reads one answer."""

    def __init__(self, client: InferenceClient) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._read(client))

    async def _read(self, client: InferenceClient) -> None:
        async with aclosing(client.stream_chat({})) as items:
            async for item in items:
                (self.ended if isinstance(item, Finished) else self.begun).set()

    async def cancel(self, *, then: int | None = None) -> None:
        """Cancel it, and again after some turns of the event loop."""
        self.task.cancel()
        if then is not None:
            await turns(then)
            self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def has_room(server: Server, client: InferenceClient) -> bool:
    """Whether the next answer arrives whole."""
    server.head, server.rest = HEAD + DELTA + END, b""
    return [type(item) async for item in client.stream_chat({})] == [Delta, Finished]


@pytest.mark.parametrize("count", TURNS)
async def test_one_that_is_cancelled_twice_in_its_answer(
    server: Server, client: InferenceClient, count: int
) -> None:
    reader = Reader(client)
    await reader.begun.wait()
    await reader.cancel(then=count)
    await asyncio.wait_for(server.left.wait(), 1)
    assert await has_room(server, client)


@pytest.mark.parametrize("count", TURNS)
async def test_one_that_is_cancelled_twice_before_its_answer(
    server: Server, client: InferenceClient, count: int
) -> None:
    server.head = b""
    reader = Reader(client)
    await server.asked.wait()
    await turns(5)  # Until the request has been sent.
    await reader.cancel(then=count)
    await asyncio.wait_for(server.left.wait(), 1)
    assert await has_room(server, client)


@pytest.mark.parametrize("count", TURNS)
async def test_one_that_is_cancelled_as_its_answer_ends(
    server: Server, client: InferenceClient, count: int
) -> None:
    server.rest = END
    reader = Reader(client)
    await reader.begun.wait()
    server.more.set()
    await reader.ended.wait()
    await turns(count)
    await reader.cancel()
    assert await has_room(server, client)


@pytest.mark.parametrize("count", TURNS)
async def test_one_that_waits_for_an_answer_in_one_piece(
    server: Server, client: InferenceClient, count: int
) -> None:
    server.head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{"
    asking = asyncio.create_task(client.tokenize({}))
    await server.asked.wait()
    await turns(5)
    asking.cancel()
    await turns(count)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await asyncio.wait_for(server.left.wait(), 1)
    assert await has_room(server, client)


async def test_an_iterator_that_is_closed(server: Server, client: InferenceClient) -> None:
    async with aclosing(client.stream_chat({})) as items:
        await anext(items)
    await asyncio.wait_for(server.left.wait(), 1)
    assert await has_room(server, client)
