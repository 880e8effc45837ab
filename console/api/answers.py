"""An answer as one JSON body or as server-sent events, in OpenAI's shapes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from audit.output import Kind
from console.grounding import supported
from inference.client import Delta, joined_logprobs
from inference.generation.errors import explain
from inference.generation.run import Ending
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
        self._queue: asyncio.Queue[list[Delta] | Ending] = asyncio.Queue()

    async def batch(self, *, seq: int, deltas: list[Delta], sealed: bytes) -> None:
        # Unbounded, yet bounded by the tokens of one request: a slow client must not delay the record.
        self._queue.put_nowait(deltas)

    async def end(self, *, seq: int, ending: Ending) -> None:
        self._queue.put_nowait(ending)

    async def next(self) -> list[Delta] | Ending:
        """What was recorded next, or at last how it ended."""
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
    return ApiError(
        status, ending.error_code, kind, message, ending.error_param, retry_after=ending.retry_after
    )


class Shape:
    """The JSON objects of one answer with `choices` choices. `kind` is "chat" or "completion".

    sources: what was found for it in knowledge bases, as `console.grounding.Grounded` has it.
    """

    def __init__(
        self,
        *,
        kind: str,
        request_id: str,
        model: str,
        choices: int,
        sources: dict[str, Any] | None = None,
    ) -> None:
        self._sources = sources
        self._said: list[Delta] = []  # Where passages were given, which it may rest on.
        self._is_chat = kind == "chat"
        self._choices = choices
        prefix = "chatcmpl" if self._is_chat else "cmpl"
        self._common = {"id": f"{prefix}-{request_id}", "created": int(time.time()), "model": model}

    def whole(self, deltas: list[Delta], ending: Ending) -> dict[str, Any]:
        of_choice: dict[int, list[Delta]] = {index: [] for index in ending.finish_reasons}
        for delta in deltas:
            of_choice.setdefault(delta.choice, []).append(delta)
        choices = [
            {
                "index": index,
                **self._content(found),
                "logprobs": _logprobs(found),
                "finish_reason": ending.finish_reasons.get(index, "stop"),
            }
            for index, found in sorted(of_choice.items())
        ]
        name = "chat.completion" if self._is_chat else "text_completion"
        found = {"choices": choices, "usage": usage_of(ending), **self._knowledge(deltas)}
        return {**self._common, "object": name, **found}

    def opening(self) -> list[dict[str, Any]]:
        """What comes before the first text: in chats, who speaks."""
        if not self._is_chat:
            return []
        found = {} if self._sources is None else {"knowledge": self._sources}
        return [
            {**self._piece(index, {"delta": {"role": "assistant", "content": ""}}), **found}
            for index in range(self._choices)
        ]

    def piece(self, delta: Delta) -> dict[str, Any]:
        if self._sources is not None:
            self._said.append(delta)
        content = {"delta": _chat_delta(delta)} if self._is_chat else {"text": delta.text}
        return self._piece(delta.choice, content, logprobs=delta.logprobs)

    def finish(self, ending: Ending) -> list[dict[str, Any]]:
        content: dict[str, Any] = {"delta": {}} if self._is_chat else {"text": ""}
        found = self._knowledge(self._said)
        return [
            {**self._piece(index, content, finish_reason=reason), **found}
            for index, reason in sorted(ending.finish_reasons.items())
        ]

    def _knowledge(self, said: list[Delta]) -> dict[str, Any]:
        """What was found, with what the answer's sentences rest on; nothing where no base was asked."""
        return (
            {} if self._sources is None else {"knowledge": supported(self._sources, _text(said, Kind.TEXT))}
        )

    def usage(self, ending: Ending) -> dict[str, Any]:
        return {**self._common, "object": self._piece_name, "choices": [], "usage": usage_of(ending)}

    @property
    def _piece_name(self) -> str:
        return "chat.completion.chunk" if self._is_chat else "text_completion"

    def _content(self, deltas: list[Delta]) -> dict[str, Any]:
        return {"message": _message(deltas)} if self._is_chat else {"text": _text(deltas, Kind.TEXT)}

    def _piece(
        self,
        index: int,
        content: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, **content, "logprobs": logprobs, "finish_reason": finish_reason}
        return {**self._common, "object": self._piece_name, "choices": [choice]}


def _message(deltas: list[Delta]) -> dict[str, Any]:
    """A whole chat message. As OpenAI has it, one that only calls tools has no content."""
    text, reasoning, calls = _text(deltas, Kind.TEXT), _text(deltas, Kind.REASONING), _calls(deltas)
    return {
        "role": "assistant",
        "content": None if calls and not text else text,
        "refusal": None,
        **({"reasoning_content": reasoning} if reasoning else {}),
        **({"tool_calls": calls} if calls else {}),
    }


def _text(deltas: list[Delta], kind: Kind) -> str:
    return "".join(delta.text for delta in deltas if delta.kind == kind)


def _calls(deltas: list[Delta]) -> list[dict[str, Any]]:
    by_number: dict[int, list[Delta]] = {}
    for delta in deltas:
        if delta.kind == Kind.TOOL_CALL:
            by_number.setdefault(delta.call, []).append(delta)
    return [
        {
            "id": "".join(delta.id for delta in found),
            "type": "function",
            "function": {
                "name": "".join(delta.name for delta in found),
                "arguments": _text(found, Kind.TOOL_CALL),
            },
        }
        for _number, found in sorted(by_number.items())
    ]


def _chat_delta(delta: Delta) -> dict[str, Any]:
    if delta.kind == Kind.REASONING:
        return {"reasoning_content": delta.text}
    if delta.kind == Kind.TEXT:
        return {"content": delta.text}
    named = {"name": delta.name} if delta.name else {}
    opened = {"id": delta.id, "type": "function"} if delta.id else {}
    return {"tool_calls": [{"index": delta.call, **opened, "function": {**named, "arguments": delta.text}}]}


def _logprobs(deltas: list[Delta]) -> dict[str, Any] | None:
    return joined_logprobs(delta.logprobs for delta in deltas)


def usage_of(ending: Ending) -> dict[str, Any]:
    usage = ending.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": (usage.prompt_tokens or 0) + (usage.completion_tokens or 0),
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


class EventStream:
    """Server-sent events of one answer."""

    def __init__(
        self, *, reader: Reader, first: list[Delta] | Ending, shape: Shape, wants_usage: bool
    ) -> None:
        self._reader = reader
        self._first = first
        self._shape = shape
        self._wants_usage = wants_usage

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if opening := self._shape.opening():
            yield _events(opening)
        item = self._first
        while not isinstance(item, Ending):
            yield _events([self._shape.piece(delta) for delta in item])
            item = await self._reader.next()
        yield self._closing(item)

    def _closing(self, ending: Ending) -> bytes:
        error = error_of(ending)
        if error is not None:
            return _events([error.body()])
        usage = [self._shape.usage(ending)] if self._wants_usage else []
        return _events([*self._shape.finish(ending), *usage]) + b"data: [DONE]\n\n"


def _events(bodies: list[dict[str, Any]]) -> bytes:
    return b"".join(b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n" for body in bodies)
