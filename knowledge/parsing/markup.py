"""HTML: what a browser would show of it. Nothing is fetched and nothing runs."""

from __future__ import annotations

import re
from typing import Any

from knowledge.parsing import statutes
from knowledge.parsing.builder import Builder
from knowledge.parsing.decode import decoded
from knowledge.parsing.parsed import Kind, Limits, Parsed, Refused
from knowledge.parsing.texts import row_of

_DECLARED = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w-]{2,30})""", re.IGNORECASE)
_UNREAD = frozenset(
    {
        "template",
        "textarea",
        "script",
        "object",
        "canvas",
        "button",
        "noscript",
        "head",
        "select",
        "style",
        "iframe",
        "svg",
        "embed",
    }
)
_INLINE = frozenset(
    {
        "a",
        "abbr",
        "acronym",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "img",
        "ins",
        "kbd",
        "label",
        "mark",
        "q",
        "rp",
        "rt",
        "ruby",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "time",
        "tt",
        "u",
        "var",
        "wbr",
    }
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|(?:font-size|opacity)\s*:\s*0(?![.\d]*[1-9])",
    re.IGNORECASE,
)


def read_html(content: bytes, limits: Limits) -> Parsed:
    match = _DECLARED.search(content[:4096])
    text = decoded(content, match.group(1).decode("ascii") if match else "")
    builder = Builder(limits)
    add_html(builder, text)
    return builder.done("text/html")


def add_html(builder: Builder, text: str) -> None:
    """What stands in it, as blocks. Raises Refused("corrupt") where it cannot be taken for HTML at all."""
    from lxml import etree
    from lxml.html import HTMLParser, document_fromstring

    parser = HTMLParser(encoding="utf-8", no_network=True, huge_tree=False, remove_pis=True)
    try:
        root = document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (etree.LxmlError, ValueError, AssertionError):
        raise Refused("corrupt") from None
    title = root.find(".//title")
    builder.title = builder.title or (title.text_content() if title is not None else "")
    _Walk(builder).through(root)


class _Walk:
    """Runs of words between the elements that begin and end blocks."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._words: list[str] = []

    def through(self, root: Any) -> None:
        self._inside(root, "paragraph", 0)
        self._flush("paragraph", 0)

    def _flush(self, kind: Kind, level: int) -> None:
        text, self._words = "".join(self._words), []
        if kind != "code":
            # Line ends of the source are spaces; those of <br> stand here as \v.
            text = re.sub(r"\s*\v\s*", "\v", text)
            text = " ".join(text.replace("\v", "\x00").split()).replace("\x00", "\n")
        if kind == "paragraph" and (found := statutes.heading_level(text)):
            kind, level = "heading", found
        self._builder.add(kind, text, level)

    def _inside(self, element: Any, kind: Kind, level: int) -> None:
        """What is in an element that stands in a block of this kind."""
        if element.text:
            self._words.append(element.text)
        for child in element:
            if isinstance(child.tag, str) and not _is_hidden(child):
                self._element(child, kind, level)
            if child.tail:
                self._words.append(child.tail)

    def _element(self, element: Any, kind: Kind, level: int) -> None:
        tag = element.tag.lower()
        if tag == "br":
            self._words.append("\n" if kind == "code" else "\v")
            return
        if tag in _INLINE or (tag in _HEADINGS and kind == "heading"):
            self._inside(element, kind, level)
            return
        self._flush(kind, level)
        if tag in _HEADINGS:
            kind, level = "heading", _HEADINGS[tag]
        elif tag in ("ul", "ol", "dl"):
            level = level + 1 if kind == "list_item" else 0
        elif tag in ("li", "dt", "dd"):
            kind = "list_item"
        elif tag in ("pre", "listing"):
            kind, level = "code", 0
        elif tag == "table" and _is_table(element):
            self._table(element)
            return
        self._inside(element, kind, level)
        self._flush(kind, level)

    def _table(self, table: Any) -> None:
        """Row by row; the first names the columns where it says so."""
        for caption in table.iterchildren("caption"):
            self._builder.add("paragraph", caption.text_content())
        rows = [row for row in table.iter("tr") if not _is_hidden(row)]
        for number, row in enumerate(rows):
            cells = [cell for cell in row if cell.tag in ("td", "th") and not _is_hidden(cell)]
            is_header = number == 0 and (
                row.getparent().tag == "thead" or (len(cells) > 1 and all(cell.tag == "th" for cell in cells))
            )
            self._builder.add("table_row", row_of([_words_in(cell) for cell in cells]), int(is_header))


def _words_in(element: Any) -> str:
    """The words of a cell, without what is not shown."""
    parts: list[str] = []

    def walk(inside: Any) -> None:
        parts.append(inside.text or "")
        for child in inside:
            if isinstance(child.tag, str) and not _is_hidden(child):
                parts.append("" if child.tag in _INLINE else " ")
                walk(child)
            parts.append(child.tail or "")

    walk(element)
    return "".join(parts)


def _is_hidden(element: Any) -> bool:
    """What nobody sees is not read: it would speak to the model alone."""
    if not isinstance(element.tag, str) or element.tag.lower() in _UNREAD:
        return True
    return "hidden" in element.attrib or _HIDDEN.search(element.get("style", "")) is not None


def _is_table(table: Any) -> bool:
    """Of data; not one that lays out a page, which holds headings, tables or one column."""
    if next(table.iter("h1", "h2", "h3", "ul", "ol"), None) is not None:
        return False
    if sum(1 for _each in table.iter("table")) > 1:
        return False
    return any(sum(1 for cell in row if cell.tag in ("td", "th")) > 1 for row in table.iter("tr"))
