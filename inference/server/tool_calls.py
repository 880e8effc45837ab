"""Finds the tool calls in what a model says, in the format that its chat template teaches it.

A call is handed on whole, once it is complete: only then is it known to be one. What looks like a
call and is none (broken JSON, a function nobody offered) stays text; nothing is ever lost.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from inference.server.markers import held_back


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is the text of a JSON object."""

    name: str
    arguments: str
    id: str = field(default_factory=_new_id)


class _Malformed(ValueError):
    """This is not a tool call."""


# --- What calls look like ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a family of models writes calls.

    Calls stand between `begin` and `end`; with `begin` empty, an answer that starts as JSON is
    nothing but calls. A single call ends with `call_end`. `parse` makes calls of what stands
    between, and raises ValueError or RecursionError when it cannot.
    """

    begin: str
    end: str
    call_end: str
    parse: Callable[[str], list[ToolCall]]


def _hermes(body: str) -> list[ToolCall]:
    return [_call(_json(body))]


def _bare(body: str) -> list[ToolCall]:
    """A JSON object, an array of them, or several with semicolons between them."""
    calls: list[ToolCall] = []
    for value in _json_values(body):
        calls += [_call(entry) for entry in (value if isinstance(value, list) else [value])]
    return calls


_DEEPSEEK_BEGIN, _DEEPSEEK_SEPARATOR = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"
_DEEPSEEK_END = "<｜tool▁call▁end｜>"


def _deepseek(body: str) -> list[ToolCall]:
    # Without a pattern over all of it: those look again and again through the space that a model repeats.
    written = [part.strip() for part in body.split(_DEEPSEEK_END)]
    if len(written) > 1 and not written[-1]:
        del written[-1]
    return [_deepseek_call(part) for part in written]


def _deepseek_call(text: str) -> ToolCall:
    """With the word "function" and a code fence in DeepSeek-V3 and R1, without in V3.1."""
    before, begin, said = text.partition(_DEEPSEEK_BEGIN)
    name, separator, arguments = said.partition(_DEEPSEEK_SEPARATOR)
    if before or not begin or not separator:
        raise _Malformed
    if name == "function" and "\n```json\n" in arguments and arguments.endswith("\n```"):
        name, _, arguments = arguments.removesuffix("\n```").partition("\n```json\n")
    return _call({"name": name.strip(), "arguments": arguments})


HERMES = ToolFormat("<tool_call>", "</tool_call>", "</tool_call>", _hermes)  # Qwen too.
DEEPSEEK = ToolFormat("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", _DEEPSEEK_END, _deepseek)
BARE = ToolFormat("", "", "", _bare)  # Llama 3, and Mistral, whose marker is a control token.


def format_of(template: str) -> ToolFormat:
    """The format that a chat template (its source) shows to the model."""
    for format in (HERMES, DEEPSEEK):
        if format.begin in template:
            return format
    return BARE


# --- Reading them ------------------------------------------------------------------------------


def _refuse_constant(name: str) -> Any:
    raise _Malformed(name)  # NaN and Infinity, which Python reads though JSON does not have them.


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _json(text: str) -> Any:
    return _DECODER.decode(text)


def _json_values(text: str) -> Iterator[Any]:
    at = 0
    while at < len(text):
        if text[at].isspace() or text[at] == ";":
            at += 1
        else:
            value, at = _DECODER.raw_decode(text, at)
            yield value


def _call(value: Any) -> ToolCall:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise _Malformed
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        arguments = _json(arguments or "{}")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise _Malformed
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)  # 1e999 is read as infinity.
    text.encode()  # UnicodeEncodeError, a ValueError, for half of a surrogate pair.
    return ToolCall(value["name"], text)


class ToolCallParser:
    """For one answer. `names` are the functions on offer; `single` takes one call and no more."""

    def __init__(self, format: ToolFormat, names: frozenset[str], *, single: bool = False) -> None:
        self._format = format
        self._names = names
        self._single = single
        self._held = ""
        self._searched = 0  # Where in `_held` the next marker may begin.
        self._inside = (
            not format.begin
        )  # Whether `_held` may be calls; without a marker, until told otherwise.
        self._gap: str | None = ""  # Space at the start or after a call; None once text has followed.
        self._called = False

    def push(self, text: str) -> tuple[str, list[ToolCall]]:
        """(text outside of calls, calls) that `text` completes."""
        self._held += text
        return self._push_marked() if self._format.begin else (self._push_bare(), [])

    def finish(self) -> tuple[str, list[ToolCall]]:
        """What was held back, once no more text can come; a call may lack its end marker."""
        held, self._held = self._held, ""
        if self._inside:
            if calls := self._parse(held):
                return "", calls
            held = self._format.begin + held
        text = self._text(held)
        return (text if self._called or self._gap is None else self._gap), []

    def _push_bare(self) -> str:
        if self._inside:
            begun = self._held[: 1 + len(self._held) - len(self._held.lstrip())].lstrip()
            if begun in ("", "{", "["):
                return ""
            self._inside = False
        text, self._held = self._held, ""
        return self._text(text)

    def _push_marked(self) -> tuple[str, list[ToolCall]]:
        shown, calls = "", []
        begin, end = self._format.begin, self._format.end
        while (at := self._held.find(end if self._inside else begin, self._searched)) >= 0:
            before, self._held = self._held[:at], self._held[at + len(end if self._inside else begin) :]
            if not self._inside:
                shown += self._text(before)
            elif found := self._parse(before):
                calls += found
            else:
                shown += self._text(begin + before + end)
            self._inside, self._searched = not self._inside, 0
        if self._inside:
            self._searched = max(0, len(self._held) - len(end) + 1)
        else:
            cut = len(self._held) - held_back(self._held, begin)
            text, self._held = self._held[:cut], self._held[cut:]
            shown += self._text(text)
        return shown, calls

    def _parse(self, body: str) -> list[ToolCall]:
        try:
            calls = self._format.parse(body)
        except (ValueError, RecursionError):
            return []
        if not calls or not all(call.name in self._names for call in calls):
            return []
        self._called, self._gap = True, ""
        return calls[:1] if self._single else calls

    def _text(self, text: str) -> str:
        """`text`, but space before and between calls only once other text follows."""
        if self._gap is None:
            return text
        self._gap += text
        if not self._gap.strip():
            return ""
        text, self._gap = self._gap, None
        return text
