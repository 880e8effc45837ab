"""Constrained answers are what was asked for, whatever the model would rather say."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict, Field

from inference.engine import grammar
from inference.engine.errors import QueueFull
from inference.engine.grammar import (
    Ends,
    Grammar,
    GrammarCompiler,
    InvalidSchema,
    Matcher,
    Tool,
    ToolMarkers,
    UnsupportedTokenizer,
)
from inference.engine.request import SamplingParameters
from inference.engine.sampler import Sampler, sample_rows, verify

VOCABULARY = 49152
EOS = frozenset({0, 2})


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Account(Strict):
    holder: str = Field(max_length=6)
    balance: int = Field(ge=-500, le=500)
    kind: Literal["bank", "fund", "保险"]


class Report(Strict):
    标题: str = Field(max_length=5, min_length=1)
    accounts: list[Account] = Field(max_length=3)
    note: str | None = Field(max_length=4)
    open: bool


class Tree(Strict):
    value: Literal[1, 2]
    children: list[Tree] = Field(max_length=1)


class Code(Strict):
    code: str = Field(pattern="^[A-Z]{2}-[0-9]{3}$")
    day: Literal["一", "二"] | None


@pytest.fixture(scope="module")
def compiler(tokenizer: Any) -> GrammarCompiler:
    return GrammarCompiler(tokenizer, EOS)


def noise(seed: int, favourites: Sequence[int] = ()) -> Iterator[torch.Tensor]:
    """Rows (1, V) of random logits, in which every other token or so is one of `favourites`."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        row = torch.randn(1, VOCABULARY, generator=generator)
        row[:, list(favourites)] += 10
        yield row


def answer(tokenizer: Any, asked: Grammar, seed: int, favourites: Sequence[int] = (), **more: Any) -> str:
    """What a model of noise says under `asked`, sampled to its end token."""
    parameters = SamplingParameters(max_tokens=0, seed=seed, grammar=asked, **more)
    subject = Sampler(parameters, (1,), VOCABULARY, EOS)
    ids: list[int] = []
    for logits in islice(noise(seed, favourites), 200):
        token = sample_rows(logits, [subject])[0].token
        if token in EOS:
            return str(tokenizer.decode(ids))
        ids.append(token)
    raise AssertionError(f"No end: {tokenizer.decode(ids)}")


def walk(tokenizer: Any, matcher: Matcher, text: str) -> str:
    """How far `text` is allowed, token by token; masks and `accept` agree at every step."""
    ids = tokenizer(text, add_special_tokens=False).input_ids
    for at, token in enumerate(ids):
        allowed = np.unpackbits(matcher.mask(), bitorder="little")
        permitted = token < len(allowed) and bool(allowed[token])
        assert matcher.accept(token) == permitted
        if not permitted:
            return str(tokenizer.decode(ids[:at]))
    return text


@pytest.mark.parametrize("model", [Report, Tree, Code])
def test_noise_still_gives_valid_answers(
    tokenizer: Any, compiler: GrammarCompiler, model: type[Strict]
) -> None:
    asked = compiler.json_schema(model.model_json_schema())
    # Ends of strings and lists are favoured, or noise would hardly find them.
    favourites = tokenizer('"]},', add_special_tokens=False).input_ids
    answers = {answer(tokenizer, asked, seed, favourites) for seed in range(2)}
    answers.add(answer(tokenizer, asked, 5, favourites, temperature=0))
    for text in answers:
        model.model_validate_json(text)
    assert len(answers) > 1


def test_any_object_is_a_json_object(tokenizer: Any, compiler: GrammarCompiler) -> None:
    favourites = [token for text in ('"', "}", '":', "1", ",") for token in tokenizer(text).input_ids]
    for seed in range(2):
        assert isinstance(json.loads(answer(tokenizer, compiler.json_object(), seed, favourites)), dict)
    for text, allowed in [('{"甲": [1, {}]}', '{"甲": [1, {}]}'), ("[1]", ""), ('{"a": 1} more', '{"a": 1}')]:
        assert walk(tokenizer, compiler.json_object().matcher(), text) == allowed


