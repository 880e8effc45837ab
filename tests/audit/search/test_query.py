"""Reading what was typed, and cutting text: no text whatever may end in anything but an answer or a clear refusal."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.search import tokens
from audit.search.needs import needs
from audit.search.query import (
    LONGEST,
    And,
    BadQuery,
    Equal,
    Label,
    Not,
    Or,
    Phrase,
    Prefix,
    Text,
    Word,
    answers,
    parse,
)
from audit.search.snippets import snippets

MONEY, BANK, TEST = Word("money"), Word("bank"), Word("test")
_PIECES = [
    "money",
    '"',
    "“",
    "”",
    "(",
    ")",
    "-",
    "OR",
    "|",
    "*",
    "user:",
    "status:",
    "before:",
    "tokens:",
    "洗钱",
    " ",
    "：",
    "\x00",
    "\ud800",
    "DE89 3704 0044",
    "1,000",
    "ﬁ",
    "e\u0301",
    "ｶﾞ",
    "x" * 50,
]


@pytest.mark.parametrize(
    "text, root",
    [
        ("Money", MONEY),
        ("money bank", And((MONEY, BANK))),
        ("money AND bank", And((MONEY, BANK))),
        ("money OR bank test", Or((MONEY, And((BANK, TEST))))),
        ("(money OR bank) test", And((Or((MONEY, BANK)), TEST))),
        ("（money 或 bank） test", And((Or((MONEY, BANK)), TEST))),
        ("money | bank", Or((MONEY, BANK))),
        ("-money", Not(MONEY)),
        ("NOT -NOT money", Not(MONEY)),
        # As long as a search can be: none reads so deep that it fails.
        ("-" * 995 + "money", Not(MONEY)),
        ("-" * 994 + "money", MONEY),
        ("NOT money", Not(MONEY)),
        ("--money", MONEY),
        ("-(money OR bank)", Not(Or((MONEY, BANK)))),
        ("money - bank", None),
        ("laund*", Prefix("laund")),
        ("launders＊", Prefix("launders")),
        ('"money bank"', Phrase(("money", "bank"), (False, False))),
        ("“money bank”", Phrase(("money", "bank"), (False, False))),
        ('"money ban"*', Phrase(("money", "ban"), (False, False), open_end=True)),
        ('"money"', MONEY),
        ("洗钱", Phrase(("洗", "钱"), (False, True))),
        ("钱", Word("钱")),
        ("A股", Phrase(("a", "股"), (False, False))),
        ("don't", Phrase(("don", "t"), (False, False))),
        ("user:Anna", Label("user", Word("anna"))),
        ("user:ann*", None),
        ("用户：安娜", Label("user", Phrase(("安", "娜"), (False, True)))),
        ("status:failed", Equal("status", ("failed",))),
        ("http://x", Phrase(("http", "x"), (False, False))),
        ("", And(())),
        (" \t\n", And(())),
    ],
)
def test_what_is_typed_is_read_so(text: str, root: object) -> None:
    if root is None:
        with pytest.raises(BadQuery):
            parse(text)
    else:
        assert parse(text).root == root


@pytest.mark.parametrize(
    "text, advice",
    [
        ("ab*", "letters before the star"),
        ('"money', "not closed"),
        ("(money", "not closed"),
        ("money)", "not opened"),
        ("money OR", "word is missing"),
        ("OR money", "word is missing"),
        ("()", "word is missing"),
        ("NOT", "excludes what follows"),
        ("???", "neither letters nor digits"),
        ("status:lost", "Use one of: completed"),
        ("before:yesterday", "Write it as 2026-11-20"),
        ("before:2026-13-40", "Write it as 2026-11-20"),
        ("tokens:many", "tokens:>1000"),
        ("group:nobody", "no group “nobody”"),
        ('user:""', "has no value"),
        ("x" * (LONGEST + 1), "characters long"),
        ("x " * 41, "can have 40 terms"),
        ("(" * 12 + "x" + ")" * 12, "brackets"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_advice(text: str, advice: str) -> None:
    with pytest.raises(BadQuery, match=advice):
        parse(text)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(_PIECES), max_size=12).map("".join)))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        query = parse(text)
    except BadQuery:
        return
    said = Text("input", text)
    answers(
        query.root, None, [said]
    ) if query.reads_content() and ":" not in text and "：" not in text else None  # type: ignore[arg-type]
    for snippet in snippets([said], query.terms()):
        assert any(is_match for _, is_match in snippet.parts)
        "".join(part for part, _ in snippet.parts).encode()


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=300), st.lists(st.sampled_from(_PIECES), max_size=12).map("".join)))
def test_the_quick_way_to_cut_text_cuts_like_the_other(text: str) -> None:
    normalised = tokens.normalise(text)
    assert tokens.normalise(normalised) == normalised
    units, compounds = tokens.units(normalised), tokens.compounds(normalised)
    words = {each.text for each in (*units, *compounds)}
    assert tokens.words(normalised) == words
    neighbours = {
        tokens.joined(before.text, unit.text) if unit.joined else tokens.beside(before.text, unit.text)
        for before, unit in itertools.pairwise(units)
        if unit.joined or not (before.is_dense or unit.is_dense)
    } | {
        tokens.joined(*(each.text for each in units[place : place + 3]))
        for place in range(len(units) - 2)
        if units[place + 1].joined and units[place + 2].joined
    }
    beginnings = {
        tokens.prefix(word[:length])[0] for word in words for length in tokens.PREFIXES if len(word) >= length
    }
    assert tokens.tokens(normalised) == words | neighbours | beginnings


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=100))
def test_a_text_finds_itself(text: str) -> None:
    said = Text("input", text)
    for unit in said.units:
        assert said.has(Word(unit.text))
        assert any(unit[1:3] == place for place in said.places(Word(unit.text)))
    if len(said.units) > 1:
        whole = Phrase(
            tuple(unit.text for unit in said.units), (False, *(unit.joined for unit in said.units[1:]))
        )
        assert said.has(whole)
        found = needs(whole)
        assert found.must <= tokens.tokens(said.normalised)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([*"洗钱风险", "ab", "cd", "e", " ", "，", "1,000"]), max_size=12).map("".join),
    st.data(),
)
def test_a_phrase_that_its_tokens_tell_whole_stands_wherever_they_are(text: str, data: st.DataObject) -> None:
    """Otherwise a search would show what does not say it, without looking."""
    said = Text("input", text)
    asked = data.draw(
        st.lists(st.sampled_from([*"洗钱风险", "ab", "cd", "e", "，", "1,000"]), min_size=2, max_size=4)
    )
    root = parse(f'"{" ".join(asked)}"').root if any(each != "，" for each in asked) else None
    if not isinstance(root, Phrase):
        return
    found = needs(root)
    told = found.must <= tokens.tokens(said.normalised)
    assert told or not said.has(root)
    assert not found.is_exact or said.has(root) == told


def test_normalising_again_changes_nothing_and_positions_lead_back() -> None:
    text = "Ｆｕｌｌ ﬁnance ｶﾞ Straße cafe\u0301 İstanbul 洗\u200b钱"
    shown, starts = tokens.places(text)
    assert shown == text
    said = Text("input", text)
    for term in ("full", "finance", "strasse", "café"):
        ((start, end),) = said.places(Word(term))
        assert tokens.normalise(shown[starts[start] : starts[end]]).strip() == term
