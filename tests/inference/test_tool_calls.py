"""Tool calls are found in every format, wherever the text is cut, and nothing else is taken for one."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.server.tool_calls import BARE, DEEPSEEK, HERMES, ToolCallParser, ToolFormat, format_of

NAMES = frozenset({"weather", "time"})
Calls = list[tuple[str, dict[str, Any]]]


def parse(format: ToolFormat, pieces: list[str], *, single: bool = False) -> tuple[str, Calls]:
    """(text, calls) of an answer that arrives in `pieces`."""
    parser = ToolCallParser(format, NAMES, single=single)
    parts = [parser.push(piece) for piece in pieces] + [parser.finish()]
    calls = [call for part in parts for call in part[1]]
    assert len({call.id for call in calls}) == len(calls)
    return "".join(part[0] for part in parts), [(call.name, json.loads(call.arguments)) for call in calls]


PARIS = ("weather", {"city": "Paris"})
NOW = ("time", {})
HERMES_PARIS = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
V3 = '<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{"city": "Paris"}\n```<｜tool▁call▁end｜>'
V31 = "<｜tool▁call▁begin｜>time<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
CASES: list[tuple[ToolFormat, str, str, Calls]] = [
    (HERMES, HERMES_PARIS, "", [PARIS]),
    (HERMES, f"\n{HERMES_PARIS}\n{HERMES_PARIS}\n", "", [PARIS, PARIS]),
    (HERMES, f"I look. {HERMES_PARIS} Done.", "I look.  Done.", [PARIS]),
    (HERMES, '<tool_call>{"name": "time"}</tool_call>', "", [NOW]),
    (HERMES, '<tool_call>{"name": "time", "arguments": null}</tool_call>', "", [NOW]),
    (HERMES, '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Paris\\"}"}', "", [PARIS]),
    (HERMES, '<tool_call>{"name": "weather", "argu', '<tool_call>{"name": "weather", "argu', []),
    (HERMES, "<tool_call>{]</tool_call> a", "<tool_call>{]</tool_call> a", []),
    (HERMES, '<tool_call>{"name": "rm"}</tool_call>', '<tool_call>{"name": "rm"}</tool_call>', []),
    (HERMES, '{"name": "time"}', '{"name": "time"}', []),
    (HERMES, f"<tool_call>{HERMES_PARIS}", f"<tool_call>{HERMES_PARIS}", []),
    (HERMES, "a < b <tool", "a < b <tool", []),
    (HERMES, " \n", " \n", []),
    (HERMES, "", "", []),
    (BARE, '{"name": "weather", "parameters": {"city": "Paris"}}', "", [PARIS]),
    (BARE, ' {"name": "time", "parameters": {}}; {"name": "time"}', "", [NOW, NOW]),
    (BARE, '[{"name": "weather", "arguments": {"city": "Paris"}}, {"name": "time"}]', "", [PARIS, NOW]),
    (BARE, '{"name": "Bob", "parameters": {}}', '{"name": "Bob", "parameters": {}}', []),
    (BARE, '{"name": "time"} is a call', '{"name": "time"} is a call', []),
    (BARE, '{"a": 1}', '{"a": 1}', []),
    (BARE, "[1, 2]", "[1, 2]", []),
    (BARE, "[]", "[]", []),
    (BARE, "  plain", "  plain", []),
    (BARE, " ", " ", []),
    (DEEPSEEK, f"<｜tool▁calls▁begin｜>{V3}<｜tool▁calls▁end｜>", "", [PARIS]),
    (DEEPSEEK, f"Hm.<｜tool▁calls▁begin｜>{V3}\n{V31}<｜tool▁calls▁end｜>", "Hm.", [PARIS, NOW]),
    (DEEPSEEK, f"<｜tool▁calls▁begin｜>{V31.removesuffix('<｜tool▁call▁end｜>')}", "", [NOW]),
    (DEEPSEEK, f"<｜tool▁calls▁begin｜>{V31[:-30]}", f"<｜tool▁calls▁begin｜>{V31[:-30]}", []),
    (
        DEEPSEEK,
        "<｜tool▁calls▁begin｜>?<｜tool▁calls▁end｜>",
        "<｜tool▁calls▁begin｜>?<｜tool▁calls▁end｜>",
        [],
    ),
]


@pytest.mark.parametrize(("format", "text", "shown", "calls"), CASES)
def test_every_cut_gives_the_same(format: ToolFormat, text: str, shown: str, calls: Calls) -> None:
    assert parse(format, [text]) == (shown, calls)
    assert parse(format, list(text)) == (shown, calls)
    for cut in range(len(text) + 1):
        assert parse(format, [text[:cut], text[cut:]]) == (shown, calls)


@pytest.mark.parametrize(
    "arguments",
    [
        "[1]",
        '"x"',
        "1",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '"[]"',
        "[" * 5000,
        '{"a": 1' + "0" * 5000 + "}",
    ],
)
def test_arguments_that_are_no_json_object_make_no_call(arguments: str) -> None:
    text = f'<tool_call>{{"name": "time", "arguments": {arguments}}}</tool_call>'
    assert parse(HERMES, [text]) == (text, [])


def test_arguments_keep_their_characters() -> None:
    text = '<tool_call>{"name": "weather", "arguments": {"city": "北京 \\u0041"}}</tool_call>'
    _shown, [call] = ToolCallParser(HERMES, NAMES).push(text)
    assert call.arguments == '{"city": "北京 A"}'


def test_repeated_space_takes_no_time() -> None:
    """A model that is asked to can write a great deal of it, and is read between everybody's tokens."""
    body = "<｜tool▁call▁begin｜>time<｜tool▁sep｜>" + " " * 100_000 + "x"
    text = f"<｜tool▁calls▁begin｜>{body}<｜tool▁calls▁end｜>"
    started = time.perf_counter()
    assert parse(DEEPSEEK, [text]) == (text, [])
    assert time.perf_counter() - started < 1


def test_one_call_where_only_one_is_wanted() -> None:
    two = '[{"name": "weather", "parameters": {"city": "Paris"}}, {"name": "time"}]'
    assert parse(BARE, [two], single=True) == ("", [PARIS])


@given(
    pieces=st.lists(
        st.sampled_from(
            ["<tool_call>", "</tool_call>", '{"name": "time"}', "<tool", "_call>", "{", "é", " ", "\n"]
        )
    )
)
def test_text_is_never_lost(pieces: list[str]) -> None:
    text, calls = parse(HERMES, pieces)
    whole = "".join(pieces)
    assert (text, calls) == parse(HERMES, [whole])
    assert text.count("é") == whole.count("é")
    if not calls:
        assert text == whole


def test_text_is_handed_on_as_soon_as_it_can_be() -> None:
    parser = ToolCallParser(HERMES, NAMES)
    assert parser.push("Let me") == ("Let me", [])
    assert parser.push(" see <") == (" see ", [])
    assert parser.push("b>") == ("<b>", [])
    assert parser.push('<tool_call>{"name": "time"}') == ("", [])
    _text, [call] = parser.push("</tool_call>")
    assert call.name == "time"


def test_the_template_tells_the_format() -> None:
    assert format_of("{{ '<tool_call>' }}") is HERMES
    assert format_of("{{ '<｜tool▁calls▁begin｜>' }}") is DEEPSEEK
    assert format_of("{{ tools | tojson }}") is BARE
