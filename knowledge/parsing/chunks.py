"""Passages of a parsed text: what is found, quoted and cited.

A passage ends where a heading stands, where a row, an item or an article ends, or else where a sentence does. All of the
text but the space between is in exactly one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from knowledge.answers.sentences import sentences_of
from knowledge.parsing import statutes
from knowledge.parsing.builder import words_of
from knowledge.parsing.language import language_of
from knowledge.parsing.parsed import Block, Kind, Page, Parsed

# A Chinese character says about what two or three English letters do, and is about as many tokens for the models.
_CHINESE_SHARE = 0.5
_HEADING_MOST = 120  # Characters of a heading that passages carry.
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Text is parsed.text[start:end]. headings: above it, outermost first, and of a table the names of its columns."""

    ordinal: int
    start: int
    end: int
    headings: tuple[str, ...]
    page_from: int | None
    page_to: int | None
    language: str


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is kept together where that is possible. section: counts headings. columns: their names, below that row."""

    start: int
    end: int
    kind: Kind
    headings: tuple[str, ...]
    section: int
    columns: str = ""


def chunks_of(parsed: Parsed, *, target: int = 900, most: int = 1400) -> list[Chunk]:
    """Passages in order. target, most: characters of English; of Chinese text half as many."""
    if parsed.language == "zh":
        target, most = max(int(target * _CHINESE_SHARE), 1), max(int(most * _CHINESE_SHARE), 1)
    found: list[Chunk] = []
    for units in _grouped(list(_units(parsed)), target, most):
        first, last = units[0], units[-1]
        for start, end in _fitting(parsed.text, first.start, last.end, target, most):
            found.append(_chunk(parsed, len(found), start, end, units))
    return found


def _chunk(parsed: Parsed, ordinal: int, start: int, end: int, units: list[_Unit]) -> Chunk:
    headings = units[-1].headings
    # Of a passage that begins below the row that names the columns.
    columns = next((each.columns for each in units if each.kind == "table_row"), "")
    pages = parsed.pages
    return Chunk(
        ordinal=ordinal,
        start=start,
        end=end,
        headings=(*headings, columns) if columns else headings,
        page_from=_page_of(pages, start),
        page_to=_page_of(pages, end - 1),
        language=language_of(parsed.text[start:end]),
    )


def _page_of(pages: tuple[Page, ...], at: int) -> int | None:
    low, high = 0, len(pages)
    while low < high:
        middle = (low + high) // 2
        if pages[middle].start <= at:
            low = middle + 1
        else:
            high = middle
    return pages[low - 1].number if low else None


# --- From blocks to what is kept together --------------------------------------------------------------


def _units(parsed: Parsed) -> Iterator[_Unit]:
    """Headings, rows and articles, and what stands between them, each with the headings above it."""
    path: list[tuple[int, str]] = []
    columns: tuple[int, str] | None = None
    section = 0
    article: _Unit | None = None
    previous: Kind | None = None
    for block in _covering(parsed):
        text = parsed.text
        is_article = block.kind == "paragraph" and statutes.begins_article(
            text[block.start : block.start + 40]
        )
        if article is not None and (block.kind == "heading" or is_article):
            yield article
            article = None
        if block.kind == "heading":
            # Headings right below one another open one section together.
            section += previous != "heading"
            path = [each for each in path if each[0] < block.level]
            path.append((block.level, words_of(text, block)[:_HEADING_MOST]))
        if block.kind != "table_row":
            columns = None
        elif block.level:
            columns = (block.end, words_of(text, block)[:_HEADING_MOST])
        headings = tuple(words for _level, words in path if words)
        unit = _Unit(block.start, block.end, block.kind, headings, section)
        previous = block.kind
        if is_article:
            article = unit
        elif article is not None:
            article = _Unit(article.start, unit.end, "paragraph", headings, section)
        else:
            yield _below(unit, columns)
    if article is not None:
        yield article


def _below(unit: _Unit, columns: tuple[int, str] | None) -> _Unit:
    if columns is None or unit.start < columns[0]:
        return unit
    return _Unit(unit.start, unit.end, unit.kind, unit.headings, unit.section, columns[1])


def _covering(parsed: Parsed) -> Iterator[Block]:
    """The blocks in order, and the words that are in none as paragraphs; each without space around it."""
    at = 0
    for block in sorted(parsed.blocks, key=lambda each: (each.start, each.end)):
        start = max(block.start, at)
        yield from _between(parsed.text, at, start)
        if trimmed := _trimmed(parsed.text, start, block.end):
            yield Block(block.kind, *trimmed, block.level, block.page)
        at = max(at, block.end)
    yield from _between(parsed.text, at, len(parsed.text))


def _between(text: str, start: int, end: int) -> Iterator[Block]:
    if trimmed := _trimmed(text, start, end):
        yield Block("paragraph", *trimmed)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    piece = text[start:end]
    words = piece.strip()
    if not words:
        return None
    start += len(piece) - len(piece.lstrip())
    return start, start + len(words)


# --- From units to passages ----------------------------------------------------------------------------


def _grouped(units: list[_Unit], target: int, most: int) -> Iterator[list[_Unit]]:
    """Units of one section as far as they fit the target; one that is larger than that stands alone."""
    group: list[_Unit] = []
    for unit in units:
        if group and not _fits(group, unit, target, most):
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def _fits(group: list[_Unit], unit: _Unit, target: int, most: int) -> bool:
    if unit.section != group[0].section:
        return False
    length = unit.end - group[0].start
    if all(each.kind == "heading" for each in group):
        # A heading is not left without what it stands above, unless that would cut what fits.
        return length <= most or unit.end - unit.start > most
    return length <= target


def _fitting(text: str, start: int, end: int, target: int, most: int) -> Iterator[tuple[int, int]]:
    """The part as it is, or in pieces of at most `most`, cut between sentences where that is possible."""
    while end - start > most:
        cut = _cut(text, start, end, target, most)
        if trimmed := _trimmed(text, start, cut):
            yield trimmed
        start = cut
    if trimmed := _trimmed(text, start, end):
        yield trimmed


def _cut(text: str, start: int, end: int, target: int, most: int) -> int:
    """Where the first piece ends: after the last sentence that fits the target, or the first one after it."""
    piece = text[start : min(start + most + 1, end)]
    ends = [start + each.end for each in sentences_of(piece)][:-1]
    within = [each for each in ends if each - start <= target]
    after = [each for each in ends if target < each - start <= most]
    if within and within[-1] - start >= target // 2:
        return within[-1]
    if after:
        return after[0]
    if within:
        return within[-1]
    spaces = [match.start() for match in _SPACE.finditer(piece, 1)]
    if spaces and spaces[-1] >= most // 2:
        return start + spaces[-1]
    return start + most
