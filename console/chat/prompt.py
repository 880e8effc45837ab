"""What of a conversation is sent to the model: the newest turns that fit its context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from knowledge.answers.prompt import prompt_for
from knowledge.asking import Found

_TURN_TOKENS = 8  # Role markers of the chat template.


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and the answer that stands for it, if any."""

    question: str
    answer: str = ""


def messages_for(turns: list[Turn], question: str, *, context_tokens: int, answer_tokens: int) -> list[dict]:
    """Chat messages that end with `question`, with as many whole turns before it as fit.

    The question itself is never cut: when it alone is too long, the service says so.
    """
    room = context_tokens - answer_tokens - estimate_tokens(question)
    kept: list[Turn] = []
    for turn in reversed(turns):
        room -= estimate_tokens(turn.question) + estimate_tokens(turn.answer)
        if room < 0:
            break
        kept.append(turn)
    messages = []
    for turn in reversed(kept):
        messages.append({"role": "user", "content": turn.question})
        if turn.answer:
            messages.append({"role": "assistant", "content": turn.answer})
    return [*messages, {"role": "user", "content": question}]


def messages_with(
    turns: list[Turn], question: str, found: Found, *, context_tokens: int, answer_tokens: int
) -> tuple[list[dict[str, Any]], int]:
    """As `messages_for`, with the passages that were found, and how many of them: three quarters of the room are theirs
    at most, the newest turns get the rest.
    """
    room = (context_tokens - answer_tokens) * 3 // 4
    asked = prompt_for(question, found.passages, room=room, estimate=estimate_tokens)
    left = context_tokens - estimate_tokens(asked.system)
    messages = messages_for(turns, asked.question, context_tokens=left, answer_tokens=answer_tokens)
    return [{"role": "system", "content": asked.system}, *messages], asked.used


def estimate_tokens(text: str) -> int:
    """A cautious guess without the tokenizer: a third of the ASCII characters, two for any other."""
    ascii_count = sum(character < "\x80" for character in text)
    return _TURN_TOKENS + ascii_count // 3 + 2 * (len(text) - ascii_count)