def test_the_end_is_allowed_when_whole_and_then_nothing_else(
    tokenizer: Any, compiler: GrammarCompiler
) -> None:
    matcher = compiler.json_schema({"enum": [7]}).matcher()
    assert not matcher.accept(2) and not matcher.is_complete
    assert np.unpackbits(matcher.mask(), bitorder="little")[[0, 2]].sum() == 0
    assert walk(tokenizer, matcher, "7") == "7"
    assert matcher.is_complete and matcher.must_end
    assert np.flatnonzero(np.unpackbits(matcher.mask(), bitorder="little")).tolist() == [0, 2]
    assert matcher.accept(2) and matcher.accept(0)
    matcher.rollback(3)
    assert not matcher.is_complete and walk(tokenizer, matcher, "7") == "7"


def test_a_row_that_must_end_mixes_with_one_that_goes_on(tokenizer: Any, compiler: GrammarCompiler) -> None:
    asked = compiler.json_schema({"enum": [7]})
    rows = torch.cat(list(islice(noise(1), 2)))
    samplers = [Sampler(SamplingParameters(5, grammar=asked), (1,), VOCABULARY, EOS) for _ in range(2)]
    assert samplers[0].accept(tokenizer("7").input_ids[0])
    first, second = (one.token for one in sample_rows(rows, samplers))
    assert first in EOS and tokenizer.decode([second]) == "7"
    assert len(asked.matcher().mask()) == len(Ends(EOS, VOCABULARY).mask)


def test_an_end_may_wait_where_more_can_follow(tokenizer: Any, compiler: GrammarCompiler) -> None:
    matcher = compiler.json_schema({"type": "integer"}).matcher()
    assert walk(tokenizer, matcher, "12") == "12"
    assert matcher.is_complete and not matcher.must_end
    assert matcher.accept(2) and not matcher.accept(tokenizer("3").input_ids[0])


def test_matchers_of_one_grammar_are_apart(tokenizer: Any, compiler: GrammarCompiler) -> None:
    asked = compiler.json_schema({"enum": ["a", "b"]})
    first, second = asked.matcher(), asked.matcher()
    assert walk(tokenizer, first, '"a"') == '"a"'
    assert not second.is_complete and walk(tokenizer, second, '"b"') == '"b"'


def test_a_whole_answer_ends_even_before_min_tokens(tokenizer: Any, compiler: GrammarCompiler) -> None:
    asked = compiler.json_schema({"enum": [7]})
    assert answer(tokenizer, asked, 1, min_tokens=50) == "7"
    number = compiler.json_schema({"type": "integer", "minimum": 1})
    assert len(answer(tokenizer, number, 1, favourites=[2], min_tokens=12)) >= 12


def test_rows_with_and_without_a_grammar_mix(tokenizer: Any, compiler: GrammarCompiler) -> None:
    """In logits wider than the tokenizer, as padded models have."""
    logits = torch.cat([torch.cat(list(islice(noise(1), 3))), torch.full((3, 64), 50.0)], dim=1)
    found = sample_rows(
        logits,
        [
            Sampler(SamplingParameters(5, seed=1, grammar=compiler.json_object()), (1,), VOCABULARY + 64),
            Sampler(SamplingParameters(5, temperature=0), (1,), VOCABULARY + 64),
            Sampler(
                SamplingParameters(5, temperature=0, grammar=compiler.json_object()), (1,), VOCABULARY + 64
            ),
        ],
    )
    assert found[0].token < VOCABULARY and tokenizer.decode([found[0].token]).startswith("{")
    assert found[1].token == VOCABULARY
    assert tokenizer.decode([found[2].token]).startswith("{")


def test_drafts_against_the_grammar_change_nothing(tokenizer: Any, compiler: GrammarCompiler) -> None:
    asked = compiler.json_schema(Report.model_json_schema())
    favourites = tokenizer('"]},', add_special_tokens=False).input_ids
    table = torch.cat(list(islice(noise(3, favourites), 120)))

    def subject() -> Sampler:
        return Sampler(SamplingParameters(120, seed=3, grammar=asked), (1,), VOCABULARY, EOS)

    plain, expected = subject(), []
    while not expected or expected[-1] not in EOS:
        expected.append(sample_rows(table[len(expected) : len(expected) + 1], [plain])[0].token)
    drafted, found = subject(), []
    while not found or found[-1] not in EOS:
        at = len(found)
        drafts = expected[at : at + 3]
        if at % 3 == 1:
            drafts = [*drafts[:1], 17, *drafts[1:]]  # A token the grammar forbids nearly everywhere.
        found += [one.token for one in verify(table[at : at + len(drafts) + 1], drafts, drafted)]
    assert found[: len(expected)] == expected  # What follows the end is for nobody.
    Report.model_validate_json(tokenizer.decode(expected[:-1]))


