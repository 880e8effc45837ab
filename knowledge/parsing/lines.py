"""Paragraphs from lines as they stand on a page, where nothing but their place, size and weight says what they are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from knowledge.parsing import statutes
from knowledge.parsing.builder import Builder
from knowledge.parsing.parsed import Kind
from knowledge.parsing.texts import is_item

_LARGER = 1.12  # From how much above the body's size a line is a heading.
_HEADING_MOST = 160
_SHORT = 0.75  # Of the widest line: one that ends before this ends a paragraph, where it ends a sentence.
_MARGIN_LINES = 2  # At the top and bottom of a page, where what all pages say stands.
_SENTENCE_END = re.compile(r"[.!?:;。！？：；][”\"'’)）\]]*$")
_WIDE = re.compile("[⺀-鿿豈-﫿＀-￯、。「-】]")
_DIGITS = re.compile(r"\d+")
# Ligatures; and what pdfium has in place of a hyphen where a line ended in a word.
_LIGATURES: dict[int, str] = str.maketrans(
    {"\ufffe": "", "\x02": "", "\xad": "", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl"}
)


@dataclass(frozen=True, slots=True)
class Line:
    """size: of its letters, in any unit that is the same for the whole file. width: from the left edge to the right.

    is_apart: more room is above it than between lines.
    """

    text: str
    size: float = 0.0
    width: float = 0.0
    is_bold: bool = False
    is_apart: bool = False


def repeated(pages: Sequence[Sequence[Line]]) -> frozenset[str]:
    """What stands at the edges of most pages, numbers apart: names of the file, numbers of pages."""
    if len(pages) < 3:
        return frozenset()
    seen = Counter(key for lines in pages for key in {_key(each) for each in _edges(lines)})
    return frozenset(key for key, count in seen.items() if count >= max(3, len(pages) * 0.5))


def without(lines: Sequence[Line], known: frozenset[str]) -> list[Line]:
    """The page without what its edges repeat."""
    edges = {id(each) for each in _edges(lines) if _key(each) in known}
    return [each for each in lines if id(each) not in edges]


def body_size(pages: Sequence[Sequence[Line]]) -> float:
    """In which most letters are set."""
    sizes: Counter[float] = Counter()
    for line in (each for lines in pages for each in lines):
        sizes[round(line.size, 1)] += len(line.text)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def add_lines(builder: Builder, lines: Sequence[Line], body: float) -> None:
    """One page, its lines in order."""
    widest = max((each.width for each in lines), default=0.0)
    kind: Kind = "paragraph"
    level, words = 0, ""
    previous: Line | None = None
    for line in lines:
        found, found_level = _kind_of(line, body)
        if _goes_on(previous, line, kind, found, level, found_level, widest):
            words = joined(words, line.text)
        else:
            builder.add(kind, words, level)
            kind, level, words = found, found_level, line.text
        previous = line
    builder.add(kind, words, level)


def joined(before: str, after: str) -> str:
    """Two lines as one: Chinese has no space there, and a word that was divided is one again."""
    before, after = before.rstrip(), after.lstrip()
    if not before or not after:
        return before or after
    if before[-1] == "-" and before[-2:-1].isalpha() and after[:1].islower():
        return before[:-1] + after
    if _WIDE.match(before[-1]) and _WIDE.match(after[0]):
        return before + after
    return f"{before} {after}"


def plain(text: str) -> str:
    return text.translate(_LIGATURES)


def _edges(lines: Sequence[Line]) -> list[Line]:
    return [*lines[:_MARGIN_LINES], *lines[_MARGIN_LINES:][-_MARGIN_LINES:]]


def _key(line: Line) -> str:
    return _DIGITS.sub("0", line.text.strip())


def _kind_of(line: Line, body: float) -> tuple[Kind, int]:
    text = line.text.strip()
    if found := statutes.heading_level(text):
        return "heading", found
    if is_item(text):
        return "list_item", 0
    is_short = len(text) <= _HEADING_MOST and any(each.isalpha() for each in text)
    if is_short and body and line.size >= body * _LARGER:
        return "heading", 1 if line.size >= body * 1.5 else 2
    if is_short and line.is_bold and not _SENTENCE_END.search(text):
        return "heading", 3
    return "paragraph", 0


def _goes_on(
    previous: Line | None, line: Line, kind: Kind, found: Kind, level: int, found_level: int, widest: float
) -> bool:
    """Whether a line belongs to what the one above began."""
    if previous is None or line.is_apart or statutes.begins_article(line.text):
        return previous is None
    if found == "heading" or kind == "heading":
        return found == kind and found_level == level and not statutes.heading_level(line.text)
    if found == "list_item":
        return False
    ended = _SENTENCE_END.search(previous.text.rstrip()) is not None
    return not (ended and previous.width < widest * _SHORT)
