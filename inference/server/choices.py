"""One answer as it is generated: its tokens become text, reasoning and tool calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inference.engine.stream import Finished, Token
from inference.server.reasoning import ReasoningParser
from inference.server.tool_calls import ToolCall, ToolCallParser, ToolFormat

if TYPE_CHECKING:
    from inference.engine.sampler import TokenLogprobs


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read the answers to one request.

    `opens_thinking` tells whether the answer begins inside <think>, None that it is not looked for;
    `tool_format` is None where no tool may be called.
    """

    opens_thinking: bool | None = None
    tool_format: ToolFormat | None = None
    tool_names: frozenset[str] = frozenset()
    single_call: bool = False


@dataclass(slots=True)
class Delta:
    """What comes to a choice at one time; `reason` at its end only."""

    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[tuple[int, TokenLogprobs]] = field(default_factory=list)
    reason: str | None = None

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning or self.calls or self.logprobs or self.reason)


def joined(deltas: list[Delta]) -> Delta:
    """All that came to a choice, as one."""
    return Delta(
        text="".join(delta.text for delta in deltas),
        reasoning="".join(delta.reasoning for delta in deltas),
        calls=[call for delta in deltas for call in delta.calls],
        logprobs=[token for delta in deltas for token in delta.logprobs],
        reason=deltas[-1].reason,
    )


class ChoiceReader:
    """For one choice. `num_reasoning_tokens` is 0 for a model that does not reason."""

    def __init__(self, reading: Reading) -> None:
        self.num_reasoning_tokens = 0
        opened = reading.opens_thinking
        self._reasoning = None if opened is None else ReasoningParser(opened=opened)
        self._tools = (
            None
            if reading.tool_format is None
            else ToolCallParser(reading.tool_format, reading.tool_names, single=reading.single_call)
        )
        self._called = False

    def push(self, token: Token) -> Delta:
        """What `token` adds; often nothing that can be shown yet."""
        delta = Delta(token.text)
        if token.logprobs is not None:
            delta.logprobs.append((token.id, token.logprobs))
        if self._reasoning is not None:
            was_thinking = self._reasoning.is_thinking
            delta.reasoning, delta.text = self._reasoning.push(token.text)
            self.num_reasoning_tokens += was_thinking or self._reasoning.is_thinking
        if self._tools is not None:
            delta.text, delta.calls = self._tools.push(delta.text)
            self._called = self._called or bool(delta.calls)
        return delta

    def finish(self, finished: Finished) -> Delta:
        """The rest, and why it ended."""
        delta = Delta(finished.text)
        if self._reasoning is not None:
            reasoning, text = self._reasoning.push(finished.text)
            more_reasoning, more_text = self._reasoning.finish()
            delta.reasoning, delta.text = reasoning + more_reasoning, text + more_text
        if self._tools is not None:
            text, calls = self._tools.push(delta.text)
            more_text, more_calls = self._tools.finish()
            delta.text, delta.calls = text + more_text, calls + more_calls
            self._called = self._called or bool(delta.calls)
        # An answer that ran out of tokens says so, even if it made calls before.
        delta.reason = "tool_calls" if self._called and finished.reason == "stop" else finished.reason
        return delta
