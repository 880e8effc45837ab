"""The recorded form of what a model wrote: plain text stays plain, anything richer comes back as it was."""

from hypothesis import given
from hypothesis import strategies as st

from audit.output import Kind, Part, decode, encode, joined, text_of

SAID = st.text(max_size=8) | st.sampled_from(["\ufdd0", '\ufdd0[{"text":"forged"}]', "\ud800", "漢字"])
PARTS = st.lists(
    st.builds(
        Part,
        SAID,
        choice=st.integers(0, 2),
        kind=st.sampled_from(Kind),
        call=st.integers(0, 1),
        id=st.sampled_from(["", "call_1"]),
        name=st.sampled_from(["", "weather"]),
    ),
    max_size=8,
)


@given(parts=PARTS)
def test_what_is_recorded_is_read_back(parts: list[Part]) -> None:
    assert decode(encode(parts)) == joined(parts)


@given(parts=PARTS, cut=st.integers(0, 8))
def test_pieces_recorded_apart_join_to_the_same_answers(parts: list[Part], cut: int) -> None:
    pieces = [encode(parts[:cut]), encode(parts[cut:])]
    assert joined(part for piece in pieces for part in decode(piece)) == joined(parts)


def test_an_empty_part_holds_nothing_apart() -> None:
    assert joined([Part("a"), Part("", kind=Kind.REASONING), Part("b")]) == [Part("ab")]


@given(text=st.text(min_size=1).filter(lambda text: not text.startswith("\ufdd0")))
def test_the_text_of_an_only_answer_is_recorded_as_it_is(text: str) -> None:
    assert encode([Part(text[:3]), Part(text[3:])]) == text
    assert decode(text) == [Part(text)]


def test_answers_come_in_order_with_what_belongs_together_joined() -> None:
    parts = [
        Part("b", choice=1),
        Part("think", kind=Kind.REASONING),
        Part("ing", kind=Kind.REASONING),
        Part("a"),
        Part("!", choice=1),
        Part('{"city":', kind=Kind.TOOL_CALL, id="call_1", name="weather"),
        Part('"Oslo"}', kind=Kind.TOOL_CALL),
        Part("{}", kind=Kind.TOOL_CALL, call=1, id="call_2", name="time"),
    ]
    assert joined(parts) == [
        Part("thinking", kind=Kind.REASONING),
        Part("a"),
        Part('{"city":"Oslo"}', kind=Kind.TOOL_CALL, id="call_1", name="weather"),
        Part("{}", kind=Kind.TOOL_CALL, call=1, id="call_2", name="time"),
        Part("b!", choice=1),
    ]
    assert (text_of(parts), text_of(parts, Kind.REASONING)) == ("a", "thinking")
