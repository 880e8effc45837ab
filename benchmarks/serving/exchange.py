"""One streamed request, at a cost that does not disturb what it measures.

While an answer streams, only the time and the bytes of each read are kept: a few microseconds. They are taken apart when
the run is over (`Answer.of`). A client library that parses each event on arrival would take processor time from the
server under test, which shares our cores.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server's chat completions are."""

    port: int
    token: str = ""
    path: str = "/v1/chat/completions"

    def request(self, body: dict[str, Any]) -> bytes:
        content = json.dumps(body).encode()
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            "Connection: close",
        ]
        if self.token:
            lines.append(f"Authorization: Bearer {self.token}")
        return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass(slots=True)
class Reads:
    """What came back, uninterpreted. Times are of `time.perf_counter`, in seconds."""

    asked: float
    max_tokens: int
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    ended: float = 0.0
    problem: str = ""


class _Reader(asyncio.Protocol):
    def __init__(self, request: bytes, reads: Reads, done: asyncio.Future[None]) -> None:
        self._request, self._reads, self._done = request, reads, done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._reads.pieces.append((time.perf_counter(), data))

    def connection_lost(self, error: Exception | None) -> None:
        self._reads.ended = time.perf_counter()
        self._reads.problem = str(error or "")
        if not self._done.done():
            self._done.set_result(None)


async def exchange(address: Address, body: dict[str, Any], *, limit_s: float = 300) -> Reads:
    """Send `body` (it must ask for a stream) and read until the server closes. Never raises for what a server does."""
    request = address.request(body)
    loop = asyncio.get_running_loop()
    reads = Reads(time.perf_counter(), body["max_tokens"])
    done: asyncio.Future[None] = loop.create_future()
    try:
        transport, _ = await loop.create_connection(
            lambda: _Reader(request, reads, done), "127.0.0.1", address.port
        )
    except OSError as error:
        reads.ended, reads.problem = time.perf_counter(), str(error)
        return reads
    try:
        async with asyncio.timeout(limit_s):
            await done
    except TimeoutError:
        reads.ended, reads.problem = time.perf_counter(), f"no end after {limit_s:g} s"
    finally:
        transport.close()
    return reads


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, understood. `arrivals` has the time of every event that carried text, `asked` when it was requested.

    Tokens are the server's own count (usage). Of a server that reports none they are `max_tokens` when the answer was cut
    by length, else the number of events with text. One event may carry several tokens, so gaps between arrivals
    are what a reader sees, not the time of a step.
    """

    asked: float
    arrivals: tuple[float, ...]
    ended: float
    text: str
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    problem: str

    @property
    def ttft(self) -> float:
        """Seconds to the first text."""
        return self.arrivals[0] - self.asked

    @property
    def gaps(self) -> list[float]:
        """Seconds between one event with text and the next."""
        return [after - before for before, after in pairwise(self.arrivals)]

    @classmethod
    def of(cls, reads: Reads) -> Answer:
        status, events = _events(reads.pieces)
        arrivals: list[float] = []
        usage: dict[str, Any] = {}
        text, finish, problem = "", None, reads.problem
        if status != 200 and not problem:
            problem = f"status {status}: {b''.join(piece for _, piece in reads.pieces)[-300:]!r}"
        for when, event in events:
            if "error" in event:
                problem = problem or str(event["error"])
            usage = event.get("usage") or usage
            for choice in event.get("choices", ()):
                finish = choice.get("finish_reason") or finish
                delta = choice.get("delta") or {}
                if piece := (delta.get("content") or "") + (delta.get("reasoning_content") or ""):
                    text += piece
                    arrivals.append(when)
        counted = reads.max_tokens if finish == "length" else len(arrivals)
        return cls(
            asked=reads.asked,
            arrivals=tuple(arrivals),
            ended=reads.ended,
            text=text,
            tokens=usage.get("completion_tokens") or counted,
            prompt_tokens=usage.get("prompt_tokens") or 0,
            cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
            problem=problem or ("" if arrivals and finish else "the answer has no text or no end"),
        )


def _events(pieces: list[tuple[float, bytes]]) -> tuple[int, list[tuple[float, dict[str, Any]]]]:
    """The status, and each server-sent event with the time of the read that completed it."""
    status, events, pending = 0, [], b""
    for when, data in _bodies(pieces):
        if isinstance(data, int):
            status = data
            continue
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and (content := line[5:].strip()) != b"[DONE]":
                try:
                    events.append((when, json.loads(content)))
                except ValueError:
                    events.append((when, {"error": f"not JSON: {content[:200]!r}"}))
    return status, events


def _bodies(pieces: list[tuple[float, bytes]]) -> Iterator[tuple[float, bytes | int]]:
    """Undo HTTP: first the status, then the body's bytes, with the times of their reads."""
    pending, chunked, in_head = b"", False, True
    for when, data in pieces:
        pending += data
        if in_head:
            head, end, rest = pending.partition(b"\r\n\r\n")
            if not end:
                continue
            in_head, pending = False, rest
            chunked = b"transfer-encoding: chunked" in head.lower()
            yield when, int(head.split(b" ", 2)[1])
        if not chunked:
            yield when, pending
            pending = b""
            continue
        while (at := pending.find(b"\r\n")) > 0:
            size = int(pending[:at].split(b";")[0], 16)
            end_of_chunk = at + 2 + size
            if len(pending) < end_of_chunk + 2:
                break
            yield when, pending[at + 2 : end_of_chunk]
            pending = pending[end_of_chunk + 2 :]
