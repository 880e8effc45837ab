"""What a reasoning model thinks is told apart from what it answers, wherever the text is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.server.reasoning import ReasoningParser


def parse(pieces: list[str], *, opened: bool = False) -> tuple[str, str]:
    """(reasoning, answer) of an answer that arrives in `pieces`."""
    parser = ReasoningParser(opened=opened)
    parts = [parser.push(piece) for piece in pieces] + [parser.finish()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


CASES = [
    # (the prompt had opened it, what the model says, reasoning, answer)
    (False, "<think>\nsum: 2\n</think>\n\nTwo.", "sum: 2\n", "Two."),
    (False, "\n <think>a</think>b", "a", "b"),
    (False, "<think></think>b", "", "b"),
    (False, "<think>never closed </thin", "never closed </thin", ""),
    (False, "plain <think>not at the start</think>", "", "plain <think>not at the start</think>"),
    (False, "<thinking>other</thinking>", "", "<thinking>other</thinking>"),
    (False, "  <thi", "", "  <thi"),
    (False, "\n\nplain", "", "\n\nplain"),
    (False, "<think>a</think>b</think>c", "a", "b</think>c"),
    (False, "<think>a <think> b</think>c", "a <think> b", "c"),
    (True, "\nsum: 2</think>\nTwo.\n", "sum: 2", "Two.\n"),
    (True, "<think>\nagain</think>b", "again", "b"),
    (True, "<th", "<th", ""),
    (True, "never closed", "never closed", ""),
    (True, "</think>b", "", "b"),
    (False, "", "", ""),
    (True, "", "", ""),
]


@pytest.mark.parametrize(("opened", "text", "reasoning", "answer"), CASES)
def test_every_cut_gives_the_same(opened: bool, text: str, reasoning: str, answer: str) -> None:
    assert parse([text], opened=opened) == (reasoning, answer)
    assert parse(list(text), opened=opened) == (reasoning, answer)
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            pieces = [text[:first], text[first:second], text[second:]]
            assert parse(pieces, opened=opened) == (reasoning, answer)


@given(
    pieces=st.lists(
        st.sampled_from(["<think>", "</think>", "<th", "ink>", "</", "think>", "a", "\n", " ", "é"])
    ),
    opened=st.booleans(),
)
def test_nothing_but_tags_and_their_line_breaks_is_lost(pieces: list[str], opened: bool) -> None:
    def bare(text: str) -> str:
        for dropped in ("<think>", "</think>", "\n", " "):
            text = text.replace(dropped, "")
        return text

    reasoning, answer = parse(pieces, opened=opened)
    assert (reasoning, answer) == parse(["".join(pieces)], opened=opened)
    if "</think>" not in answer and "<think>" not in reasoning:  # Then a tag may have been made by its loss.
        assert bare(reasoning) + bare(answer) == bare("".join(pieces))


def test_text_is_handed_on_as_soon_as_it_can_be() -> None:
    parser = ReasoningParser(opened=False)
    assert parser.push("<think>") == ("", "") and parser.is_thinking
    assert parser.push("so") == ("so", "")
    assert parser.push(" 1 < 2") == (" 1 < 2", "")
    assert parser.push(" </") == (" ", "")
    assert parser.push("think>\n") == ("", "") and not parser.is_thinking
    assert parser.push("Yes") == ("", "Yes")
    assert parser.push("<") == ("", "<")
