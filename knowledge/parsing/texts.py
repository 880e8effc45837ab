"""Text, Markdown and CSV. What people see of these is the file's own text, so that is what the blocks lie in."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from knowledge.parsing import statutes
from knowledge.parsing.builder import Builder, clean, parsed_of
from knowledge.parsing.decode import decoded
from knowledge.parsing.parsed import Block, Kind, Limits, Parsed, Refused

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+\S|[ \t]*$)")
_ITEM = re.compile(
    r"([ \t]*)(?:[-*+•·●▪◦]|\d{1,3}[.)、]|[（(]?[一二三四五六七八九十]{1,3}[)）、]|[a-z][.)])[ \t　]*\S"
)
_MARK_NEEDS_SPACE = re.compile(r"[ \t]*(?:[-*+]|\d{1,3}[.)]|[a-z][.)])\S")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-{2,}:?[ \t]*(?:\|[ \t]*:?-{2,}:?[ \t]*)*\|?[ \t]*$")


def read_text(content: bytes, limits: Limits) -> Parsed:
    text = _within(decoded(content), limits)
    return parsed_of(text, list(_blocks(text, is_markdown=False)), "text/plain")


def read_markdown(content: bytes, limits: Limits) -> Parsed:
    text = _within(decoded(content), limits)
    return parsed_of(text, list(_blocks(text, is_markdown=True)), "text/markdown")


def read_csv(content: bytes, limits: Limits) -> Parsed:
    """Each row a line; the first names the columns."""
    text = clean(_within(decoded(content), limits))
    builder = Builder(limits)
    try:
        rows = csv.reader(io.StringIO(text), delimiter=_delimiter(text))
        cells = 0
        for row in rows:
            cells += len(row)
            if cells > limits.cells:
                raise Refused("too_large")
            builder.add("table_row", row_of(row), level=int(builder.is_empty))
    except csv.Error:
        raise Refused("corrupt") from None
    return builder.done("text/csv")


def row_of(cells: list[str]) -> str:
    """A row of a table on one line; "" where nothing is in it."""
    words = [" ".join(each.split()) for each in cells]
    return " | ".join(words) if any(words) else ""


def is_item(line: str) -> bool:
    """A line that begins an item of a list."""
    return _ITEM.match(line) is not None and not _MARK_NEEDS_SPACE.match(line)


def _within(text: str, limits: Limits) -> str:
    if len(text) > limits.characters:
        raise Refused("too_large")
    return text


def _delimiter(text: str) -> str:
    """The one of which the first line has most."""
    first = text.lstrip().partition("\n")[0]
    return max(",\t;|", key=first.count)


def _lines(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, line), without the line's end."""
    at = 0
    for line in text.split("\n"):
        yield at, at + len(line), line
        at += len(line) + 1


def _blocks(text: str, *, is_markdown: bool) -> Iterator[Block]:
    """Lines belong together until a blank one, or one that begins something."""
    run: Block | None = None
    fence = ""
    for start, end, line in _lines(text):
        if fence:
            assert run is not None
            run = Block("code", run.start, end)
            fence = "" if line.strip().startswith(fence) else fence
            continue
        kind, level = _kind_of(line, run, is_markdown=is_markdown)
        if is_markdown and (opened := _FENCE.match(line)):
            kind, level, fence = "code", 0, opened.group(1)
        if kind is None and run is not None and line.strip() and run.kind != "heading":
            run = Block(run.kind, run.start, end, run.level)
            continue
        if run is not None:
            yield run
        run = Block(kind or "paragraph", start, end, level) if line.strip() else None
    if run is not None:
        yield run


def _kind_of(line: str, run: Block | None, *, is_markdown: bool) -> tuple[Kind | None, int]:
    """What the line begins, and its level; None where it goes on with what stands above it, or is blank."""
    if is_markdown:
        if match := _ATX.match(line):
            return "heading", len(match.group(1))
        if line.lstrip().startswith("|"):
            is_first = run is None or run.kind != "table_row"
            # The rule below the names of columns belongs to them.
            return (None, 0) if not is_first and _RULE.match(line) else ("table_row", int(is_first))
    if level := statutes.heading_level(line):
        return "heading", level
    if is_item(line):
        return "list_item", (len(line) - len(line.lstrip())) // 2
    if statutes.begins_article(line) or (run is not None and run.kind == "table_row"):
        return "paragraph", 0
    return None, 0
