"""From the engine's streams to an HTTP answer: server-sent events, or one JSON body."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from inference.engine import errors
from inference.engine.stream import Event, Finished, Stream, Token
from inference.protocol import ApiError, invalid_request
from inference.server.choices import ChoiceReader, Delta, Reading, joined
from inference.server.metrics import Metrics, Timeline
from inference.server.shapes import Shape, Usage

logger = logging.getLogger("custos.inference.server")

# A comment line after this much silence, so that readers and proxies can tell a long queue, or a long
# tool call of which nothing can be shown yet, from a dead service.
HEARTBEAT_SECONDS = 5.0


def to_api_error(error: errors.EngineError, param: str | None = "messages") -> ApiError:
    if isinstance(error, errors.QueueFull):
        return ApiError(429, error.code, "rate_limit_error", str(error), retry_after=error.retry_after)
    if isinstance(error, (errors.ContextLengthExceeded, errors.InvalidPrompt)):
        return invalid_request(error.code, str(error), param)
    if isinstance(error, (errors.EngineStopped, errors.OutOfMemory)):
        return ApiError(503, error.code, "server_error", str(error), retry_after=5)
    return ApiError(500, error.code, "server_error", str(error))


class _Choice:
    """One engine stream on its way out, and its timings in seconds of time.monotonic()."""

    def __init__(self, stream: Stream, reading: Reading, metrics: Metrics, arrived_at: float) -> None:
        self.stream = stream
        self.reader = ChoiceReader(reading)
        self.finished: Finished | None = None
        self.num_tokens = 0
        self.first_token_at: float | None = None
        self._last_token_at: float | None = None
        self._arrived_at = arrived_at
        self._metrics = metrics

    def read(self, event: Event) -> Delta:
        if isinstance(event, Token):
            self._count_token()
            return self.reader.push(event)
        self.finished = event
        return self.reader.finish(event)

    def _count_token(self) -> None:
        now = time.monotonic()
        self.num_tokens += 1
        self._metrics.generated_tokens.inc()
        if self._last_token_at is None:
            self.first_token_at = now
            self._metrics.first_token.observe(now - self._arrived_at)
        else:
            self._metrics.inter_token.observe(now - self._last_token_at)
        self._last_token_at = now

    def record(self, outcome: str, now: float) -> None:
        """Count how it ended: well if it finished, and else as the whole answer did."""
        finished = self.finished
        self._metrics.observe_end(
            outcome="completed" if finished else outcome,
            reason=finished.reason if finished else None,
            prompt=finished.prompt_tokens if finished else 0,
            generated=self.num_tokens,
            times=Timeline(
                self._arrived_at,
                self.stream.submitted_at,
                self.stream.admitted_at,
                self.first_token_at,
                self._last_token_at,
                now,
            ),
        )


class _Streams:
    """Several engine streams read as one; of a single one, without a detour."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self._events: asyncio.Queue[tuple[int, Event | errors.EngineError]] = asyncio.Queue()
        self._pumps = (
            [asyncio.ensure_future(self._pump(index, stream)) for index, stream in enumerate(streams)]
            if len(streams) > 1
            else []
        )

    async def _pump(self, index: int, stream: Stream) -> None:
        try:
            async for event in stream:
                self._events.put_nowait((index, event))
        except errors.EngineError as error:
            self._events.put_nowait((index, error))

    async def next(self) -> tuple[int, Event]:
        """(which stream, its next event). Raises EngineError."""
        if not self._pumps:
            return 0, await anext(self._streams[0])
        index, event = await self._events.get()
        if isinstance(event, errors.EngineError):
            raise event
        return index, event

    def cancel(self) -> None:
        """Nobody wants the rest; harmless at the end."""
        for stream in self._streams:
            stream.cancel()
        for pump in self._pumps:
            pump.cancel()


