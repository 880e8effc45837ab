"""An answer as one JSON body or as server-sent events, in OpenAI's shapes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from inference.generation.errors import explain
from inference.generation.run import Ending, Generation
from inference.protocol import ApiError

_HTTP_STATUS = {
    "access_revoked": 401,
    "audit_lost": 503,
    "shutting_down": 503,
    "stream_unavailable": 503,
    "time_limit": 504,
}


class Reader:
    """Holds what is recorded until the client takes it; made before the generation, as its sink."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str | Ending] = asyncio.Queue()

    async def batch(self, *, seq: int, text: str, sealed: bytes) -> None:
        # Unbounded, yet bounded by the tokens of one answer: a slow client must not delay the record.
        self._queue.put_nowait(text)

    async def end(self, *, seq: int, ending: Ending) -> None:
        self._queue.put_nowait(ending)

    async def next(self) -> str | Ending:
        """The next recorded text, or at last how it ended."""
        return await self._queue.get()


def error_of(ending: Ending) -> ApiError | None:
    """What a caller is told about an answer that is not complete; None when it is."""
    if ending.status == "completed":
        return None
    status = _HTTP_STATUS.get(ending.error_code, ending.http_status)
    kind = (
        "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    )
    message = ending.error_message or explain(ending.error_code)
    return ApiError(status, ending.error_code, kind, message, retry_after=ending.retry_after)


class Shape:
    """The JSON objects of one answer. `kind` is "chat" or "completion"."""

    def __init__(self, *, kind: str, request_id: str, model: str) -> None:
        self._is_chat = kind == "chat"
        prefix = "chatcmpl" if self._is_chat else "cmpl"
        self._common = {"id": f"{prefix}-{request_id}", "created": int(time.time()), "model": model}

    def whole(self, text: str, ending: Ending) -> dict[str, Any]:
        content = (
            {"message": {"role": "assistant", "content": text, "refusal": None}}
            if self._is_chat
            else {"text": text}
        )
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": ending.finish_reason}
        name = "chat.completion" if self._is_chat else "text_completion"
        return {**self._common, "object": name, "choices": [choice], "usage": usage_of(ending)}

    def opening(self) -> list[dict[str, Any]]:
        """What comes before the first text: in chats, who speaks."""
        return [self._piece({"delta": {"role": "assistant", "content": ""}})] if self._is_chat else []

    def text(self, text: str) -> dict[str, Any]:
        return self._piece({"delta": {"content": text}} if self._is_chat else {"text": text})

    def finish(self, ending: Ending) -> dict[str, Any]:
        content: dict[str, Any] = {"delta": {}} if self._is_chat else {"text": ""}
        return self._piece(content, ending.finish_reason)

    def usage(self, ending: Ending) -> dict[str, Any]:
        return {**self._common, "object": self._piece_name, "choices": [], "usage": usage_of(ending)}

    @property
    def _piece_name(self) -> str:
        return "chat.completion.chunk" if self._is_chat else "text_completion"

    def _piece(self, content: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
        return {**self._common, "object": self._piece_name, "choices": [choice]}


def usage_of(ending: Ending) -> dict[str, Any]:
    usage = ending.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": (usage.prompt_tokens or 0) + (usage.completion_tokens or 0),
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


class EventStream:
    """Server-sent events of one answer. Closing it, or cancelling whoever reads it, stops the generation."""

    def __init__(
        self, *, generation: Generation, reader: Reader, first: str | Ending, shape: Shape, wants_usage: bool
    ) -> None:
        self._generation = generation
        self._reader = reader
        self._first = first
        self._shape = shape
        self._wants_usage = wants_usage

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for opening in self._shape.opening():
                yield _event(opening)
            item = self._first
            while isinstance(item, str):
                yield _event(self._shape.text(item))
                item = await self._reader.next()
            for event in self._closing(item):
                yield event
        finally:
            self.close()

    def _closing(self, ending: Ending) -> list[bytes]:
        error = error_of(ending)
        if error is not None:
            return [_event(error.body())]
        usage = [_event(self._shape.usage(ending))] if self._wants_usage else []
        return [_event(self._shape.finish(ending)), *usage, b"data: [DONE]\n\n"]

    def close(self) -> None:
        """Stop the generation unless it has ended. Django calls this when it is done with the response."""
        self._generation.stop("disconnected", "client_disconnected")


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"
