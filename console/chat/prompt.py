"""What of a conversation is sent to the model: the newest turns that fit its context."""

from __future__ import annotations

from dataclasses import dataclass

from knowledge.answers.prompt import estimate_tokens


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
