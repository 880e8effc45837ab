"""What comes out: an asynchronous stream of tokens for one request.

The engine's thread writes, the event loop that submitted the request reads.
"""

from __future__ import annotations

import asyncio
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

    def __init__(self, loop: asyncio.AbstractEventLoop, cancel: Callable[[], None]) -> None:
        self._loop = loop
        self._events: asyncio.Queue[Event | EngineError] = asyncio.Queue()
        self._ended = False
        self.submitted_at = time.monotonic()
        self.admitted_at: float | None = None
        self.cancel = cancel

    def put(self, event: Event | EngineError) -> None:
        """Hand an event to the reader; called from the engine's thread. Cancels if the loop is gone."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # The loop was closed: nobody is left to read.
            self.cancel()

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
