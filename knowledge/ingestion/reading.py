"""A file's text and the passages of it, as the index takes them up. The file is read by `knowledge.parsing`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from knowledge import parsing
from knowledge.parsing.chunks import chunks_of


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
    """What stands in a file. is_ours: asked now and then, whether anybody still wants it.

    Raises Unreadable, and parsing.Stopped when nobody does.
    """
    try:
        parsed = parsing.parse_content(content, name=name, go_on=is_ours)
    except parsing.Refused as refused:
        raise Unreadable(refused.code) from None
    passages = [
        Passage(
            text=parsed.text[each.start : each.end],
            start=each.start,
            end=each.end,
            headings=each.headings,
            page_from=each.page_from,
            page_to=each.page_to,
            language=each.language,
        )
        for each in chunks_of(parsed)
    ]
    return Read(
        text=parsed.text,
        passages=passages,
        language=parsed.language,
        media_type=parsed.media_type,
        page_count=len(parsed.pages),
        layout={
            "blocks": [asdict(each) for each in parsed.blocks],
            "pages": [asdict(each) for each in parsed.pages],
            "title": parsed.title,
            "warnings": list(parsed.warnings),
        },
    )


def searched(headings: Sequence[str], text: str) -> str:
    """What a passage is found by: its headings, and what it says."""
    return "\n".join((*headings, text))
