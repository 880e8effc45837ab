"""How many tokens a request can need, known before any tokenizer has seen it.

A token stands for at least one byte of UTF-8, so bytes bound tokens from above. What a template adds for each message is
less than the JSON around it; what it adds once has an allowance. Nothing is longer than the model's context.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_TEMPLATE_TOKENS = 256  # A default system prompt, and what opens the answer.
_TOOLS_TOKENS = 1024  # What a template says about tools beside their definitions.
_TEXT_TOKENS = 8  # What stands around a text that no template is put around.


def most_tokens(request: Mapping[str, Any], *, context_tokens: int) -> int:
    """The most tokens, read and written, that a request of OpenAI's shape can use with a model of this context.

    `request` holds messages, prompt or input; max_tokens and n where they were given.
    """
    if "input" in request:
        return sum(min(each, context_tokens) for each in _texts(request["input"]))
    prompts = [_messages(request)] if "messages" in request else _texts(request["prompt"])
    limit = request.get("max_completion_tokens") or request.get("max_tokens") or context_tokens
    answer = min(limit, context_tokens)
    choices = request.get("n") or 1
    # Prompt and answer share the context. Of several answers, each has what the prompt leaves, which is at most that.
    return sum(min(prompt + answer, context_tokens) + (choices - 1) * answer for prompt in prompts)


def likely_prompt_tokens(request: Mapping[str, Any], *, context_tokens: int) -> int:
    """A fair guess of what was read, for an answer that was cut off before the model told: four bytes a token."""
    if "messages" in request:
        sizes = [_bytes(request["messages"])]
    else:
        sizes = _texts(request.get("prompt", request.get("input", "")))
    return sum(min(size // 4 + 1, context_tokens) for size in sizes)


def _messages(request: Mapping[str, Any]) -> int:
    tools = request.get("tools")
    told = [value for name in ("messages", "tools", "response_format") if (value := request.get(name))]
    return sum(map(_bytes, told)) + _TEMPLATE_TOKENS + (_TOOLS_TOKENS if tools else 0)


def _texts(value: Any) -> list[int]:
    """The most tokens of each text: a text, token ids, or a list of either."""
    if isinstance(value, str) or (value and isinstance(value[0], int)):
        value = [value]
    return [_text(each) + _TEXT_TOKENS for each in value]


def _text(value: str | Sequence[int]) -> int:
    return len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else len(value)


def _bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
