"""A file's text and the passages of it, as the index takes them up.

Text and Markdown are read here, for whose letters nothing has to be run; every other kind is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from knowledge.parsing.language import language_of

_MOST = 1000  # Characters of a passage: about what an answer cites.
_HEADING = re.compile(r"(#{1,6}) +(.+?)[ #]*$")
_TEXTS = frozenset({"txt", "md", "markdown", "csv", "tsv", "log", "json", "yaml", "yml"})
_ENCODINGS = ("utf-8-sig", "gb18030")


class Unreadable(Exception):
    """The file cannot be read. code: in failures.SENTENCES."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Passage:
    """start, end: characters of the text, of which `text` is exactly that part."""

    text: str
    start: int
    end: int
    headings: tuple[str, ...] = ()
    page_from: int | None = None
    page_to: int | None = None
    language: str = ""

    @property
    def searched(self) -> str:
        return searched(self.headings, self.text)


@dataclass(frozen=True, slots=True)
class Read:
    """layout: {"blocks", "pages", "title", "warnings"}."""

    text: str
    passages: list[Passage]
    language: str
    media_type: str = ""
    page_count: int = 0
    layout: dict[str, Any] = field(default_factory=dict)


def read(content: bytes, name: str, *, is_ours: Callable[[], bool]) -> Read:
    """What stands in a file. is_ours: asked now and then, whether anybody still wants it. Raises Unreadable."""
    ending = name.rpartition(".")[2].lower()
    if ending not in _TEXTS or b"\x00" in content:
        raise Unreadable("kind_unknown")
    text = _decoded(content)
    if not text.strip():
        raise Unreadable("no_text")
    language = language_of(text)
    passages = [
        Passage(text[start:end], start, end, headings, language=language_of(text[start:end]))
        for start, end, headings in _passages(text)
    ]
    is_markdown = ending in ("md", "markdown")
    return Read(
        text=text,
        passages=passages,
        language=language,
        media_type="text/markdown" if is_markdown else "text/plain",
        layout={"blocks": [], "pages": [], "title": _title(text), "warnings": []},
    )


def searched(headings: Sequence[str], text: str) -> str:
    """What a passage is found by: its headings, and what it says."""
    return "\n".join((*headings, text))


def _decoded(content: bytes) -> str:
    for encoding in _ENCODINGS:
        try:
            return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError:
            continue
    raise Unreadable("kind_unknown")


def _title(text: str) -> str:
    match = next((found for line in text.splitlines()[:50] if (found := _HEADING.match(line))), None)
    return match.group(2) if match else ""


def _passages(text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """(start, end, headings) of runs of lines that stand under the same headings."""
    headings: list[tuple[int, str]] = []
    start = at = 0
    for line in text.splitlines(keepends=True):
        heading = _HEADING.match(line.rstrip("\n"))
        if heading or at + len(line) - start > _MOST:
            yield from _cut(text, start, at, headings)
            start = at
        if heading:
            depth = len(heading.group(1))
            headings = [each for each in headings if each[0] < depth] + [(depth, heading.group(2))]
        at += len(line)
    yield from _cut(text, start, at, headings)


def _cut(
    text: str, start: int, end: int, headings: list[tuple[int, str]]
) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Lines that are longer than a passage are cut where they reach its length; what is blank is none."""
    for first in range(start, end, _MOST):
        last = min(first + _MOST, end)
        if text[first:last].strip():
            yield first, last, tuple(words for _depth, words in headings)
