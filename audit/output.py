"""The form in which what a model wrote is recorded, and in which the chat keeps it.

A piece that is nothing but text of an only answer is recorded as that text. What has more to say (reasoning, a call
of a tool, one of several answers) is a list of parts: JSON, behind a mark that Unicode keeps for uses like this.
Imports nothing of Custos.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

_MARK = "\ufdd0"


class Kind(StrEnum):
    TEXT = "text"
    REASONING = "reasoning"
    TOOL_CALL = "tool_call"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of one answer.

    choice: which of several answers, from 0. Of a tool call: `text` is a piece of its arguments, `call` says which of
    the answer's calls, from 0; `id` and `name` come with the first piece of each.
    """

    text: str
    choice: int = 0
    kind: Kind = Kind.TEXT
    call: int = 0
    id: str = ""
    name: str = ""


_DEFAULTS = {"choice": 0, "kind": Kind.TEXT, "call": 0, "id": "", "name": ""}


def encode(parts: Iterable[Part]) -> str:
    """Parts in the recorded form; `decode` gives the same back, with neighbours that belong together joined."""
    together = joined(parts)
    text = "".join(part.text for part in together)
    if together == joined([Part(text)]) and not text.startswith(_MARK):
        return text
    return _MARK + json.dumps([_fields(part) for part in together], ensure_ascii=False, separators=(",", ":"))


def decode(recorded: str) -> list[Part]:
    """The parts of one recorded piece."""
    if not recorded.startswith(_MARK):
        return [Part(recorded)] if recorded else []
    listed = json.loads(recorded[len(_MARK) :])
    return [Part(**{**fields, "kind": Kind(fields.get("kind", Kind.TEXT))}) for fields in listed]


def joined(parts: Iterable[Part]) -> list[Part]:
    """The parts answer by answer, what follows each other in one answer and is of one kind (and call) made one."""
    # Empty ones first go, or they would hold apart what they stood between. Stable: within an answer the order stays.
    some = (part for part in parts if part.text or part.name or part.id)
    in_order = sorted(some, key=lambda part: part.choice)
    groups = [list(group) for _, group in groupby(in_order, lambda part: (part.choice, part.kind, part.call))]
    return [_one(group) for group in groups]


def text_of(parts: Iterable[Part], kind: Kind = Kind.TEXT) -> str:
    """All text of a kind in the first answer."""
    return "".join(part.text for part in parts if part.choice == 0 and part.kind == kind)


def _one(parts: list[Part]) -> Part:
    first = parts[0]
    return Part(
        "".join(part.text for part in parts),
        first.choice,
        first.kind,
        first.call,
        id=next((part.id for part in parts if part.id), ""),
        name="".join(part.name for part in parts),
    )


def _fields(part: Part) -> dict[str, Any]:
    changed = {name: getattr(part, name) for name, usual in _DEFAULTS.items() if getattr(part, name) != usual}
    return {**changed, "text": part.text}
