"""From an engine's stream to an HTTP answer: server-sent events, or one JSON body."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from inference.engine import errors
from inference.engine.stream import Finished, Stream, Token
from inference.protocol import ApiError, ChatCompletionRequest, CompletionRequest, invalid_request
from inference.server.metrics import Metrics, Timeline

logger = logging.getLogger("custos.inference.server")

# A comment line this often while nothing is generated yet, so that readers and proxies can tell a
# long queue from a dead service.
HEARTBEAT_SECONDS = 5.0


def to_api_error(error: errors.EngineError) -> ApiError:
    if isinstance(error, errors.QueueFull):
        return ApiError(429, error.code, "rate_limit_error", str(error), retry_after=error.retry_after)
    if isinstance(error, (errors.ContextLengthExceeded, errors.InvalidPrompt)):
        return invalid_request(error.code, str(error), "messages")
    if isinstance(error, (errors.EngineStopped, errors.OutOfMemory)):
        return ApiError(503, error.code, "server_error", str(error), retry_after=5)
    return ApiError(500, error.code, "server_error", str(error))


class Answer:
    """One generation on its way out: timings, counts and the words of OpenAI's format."""

    def __init__(
        self,
        wire: ChatCompletionRequest | CompletionRequest,
        stream: Stream,
        *,
        request_id: str,
        tenant: str,
        arrived_at: float,
        metrics: Metrics,
    ) -> None:
        self.wire = wire
        self._is_chat = isinstance(wire, ChatCompletionRequest)
        self._stream = stream
        self._request_id = request_id
        self._tenant = tenant
        self._arrived_at = arrived_at
        self._metrics = metrics
        self._created = int(time.time())
        self._first_token_at: float | None = None
        self._last_token_at: float | None = None
        self._num_tokens = 0
        self._finished: Finished | None = None

    async def pieces(self) -> AsyncGenerator[str | Finished | None, None]:
        """Text as it comes, a Finished at the end, and None every few seconds of silence.

        Raises ApiError. However it ends, the engine is told and the outcome is counted once.
        """
        outcome = "cancelled"
        try:
            while True:
                event = await self._next()
                if isinstance(event, Token):
                    self._count_token()
                    if event.text:
                        yield event.text
                elif isinstance(event, Finished):
                    outcome = "completed" if event.reason != "cancelled" else "cancelled"
                    self._finished = event
                    self._metrics.prompt_tokens.inc(event.prompt_tokens)
                    if event.text:
                        yield event.text
                    yield event
                    return
                else:
                    yield None
        except errors.EngineError as error:
            outcome = "unavailable" if isinstance(error, errors.EngineStopped) else "failed"
            raise to_api_error(error) from error
        finally:
            self._stream.cancel()
            self._record(outcome)

    def cancel(self) -> None:
        """Nobody wants the rest. Harmless at the end."""
        self._stream.cancel()

    async def _next(self) -> Token | Finished | None:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                return await anext(self._stream)
        except TimeoutError:
            return None

    def _count_token(self) -> None:
        now = time.monotonic()
        self._num_tokens += 1
        self._metrics.generated_tokens.inc()
        if self._last_token_at is None:
            self._first_token_at = now
            self._metrics.first_token.observe(now - self._arrived_at)
        else:
            self._metrics.inter_token.observe(now - self._last_token_at)
        self._last_token_at = now

    def _record(self, outcome: str) -> None:
        now = time.monotonic()
        total = now - self._arrived_at
        finished = self._finished if outcome == "completed" else None
        self._metrics.observe_end(
            outcome=outcome,
            reason=finished.reason if finished else None,
            prompt=finished.prompt_tokens if finished else 0,
            generated=self._num_tokens,
            times=Timeline(
                self._arrived_at,
                self._stream.submitted_at,
                self._stream.admitted_at,
                self._first_token_at,
                self._last_token_at,
                now,
            ),
        )
        first = -1.0 if self._first_token_at is None else self._first_token_at - self._arrived_at
        logger.info(
            "generation request_id=%s tenant=%s outcome=%s tokens=%d ttft_s=%.3f total_s=%.3f",
            self._request_id, self._tenant or "-", outcome, self._num_tokens, first, total,
        )  # fmt: skip

    # --- OpenAI's words ---------------------------------------------------------------------------

    def chunk(self, text: str | None = None, reason: str | None = None) -> dict[str, Any]:
        """One streamed chunk; with neither text nor reason, the opening one that names the role."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        if not self._is_chat:
            choice |= {"text": text or "", "logprobs": None}
        elif reason is not None:
            choice["delta"] = {}
        else:
            choice["delta"] = {"role": "assistant", "content": ""} if text is None else {"content": text}
        return {**self._envelope(streamed=True), "choices": [choice]}

    def usage_chunk(self, finished: Finished) -> dict[str, Any]:
        return {**self._envelope(streamed=True), "choices": [], "usage": _usage(finished)}

    def whole(self, text: str, finished: Finished) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finished.reason, "logprobs": None}
        if self._is_chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        return {**self._envelope(streamed=False), "choices": [choice], "usage": _usage(finished)}

    def _envelope(self, *, streamed: bool) -> dict[str, Any]:
        kind = "chat.completion" if self._is_chat else "text_completion"
        return {
            "id": f"{'chatcmpl' if self._is_chat else 'cmpl'}-{self._request_id}",
            "object": f"{kind}.chunk" if streamed and self._is_chat else kind,
            "created": self._created,
            "model": self.wire.model,
        }


def _usage(finished: Finished) -> dict[str, Any]:
    return {
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": finished.completion_tokens,
        "total_tokens": finished.prompt_tokens + finished.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": finished.cached_tokens},
    }


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
        if self.answer.wire.wants_stream:
            work = self._send_events(send)
        else:
            work = self._send_json(scope, receive, send)
        try:
            await while_connected(receive, work)
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
        answer = self.answer
        if isinstance(answer.wire, ChatCompletionRequest):
            yield _event(answer.chunk())
        try:
            async with aclosing(answer.pieces()) as pieces:
                async for piece in pieces:
                    if piece is None:
                        yield b": waiting\n\n"
                    elif isinstance(piece, str):
                        yield _event(answer.chunk(piece))
                    else:
                        yield _event(answer.chunk(reason=piece.reason))
                        if answer.wire.wants_usage:
                            yield _event(answer.usage_chunk(piece))
                        yield b"data: [DONE]\n\n"
        except ApiError as error:  # Too late for a status: the error travels as the last event.
            yield _event(error.body())

    async def _send_json(self, scope: Scope, receive: Receive, send: Send) -> None:
        text: list[str] = []
        try:
            async for piece in self.answer.pieces():
                if isinstance(piece, str):
                    text.append(piece)
                elif piece is not None:
                    response: Response = JSONResponse(self.answer.whole("".join(text), piece))
        except ApiError as error:
            response = error_response(error)
        await response(scope, receive, send)


def error_response(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body(), error.status, error.headers())


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


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
