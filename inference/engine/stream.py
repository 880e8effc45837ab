"""What comes out: an asynchronous stream of tokens for one request.

The engine's thread writes, the event loop that submitted the request reads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inference.engine.errors import EngineError

if TYPE_CHECKING:
    from inference.engine.sampler import TokenLogprobs

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token. `text` is what may be shown by now: often empty, never half a character."""

    id: int
    text: str
    logprobs: TokenLogprobs | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a stream. `text` is what was held back until now; counts are in tokens."""

    reason: FinishReason
    text: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


Event = Token | Finished


class Stream:
    """Iterate to get `Token`s and one `Finished`; raises EngineError when the request fails.

    Call `cancel` (from any thread, any number of times) when nobody wants the rest. `submitted_at` and
    `admitted_at` (None: still in line) are in seconds of time.monotonic(); the engine sets the latter,
    once, before the first event.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, cancel: Callable[[], None], outbox: Outbox) -> None:
        self.loop = loop
        self._outbox = outbox
        self._events: asyncio.Queue[Event | EngineError] = asyncio.Queue()
        self._ended = False
        self.cancel = cancel
        self.submitted_at = time.monotonic()
        self.admitted_at: float | None = None

    def put(self, event: Event | EngineError) -> None:
        """An event for the reader; it travels with the outbox. Called from the engine's thread."""
        self._outbox.add(self, event)

    def receive(self, event: Event | EngineError) -> None:
        """An event has arrived in the reader's loop."""
        self._events.put_nowait(event)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Event:
        if self._ended:
            raise StopAsyncIteration
        event = await self._events.get()
        if isinstance(event, Token):
            return event
        self._ended = True
        if isinstance(event, EngineError):
            raise event
        return event


class Outbox:
    """Collects what a step has to say and hands each event loop all of it in one go.

    Waking a loop costs more than a token's worth of Python, so it is done once a step, not once a token.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[asyncio.AbstractEventLoop, list[tuple[Stream, Event | EngineError]]] = {}

    def add(self, stream: Stream, event: Event | EngineError) -> None:
        with self._lock:
            self._events.setdefault(stream.loop, []).append((stream, event))

    def send(self) -> None:
        """Hand over everything added so far. Cancels the streams whose loop is closed: nobody reads them."""
        with self._lock:
            events, self._events = self._events, {}
        for loop, batch in events.items():
            try:
                loop.call_soon_threadsafe(_deliver, batch)
            except RuntimeError:
                for stream in {stream for stream, _ in batch}:
                    stream.cancel()


def _deliver(batch: list[tuple[Stream, Event | EngineError]]) -> None:
    for stream, event in batch:
        stream.receive(event)
