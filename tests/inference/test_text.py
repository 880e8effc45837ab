"""Characters are never torn and stop strings never shown, wherever tokens happen to split."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from inference.engine.text import Detokenizer, StopStrings

WRITING = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=30)
HARD = "naïve €5 漢字 👩‍👩‍👧‍👦 🇬🇧 ½ ก็ <x>\n\ttab"


def byte_tokens(tokenizer: Any, text: str) -> list[int]:
    """`text` with one token a byte, so that every character is split everywhere it can be."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = {byte: chr(byte) for byte in printable}
    alphabet |= {
        byte: chr(256 + n) for n, byte in enumerate(b for b in range(256) if b not in alphabet)
    }  # GPT-2's table of printable stand-ins
    return [tokenizer.convert_tokens_to_ids(alphabet[byte]) for byte in text.encode()]


@settings(max_examples=150, deadline=None)
@given(text=WRITING)
def test_pieces_add_up_to_the_whole_text(tokenizer: Any, text: str) -> None:
    encoder = tokenizer.backend_tokenizer
    ids = encoder.encode(text, add_special_tokens=False).ids
    whole = encoder.decode(ids, skip_special_tokens=True)
    assume("\ufffd" not in whole)  # A few rare characters have no tokens for all their bytes.
    detokenizer = Detokenizer(encoder)
    pieces = [detokenizer.push(token) for token in ids]
    assert "".join(pieces) == whole
    assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=150, deadline=None)
@given(ids=st.lists(st.integers(0, 49151) | st.integers(17, 280), max_size=30))
def test_any_tokens_at_all_give_the_same_text_as_decoding_them_at_once(
    tokenizer: Any, ids: list[int]
) -> None:
    encoder = tokenizer.backend_tokenizer
    detokenizer = Detokenizer(encoder)
    shown = "".join(detokenizer.push(token) for token in ids)
    whole = encoder.decode(ids, skip_special_tokens=True)
    assert whole.startswith(shown)
    missing = whole[len(shown) :]
    assert not missing or missing.endswith("\ufffd")  # Only what waits for an unfinished character.


def test_characters_split_into_single_bytes_come_out_whole(tokenizer: Any) -> None:
    ids = byte_tokens(tokenizer, HARD)
    assert None not in ids and len(ids) == len(HARD.encode())
    detokenizer, shown = Detokenizer(tokenizer.backend_tokenizer), ""
    for token in ids:
        shown += detokenizer.push(token)
        assert HARD.startswith(shown)  # Also when the answer breaks off here.
    assert shown == HARD


def test_bytes_that_never_become_a_character_do_not_block_what_follows(tokenizer: Any) -> None:
    broken = byte_tokens(tokenizer, "é")[:1]
    detokenizer = Detokenizer(tokenizer.backend_tokenizer)
    shown = "".join(detokenizer.push(token) for token in [*broken, *byte_tokens(tokenizer, " fine")])
    assert shown.endswith(" fine")


def reference(text: str, stops: list[str]) -> tuple[str, bool]:
    """Cut `text` before the stop string that is completed first (the longest, if several are)."""
    for end in range(len(text) + 1):
        done = [stop for stop in stops if text[:end].endswith(stop)]
        if done:
            return text[: end - max(map(len, done))], True
    return text, False


@settings(max_examples=400, deadline=None)
@given(
    pieces=st.lists(st.text("abc", max_size=4), max_size=10),
    stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
)
def test_stop_strings_cut_at_the_same_place_however_text_is_split(
    pieces: list[str], stops: list[str]
) -> None:
    watcher, shown, stopped = StopStrings(stops), "", False
    expected = reference("".join(pieces), stops)
    for piece in pieces:
        text, stopped = watcher.push(piece)
        shown += text
        assert expected[0].startswith(shown)
        if stopped:
            break
    assert (shown if stopped else shown + watcher.flush(), stopped) == expected


@pytest.mark.parametrize(("text", "shown"), [("so far", "so far"), ("so far <", "so far "), ("a <en", "a ")])
def test_only_what_could_become_a_stop_string_is_held_back(text: str, shown: str) -> None:
    assert StopStrings(["<end>"]).push(text) == (shown, False)


@pytest.mark.parametrize("kind", ["control", "byte"])
def test_tokens_that_never_show_cost_no_more_the_more_there_are(tokenizer: Any, kind: str) -> None:
    """Any request can ask for them, by a bias and no end."""
    encoder = tokenizer.backend_tokenizer
    before = encoder.encode("so", add_special_tokens=False).ids
    after = encoder.encode(" far", add_special_tokens=False).ids
    hidden = [tokenizer.eos_token_id] if kind == "control" else byte_tokens(tokenizer, "é")[1:]
    longest = 0

    class Watched:
        def decode(self, ids: list[int], **options: Any) -> str:
            nonlocal longest
            longest = max(longest, len(ids))
            return str(encoder.decode(ids, **options))

    detokenizer = Detokenizer(Watched())
    shown = "".join(detokenizer.push(token) for token in [*before, *hidden * 500, *after])
    assert longest < 150
    assert shown.replace("\ufffd", "") == "so far"
    assert shown == "so far" or kind == "byte"