class Answer:
    """One request's generations on their way out: one choice for each stream, read as `reading` says.

    `per_prompt` streams in a row share a prompt.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        *,
        shape: Shape,
        reading: Reading,
        per_prompt: int,
        wants_stream: bool,
        wants_usage: bool,
        request_id: str,
        tenant: str,
        arrived_at: float,
        metrics: Metrics,
    ) -> None:
        self.shape = shape
        self.wants_stream = wants_stream
        self.wants_usage = wants_usage
        self.choices = [_Choice(stream, reading, metrics, arrived_at) for stream in streams]
        self._streams = _Streams(streams)
        self._reasons = reading.opens_thinking is not None
        self._per_prompt = per_prompt
        self._request_id = request_id
        self._tenant = tenant
        self._arrived_at = arrived_at
        self._metrics = metrics

    async def pieces(self) -> AsyncGenerator[tuple[int, Delta] | None, None]:
        """(choice, what comes to it) until every choice has had its end; None after some seconds of silence.

        Raises ApiError, as soon as one choice fails. However it ends, the engine is told and each
        choice is counted once.
        """
        outcome, still_open = "cancelled", len(self.choices)
        quiet_since = time.monotonic()
        try:
            while still_open:
                try:
                    async with asyncio.timeout(quiet_since + HEARTBEAT_SECONDS - time.monotonic()):
                        index, event = await self._streams.next()
                except TimeoutError:
                    quiet_since = time.monotonic()
                    yield None
                    continue
                if isinstance(event, Finished):
                    if event.reason == "cancelled":  # Not by us, who would no longer be reading.
                        raise errors.EngineStopped
                    still_open -= 1
                    if index % self._per_prompt == 0:
                        self._metrics.prompt_tokens.inc(event.prompt_tokens)
                if delta := self.choices[index].read(event):
                    quiet_since = time.monotonic()
                    yield index, delta
        except errors.EngineError as error:
            outcome = "unavailable" if isinstance(error, errors.EngineStopped) else "failed"
            raise to_api_error(error) from error
        except Exception:
            outcome = "failed"
            raise
        finally:
            self.cancel()
            self._record(outcome)

    def cancel(self) -> None:
        """Nobody wants the rest. Harmless at the end."""
        self._streams.cancel()

    def usage(self) -> Usage:
        """Once every choice has ended. Of choices that share a prompt, the first tells what was cached."""
        ends = [choice.finished for choice in self.choices if choice.finished is not None]
        prompts = ends[:: self._per_prompt]
        return Usage(
            prompt=sum(end.prompt_tokens for end in prompts),
            completion=sum(end.completion_tokens for end in ends),
            cached=sum(end.cached_tokens for end in prompts),
            reasoning=sum(choice.reader.num_reasoning_tokens for choice in self.choices)
            if self._reasons
            else None,
        )

    def _record(self, outcome: str) -> None:
        now = time.monotonic()
        for choice in self.choices:
            choice.record(outcome, now)
        firsts = [choice.first_token_at for choice in self.choices if choice.first_token_at is not None]
        logger.info(
            "generation request_id=%s tenant=%s outcome=%s choices=%d tokens=%d ttft_s=%.3f total_s=%.3f",
            self._request_id,
            self._tenant or "-",
            "completed" if all(choice.finished for choice in self.choices) else outcome,
            len(self.choices),
            sum(choice.num_tokens for choice in self.choices),
            min(firsts) - self._arrived_at if firsts else -1.0,
            now - self._arrived_at,
        )


# --- HTTP ------------------------------------------------------------------------------------------


class AnswerResponse(Response):
    """Sends an Answer, and stops the moment the client is gone.

    Starlette's StreamingResponse would do for streams, but nothing it has watches the client of a
    plain JSON answer; one way serves both here.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streamed = self.answer.wants_stream
        try:
            await while_connected(
                receive, self._send_events(send) if streamed else self._send_json(scope, receive, send)
            )
        finally:
            self.answer.cancel()  # A client that leaves before the first piece is asked for frees its place too.

    async def _send_events(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with aclosing(self._events()) as lines:
            async for line in lines:
                await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncGenerator[bytes, None]:
        answer, shape = self.answer, self.answer.shape
        if opening := shape.opening():
            yield _events(opening)
        try:
            async with aclosing(answer.pieces()) as pieces:
                async for piece in pieces:
                    yield b": waiting\n\n" if piece is None else _events(shape.chunks(*piece))
            usage = [shape.usage_chunk(answer.usage())] if answer.wants_usage else []
            yield _events(usage) + b"data: [DONE]\n\n"
        except ApiError as error:  # Too late for a status: the error travels as the last event.
            yield _events([error.body()])

    async def _send_json(self, scope: Scope, receive: Receive, send: Send) -> None:
        choices: list[list[Delta]] = [[] for _ in self.answer.choices]
        try:
            async for piece in self.answer.pieces():
                if piece is not None:
                    index, delta = piece
                    choices[index].append(delta)
        except ApiError as error:
            response = error_response(error)
        else:
            whole = self.answer.shape.whole([joined(deltas) for deltas in choices], self.answer.usage())
            response = JSONResponse(whole)
        await response(scope, receive, send)


_to_json = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":")
).encode  # Made once: `dumps` makes it anew.


def error_response(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), error.status, error.headers())


def _events(bodies: list[dict[str, Any]]) -> bytes:
    return b"".join(b"data: " + _to_json(body).encode() + b"\n\n" for body in bodies)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends or the client disconnects, whichever is first."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        if not working.done():
            working.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
    if not working.cancelled() and (error := working.exception()) is not None:
        raise error


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