# --- Tools ----------------------------------------------------------------------------------------

WEATHER = Tool(
    "weather",
    {
        "type": "object",
        "$defs": {"unit": {"enum": ["C", "F"]}},
        "properties": {"city": {"type": "string"}, "unit": {"$ref": "#/$defs/unit"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
NOW = Tool("now", {})
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "上海", "unit": "C"}}\n</tool_call>'
OTHER = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize(
    ("how", "text", "allowed", "whole"),
    [
        ({}, "A < b, 你好 <tool", None, True),
        ({}, f"Let me see.\n{CALL}\n{OTHER} Done.", None, True),
        ({}, 'Hm <tool_call>\n{"name": "sun"', 'Hm <tool_call>\n{"name": "', False),
        ({}, CALL.replace("上海", '", "x'), CALL[: CALL.index("上海")] + '", "', False),
        ({"parallel": False}, f"So: {CALL}", None, True),
        ({"parallel": False}, f"{CALL}\n{OTHER}", CALL, True),
        ({"parallel": False}, "No call.", None, True),
        ({"required": True}, f"{CALL}\n{OTHER}", None, True),
        ({"required": True}, "Well", "", False),
        ({"required": True, "parallel": False}, f"{CALL}\n{OTHER}", CALL, True),
        ({"name": "now"}, f"{OTHER}\n{OTHER}", OTHER, True),
        ({"name": "now"}, CALL, '<tool_call>\n{"name": "', False),
    ],
)
def test_tool_calls(
    tokenizer: Any,
    compiler: GrammarCompiler,
    how: dict[str, Any],
    text: str,
    allowed: str | None,
    whole: bool,
) -> None:
    matcher = compiler.tool_calls([WEATHER, NOW], **how).matcher()
    assert walk(tokenizer, matcher, text) == (text if allowed is None else allowed)
    assert matcher.is_complete == whole


def test_noise_calls_the_tool_it_must(tokenizer: Any, compiler: GrammarCompiler) -> None:
    asked = compiler.tool_calls([WEATHER, NOW], name="weather")
    quote = tokenizer('"', add_special_tokens=False).input_ids
    text = answer(tokenizer, asked, 2, quote)
    call = json.loads(text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    assert call["name"] == "weather" and isinstance(call["arguments"]["city"], str)


@pytest.mark.parametrize("how", [{}, {"required": True}])
def test_markers_may_be_special_tokens(
    tokenizer: Any, compiler: GrammarCompiler, how: dict[str, Any]
) -> None:
    """Which no text can spell: as text the same marker is an ordinary part of an answer."""
    markers = ToolMarkers("<|im_start|>\n", "<|im_start|>")
    matcher = compiler.tool_calls([NOW], markers=markers, **how).matcher()
    call = '<|im_start|>\n{"name": "now", "arguments": {}}<|im_start|>'
    assert walk(tokenizer, matcher, call) == call
    assert matcher.is_complete


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "strin"}, "Invalid type: strin"),
        ({"type": "object", "not": {}}, "Unimplemented keys"),
        ({"not": {}, "x-guidance": {"lenient": True}}, "Unimplemented keys"),
        ({"type": "string", "pattern": "(a"}, "unclosed group|regex parse error"),
        ({"$ref": "#/$defs/nowhere"}, "does not exist"),
        ({"$ref": "https://example.com/schema.json"}, "not present"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "Unsatisfiable"),
        ({"$ref": "#"}, "NoExtension"),
        ({"description": "长" * 30_000}, "at most 65536"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused(
    compiler: GrammarCompiler, schema: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidSchema, match=reason):
        compiler.json_schema(schema)


def test_tools_that_cannot_be_called_are_refused(compiler: GrammarCompiler) -> None:
    with pytest.raises(InvalidSchema, match="No tool is named sun"):
        compiler.tool_calls([NOW], name="sun")
    with pytest.raises(InvalidSchema, match="no tool"):
        compiler.tool_calls([])
    with pytest.raises(InvalidSchema, match="JSON object"):
        compiler.tool_calls([Tool("bad", [])])  # type: ignore[arg-type]
    with pytest.raises(InvalidSchema, match="at most"):
        compiler.tool_calls([Tool(f"t{at}", {"description": "x" * 900}) for at in range(80)])


def test_a_hostile_schema_is_stopped_and_remembered(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intersections of patterns: no end in sight after a minute, with every limit of the library."""
    hostile = {"allOf": [{"type": "string", "pattern": f".*a.{{{n}}}b"} for n in range(10, 30)]}
    with pytest.raises(InvalidSchema, match="takes more than"):
        compiler.json_schema(hostile)
    monkeypatch.setattr(grammar, "_trial", lambda text: pytest.fail("It was tried again."))
    started = time.monotonic()
    with pytest.raises(InvalidSchema, match="takes more than"):
        compiler.json_schema(hostile)
    assert time.monotonic() - started < 0.5


def test_deep_nesting_is_an_error_and_no_crash(compiler: GrammarCompiler) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(900):
        schema = {"properties": {"a": schema}}
    with pytest.raises(InvalidSchema, match="recursion"):
        compiler.json_schema(schema)


def test_an_answer_past_the_limits_ends(
    tokenizer: Any, compiler: GrammarCompiler, caplog: pytest.LogCaptureFixture
) -> None:
    """Compiles at once, but each letter doubles what the parser has to remember."""
    asked = compiler.json_schema({"type": "string", "pattern": "^(.*a.{200})$"})
    matcher = asked.matcher()
    letters = [tokenizer(text, add_special_tokens=False).input_ids[0] for text in "ab"]
    assert matcher.accept(tokenizer('"', add_special_tokens=False).input_ids[0])
    generator = np.random.default_rng(1)
    for _ in range(200):
        allowed = np.unpackbits(matcher.mask(), bitorder="little")
        if not matcher.accept(letters[generator.integers(2)]):
            break
    assert matcher.must_end and not matcher.is_complete
    assert np.flatnonzero(np.unpackbits(matcher.mask(), bitorder="little")).tolist() == [0, 2]
    assert allowed.any() and matcher.accept(2)
    assert "too complex" in caplog.text


def test_an_answer_that_nothing_can_follow_ends() -> None:
    """Should the library find no token at all, the end is allowed, as there is no other way on."""

    class DeadEnd:
        def is_stopped(self) -> bool:
            return False

        is_error = is_accepting = is_stopped

        def compute_bitmask(self) -> bytes:
            return bytes(VOCABULARY // 8)

    matcher = Matcher(DeadEnd(), Ends(EOS, VOCABULARY))  # type: ignore[arg-type]
    assert np.flatnonzero(np.unpackbits(matcher.mask(), bitorder="little")).tolist() == [0, 2]
    assert matcher.accept(2)


def test_grammars_are_remembered_but_not_for_ever(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar, "_trial", lambda text: (0, ""))
    monkeypatch.setattr(grammar, "_CACHED_GRAMMARS", 2)
    one, two, three = ({"const": f"c{at}"} for at in range(3))
    first = compiler.json_schema(one)
    second = compiler.json_schema(two)
    assert compiler.json_schema(one) is first
    compiler.json_schema(three)  # Pushes out the second, not the first, which was asked for since.
    assert compiler.json_schema(one) is first
    assert compiler.json_schema(two) is not second


def test_a_grammar_knows_what_it_weighs(compiler: GrammarCompiler) -> None:
    """A small schema can make a large one."""
    small, large = (
        compiler.json_schema({"type": "integer", "multipleOf": number}).num_bytes for number in (3, 30_011)
    )
    assert 0 <= small < 3_000_000 < large


def test_grammars_have_bounded_memory_those_in_use_included(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar, "_trial", lambda text: (100, ""))
    monkeypatch.setattr(grammar, "_MOST_BYTES", 250)
    compiler = GrammarCompiler(tokenizer, EOS)

    def compiled(number: int) -> Grammar:
        return compiler.json_schema({"type": "integer", "maximum": number})

    for number in range(4):  # Nobody uses them: the latest two are remembered.
        compiled(number)
    assert len(compiler._remembered) == 2
    in_use = [compiled(number) for number in (10, 11)]
    with pytest.raises(QueueFull):
        compiled(12)
    del in_use[0]
    compiled(12)


def test_a_model_without_an_end_cannot_be_constrained(tokenizer: Any) -> None:
    with pytest.raises(UnsupportedTokenizer, match="no end token"):
        GrammarCompiler(tokenizer, {10**6})
