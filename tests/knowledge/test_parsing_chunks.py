"""Passages: all of the text, in order, once; cut where something ends."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge.parsing import Limits, Parsed, statutes
from knowledge.parsing.builder import Builder
from knowledge.parsing.chunks import Chunk, chunks_of
from knowledge.parsing.texts import read_csv, read_markdown

LIMITS = Limits()
LAW = (Path(__file__).parent / "data" / "aml-law-2024.md").read_bytes()


def markdown(text: str) -> Parsed:
    return read_markdown(text.encode(), LIMITS)


def texts(parsed: Parsed, chunks: list[Chunk]) -> list[str]:
    return [parsed.text[each.start : each.end] for each in chunks]


def check(parsed: Parsed, chunks: list[Chunk], most: int) -> None:
    at = 0
    for number, chunk in enumerate(chunks):
        assert chunk.ordinal == number
        assert at <= chunk.start < chunk.end <= at + len(parsed.text)
        assert not parsed.text[at : chunk.start].strip(), "nothing is left out"
        words = parsed.text[chunk.start : chunk.end]
        assert words == words.strip()
        assert len(words) <= most
        at = chunk.end
    assert not parsed.text[at:].strip()


WORDS = st.text(
    st.one_of(st.sampled_from("ab一条第章 .。\n#|-、1;；"), st.characters(exclude_categories=["Cs", "Cc"])),
    max_size=60,
)


@given(st.lists(WORDS, max_size=20), st.sampled_from(["\n", "\n\n", " "]), st.integers(5, 200))
@settings(max_examples=200, deadline=None)
def test_all_of_any_text_is_in_a_passage_once(parts: list[str], between: str, target: int) -> None:
    text = between.join(["# x", *parts])
    parsed = markdown(text)
    most = target * 2
    check(parsed, chunks_of(parsed, target=target, most=most), most)


KINDS = st.sampled_from(["heading", "paragraph", "list_item", "table_row", "code"])


@given(st.lists(st.tuples(KINDS, WORDS, st.integers(0, 3), st.booleans()), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_and_of_any_blocks_on_any_pages(parts: list[tuple]) -> None:
    builder = Builder(LIMITS)
    for kind, text, level, is_new_page in [*parts, ("paragraph", "x", 0, False)]:
        if is_new_page:
            builder.begin_page()
        builder.add(kind, text, level)
    parsed = builder.done("text/plain")
    for page, block in [(parsed.pages[each.page - 1], each) for each in parsed.blocks if each.page]:
        assert page.start <= block.start < block.end <= page.end
    chunks = chunks_of(parsed, target=40, most=80)
    check(parsed, chunks, 80)
    if parsed.pages and not parsed.text[: parsed.pages[0].start].strip():
        assert all((each.page_from or 0) <= (each.page_to or 0) for each in chunks)


def test_articles_are_whole_and_under_their_chapters() -> None:
    parsed = read_markdown(LAW, LIMITS)
    chunks = chunks_of(parsed)
    check(parsed, chunks, 700)
    assert parsed.language == "zh"
    title = "中华人民共和国反洗钱法"
    first = next(each for each in chunks if "第一条" in parsed.text[each.start : each.end])
    assert first.headings == (title, "第一章 总 则")
    assert parsed.text[first.start :].startswith("## 第一章 总 则\n\n第一条 "), (
        "a heading stays with what it is above"
    )
    starts = {
        each.start for each in parsed.blocks if statutes.begins_article(parsed.text[each.start : each.end])
    }
    for before, after in pairwise(chunks):
        is_within = after.start not in starts and after.headings == before.headings
        assert not is_within or after.end - before.start > 450, "an article that fits was cut"
    assert max(each.end - each.start for each in chunks) <= 700


def test_chinese_passages_have_half_as_many_characters() -> None:
    chinese = markdown("# 规则\n\n" + "金融机构应当报告大额交易。" * 300)
    english = markdown("# Rules\n\n" + "Banks report large payments. " * 300)
    assert max(each.end - each.start for each in chunks_of(chinese)) <= 450 + 13
    assert max(each.end - each.start for each in chunks_of(english)) > 800
    for parsed, ending in ((chinese, "。"), (english, ".")):
        assert all(text.endswith(ending) for text in texts(parsed, chunks_of(parsed)))


def test_rows_are_whole_and_keep_the_names_of_their_columns() -> None:
    rows = "\n".join(f"Person {number},{'x' * 50},{number}" for number in range(100))
    parsed = read_csv(f"name,note,amount\n{rows}\n".encode(), LIMITS)
    chunks = chunks_of(parsed)
    assert len(chunks) > 3
    assert chunks[0].headings == (), "the row itself is in it"
    assert {each.headings for each in chunks[1:]} == {("name | note | amount",)}
    assert all(text.startswith(("name", "Person")) and text[-1].isdigit() for text in texts(parsed, chunks))


def test_a_passage_does_not_reach_over_a_heading() -> None:
    parsed = markdown("# A\n\nOne.\n\n## B\n\nTwo.\n\n## C\n\n### D\n\nThree.\n")
    assert [
        (each.headings, text)
        for each, text in zip(chunks_of(parsed), texts(parsed, chunks_of(parsed)), strict=True)
    ] == [
        (("A",), "# A\n\nOne."),
        (("A", "B"), "## B\n\nTwo."),
        (("A", "C", "D"), "## C\n\n### D\n\nThree."),
    ]
