"""A text that is put together block by block, for formats whose own text is not what people read."""

from __future__ import annotations

import re

from knowledge.parsing.parsed import Block, Kind, Limits, Page, Parsed, Refused

_SPACE = re.compile(r"[^\S\n]+")
# Control characters, and what turns the direction of a text or has no width: it hides words from who reads.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CLOSE = frozenset({"list_item", "table_row"})  # Stand line by line; others with a blank line between.
_TITLE_MOST = 200


class Builder:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self._pages: list[Page] = []
        self._warnings: dict[str, None] = {}
        self.title = ""

    @property
    def is_empty(self) -> bool:
        return not self._blocks

    @property
    def has_more_than_headings(self) -> bool:
        return any(each.kind != "heading" for each in self._blocks)

    @property
    def page(self) -> int | None:
        return self._pages[-1].number if self._pages else None

    def begin_page(self) -> None:
        """What is added from now on stands on the next page."""
        self._end_page()
        if len(self._pages) >= self._limits.pages:
            raise Refused("too_large")
        if self._length:
            self._put("\n\n")
        self._pages.append(Page(len(self._pages) + 1, self._length, self._length))

    def add(self, kind: Kind, text: str, level: int = 0) -> None:
        """A block; nothing where there is nothing in it but space."""
        words = clean(text) if kind == "code" else "\n".join(filter(None, map(tidy, text.split("\n"))))
        if not words.strip():
            return
        if self._length and not (self._pages and self._pages[-1].start == self._length):
            last = self._blocks[-1].kind if self._blocks else ""
            self._put("\n" if kind == last and kind in _CLOSE else "\n\n")
        start = self._length
        self._put(words)
        self._blocks.append(Block(kind, start, self._length, level, self.page))

    def warn(self, code: str) -> None:
        self._warnings[code] = None

    def done(self, media_type: str) -> Parsed:
        """Raises Refused("no_text")."""
        self._end_page()
        return parsed_of(
            "".join(self._parts),
            self._blocks,
            media_type,
            pages=self._pages,
            title=self.title,
            warnings=self._warnings,
        )

    def _put(self, text: str) -> None:
        self._length += len(text)
        if self._length > self._limits.characters:
            raise Refused("too_large")
        self._parts.append(text)

    def _end_page(self) -> None:
        if self._pages:
            last = self._pages[-1]
            self._pages[-1] = Page(last.number, last.start, self._length)


def parsed_of(
    text: str,
    blocks: list[Block],
    media_type: str,
    *,
    pages: list[Page] | None = None,
    title: str = "",
    warnings: dict[str, None] | None = None,
) -> Parsed:
    """With its language, and its first heading for a title where it has no other. Raises Refused("no_text")."""
    from knowledge.parsing.language import language_of

    if not text.strip():
        raise Refused("no_text")
    heading = next((each for each in blocks if each.kind == "heading"), None)
    title = tidy(title) or (words_of(text, heading) if heading else "")
    return Parsed(
        text=text,
        blocks=tuple(blocks),
        pages=tuple(pages or ()),
        title=title[:_TITLE_MOST],
        language=language_of(text),
        warnings=tuple(warnings or ()),
        media_type=media_type,
    )


def words_of(text: str, block: Block) -> str:
    """Of a heading or row, without the signs of Markdown."""
    return tidy(text[block.start : block.end].replace("\n", " ")).strip("#*| ")


def clean(text: str) -> str:
    """Without what nobody sees."""
    return _UNSEEN.sub("", text)


def tidy(text: str) -> str:
    """One line, one space between words."""
    return _SPACE.sub(" ", clean(text.replace("\x0b", " "))).strip()
