"""OpenAI's JSON for an answer: chunks of a stream, or one whole body."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from inference.protocol import ChatCompletionRequest, CompletionRequest
from inference.server.choices import Delta
from inference.server.logprobs import LegacyLogprobs, Vocabulary, chat_logprobs
from inference.server.tool_calls import ToolCall


@dataclass(frozen=True, slots=True)
class Usage:
    """In tokens; a prompt counts once however many choices it has. `reasoning` is None for other models."""

    prompt: int
    completion: int
    cached: int
    reasoning: int | None

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }
        if self.reasoning is not None:
            body["completion_tokens_details"] = {"reasoning_tokens": self.reasoning}
        return body


class ChatShape:
    """The words of /v1/chat/completions, for one answer of `choices` choices."""

    def __init__(
        self, wire: ChatCompletionRequest, vocabulary: Vocabulary, *, request_id: str, choices: int
    ) -> None:
        self._vocabulary = vocabulary
        self._num_calls = [0] * choices
        self._common = _common(f"chatcmpl-{request_id}", wire)
        self._chunk = {**self._common, "object": "chat.completion.chunk", **_no_usage_yet(wire)}

    def opening(self) -> list[dict[str, Any]]:
        """What comes before anything else: who speaks, in each choice."""
        return [
            self._piece(index, {"role": "assistant", "content": ""}) for index in range(len(self._num_calls))
        ]

    def chunks(self, index: int, delta: Delta) -> list[dict[str, Any]]:
        """One for what was said and one for the end, as far as `delta` has either."""
        chunks = []
        if delta.text or delta.reasoning or delta.calls or delta.logprobs:
            said: dict[str, Any] = {"reasoning_content": delta.reasoning} if delta.reasoning else {}
            if delta.calls:
                said["tool_calls"] = [self._numbered(index, call) for call in delta.calls]
            if delta.text or not said:
                said["content"] = delta.text
            chunks.append(self._piece(index, said, logprobs=self._logprobs(delta)))
        if delta.reason is not None:
            chunks.append(self._piece(index, {}, reason=delta.reason))
        return chunks

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        return {**self._chunk, "choices": [], "usage": usage.body()}

    def whole(self, choices: list[Delta], usage: Usage) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        return {
            **self._common,
            "object": "chat.completion",
            "choices": [
                {
                    "index": index,
                    "message": _message(delta),
                    "logprobs": self._logprobs(delta),
                    "finish_reason": delta.reason,
                }
                for index, delta in enumerate(choices)
            ],
            "usage": usage.body(),
        }

    def _piece(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return {**self._chunk, "choices": [choice]}

    def _numbered(self, index: int, call: ToolCall) -> dict[str, Any]:
        number = self._num_calls[index]
        self._num_calls[index] += 1
        return {"index": number, **_call(call)}

    def _logprobs(self, delta: Delta) -> dict[str, Any] | None:
        return chat_logprobs(self._vocabulary, delta.logprobs) if delta.logprobs else None


class CompletionShape:
    """The words of /v1/completions; chunks and the whole look alike."""

    def __init__(
        self, wire: CompletionRequest, vocabulary: Vocabulary, *, request_id: str, choices: int
    ) -> None:
        self._logprobs = [LegacyLogprobs(vocabulary) for _ in range(choices)]
        self._common = {**_common(f"cmpl-{request_id}", wire), "object": "text_completion"}
        self._chunk = {**self._common, **_no_usage_yet(wire)}

    def opening(self) -> list[dict[str, Any]]:
        return []

    def chunks(self, index: int, delta: Delta) -> list[dict[str, Any]]:
        chunks = []
        if delta.text or delta.logprobs:
            said = Delta(delta.text, logprobs=delta.logprobs)
            chunks.append({**self._chunk, "choices": [self._choice(index, said)]})
        if delta.reason is not None:
            chunks.append({**self._chunk, "choices": [self._choice(index, Delta(reason=delta.reason))]})
        return chunks

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        return {**self._chunk, "choices": [], "usage": usage.body()}

    def whole(self, choices: list[Delta], usage: Usage) -> dict[str, Any]:
        shown = [self._choice(index, delta) for index, delta in enumerate(choices)]
        return {**self._common, "choices": shown, "usage": usage.body()}

    def _choice(self, index: int, delta: Delta) -> dict[str, Any]:
        logprobs = self._logprobs[index].shape(delta.logprobs) if delta.logprobs else None
        return {"index": index, "text": delta.text, "logprobs": logprobs, "finish_reason": delta.reason}


Shape = ChatShape | CompletionShape


def shape_of(
    wire: ChatCompletionRequest | CompletionRequest,
    vocabulary: Vocabulary,
    *,
    request_id: str,
    choices: int,
) -> Shape:
    if isinstance(wire, ChatCompletionRequest):
        return ChatShape(wire, vocabulary, request_id=request_id, choices=choices)
    return CompletionShape(wire, vocabulary, request_id=request_id, choices=choices)


def _common(id: str, wire: ChatCompletionRequest | CompletionRequest) -> dict[str, Any]:
    return {"id": id, "created": int(time.time()), "model": wire.model}


def _no_usage_yet(wire: ChatCompletionRequest | CompletionRequest) -> dict[str, Any]:
    """OpenAI's null in every chunk but the last, where usage was asked for."""
    return {"usage": None} if wire.wants_usage else {}


def _message(delta: Delta) -> dict[str, Any]:
    content = None if delta.calls and not delta.text else delta.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if delta.reasoning:
        message["reasoning_content"] = delta.reasoning
    if delta.calls:
        message["tool_calls"] = [_call(call) for call in delta.calls]
    return message


def _call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
