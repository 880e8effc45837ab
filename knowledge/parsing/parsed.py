"""What a file is once it is read. Offsets are characters of `Parsed.text`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["heading", "paragraph", "list_item", "table_row", "code"]
MB = 1 << 20

CODES = frozenset(
    {
        "encrypted",
        "corrupt",
        "too_large",
        "expands_too_much",
        "macros",
        "unsupported",
        "no_text",
        "took_too_long",
        "too_much_memory",
    }
)


class Refused(Exception):
    """The file is not read. code: one of CODES."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Block:
    """level: of a heading from 1, of a list item from 0; 1 for the row of a table that names its columns."""

    kind: Kind
    start: int
    end: int
    level: int = 0
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """number: from 1."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """pages: of paged formats only. language: as `language_of` says.

    warnings: "read_from_pictures", "pages_left_out" (of a scan longer than may be read), "attachments_left_out".
    """

    text: str
    blocks: tuple[Block, ...]
    pages: tuple[Page, ...]
    title: str
    language: str
    warnings: tuple[str, ...]
    media_type: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one file may cost. Bytes unless the name says otherwise.

    expanded, ratio, entries: of a compressed archive. read_pages: those that have to be read from pictures.
    memory: address space, of which the libraries for pictures take two gigabytes before they read anything.
    """

    size: int = 100 * MB
    expanded: int = 300 * MB
    ratio: int = 200
    entries: int = 5_000
    pages: int = 3_000
    read_pages: int = 200
    characters: int = 8_000_000
    cells: int = 2_000_000
    pixels: int = 60_000_000
    memory: int = 4_096 * MB
    cpu_s: int = 600
    wall_s: float = 900.0


def as_json(parsed: Parsed) -> dict[str, Any]:
    """Short: a long file has a hundred thousand blocks."""
    return {
        "text": parsed.text,
        "blocks": [[each.kind, each.start, each.end, each.level, each.page] for each in parsed.blocks],
        "pages": [[each.number, each.start, each.end] for each in parsed.pages],
        "title": parsed.title,
        "language": parsed.language,
        "warnings": list(parsed.warnings),
        "media_type": parsed.media_type,
    }


def from_json(said: dict[str, Any]) -> Parsed:
    """The reverse. Raises KeyError, TypeError or ValueError where it is not such."""
    text = str(said["text"])
    blocks = tuple(Block(*each) for each in said["blocks"])
    pages = tuple(Page(*each) for each in said["pages"])
    parts = [(each.start, each.end) for each in blocks] + [(each.start, each.end) for each in pages]
    if any(not 0 <= start <= end <= len(text) for start, end in parts):
        raise ValueError("a part that lies outside of the text")
    return Parsed(
        text=text,
        blocks=blocks,
        pages=pages,
        title=str(said["title"]),
        language=str(said["language"]),
        warnings=tuple(map(str, said["warnings"])),
        media_type=str(said["media_type"]),
    )
