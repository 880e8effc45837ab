"""What of a conversation fits the model."""

from __future__ import annotations

from console.chat.prompt import Turn, estimate_tokens, messages_for
from console.chat.services import title_of


def test_all_turns_are_sent_when_they_fit() -> None:
    turns = [Turn("One?", "1."), Turn("Two?", "2.")]
    messages = messages_for(turns, "Three?", context_tokens=1000, answer_tokens=100)
    assert [m["content"] for m in messages] == ["One?", "1.", "Two?", "2.", "Three?"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "user"]


def test_the_oldest_turns_go_first_and_always_whole() -> None:
    turns = [Turn("old " * 100, "old " * 100), Turn("middle " * 20, "middle " * 20), Turn("new", "newer")]
    messages = messages_for(turns, "now", context_tokens=260, answer_tokens=100)
    assert [m["content"][:6] for m in messages] == ["middle", "middle", "new", "newer", "now"]


def test_a_gap_is_never_left_in_the_middle() -> None:
    turns = [Turn("tiny", "tiny"), Turn("huge " * 500, "huge " * 500), Turn("new", "newer")]
    messages = messages_for(turns, "now", context_tokens=300, answer_tokens=100)
    assert [m["content"] for m in messages] == ["new", "newer", "now"]


def test_the_question_is_never_cut() -> None:
    question = "x" * 10_000
    assert messages_for([], question, context_tokens=100, answer_tokens=50) == [
        {"role": "user", "content": question}
    ]


def test_chinese_counts_for_more_than_english() -> None:
    assert estimate_tokens("河流河流河流") > estimate_tokens("rivers")


def test_a_title_is_the_first_words_on_one_line() -> None:
    assert title_of("  What is\n\nthe   weather? ") == "What is the weather?"
    long = title_of("Please explain " + "the history of rivers " * 10)
    assert long.endswith("…")
    assert len(long) <= 61
    assert not long[:-1].endswith(" ")
    assert title_of("河" * 200) == "河" * 60 + "…"
