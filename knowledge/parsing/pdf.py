"""PDF by pdfium: the text of each page, and what is on pages that are pictures of text."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

from knowledge.parsing import lines
from knowledge.parsing.builder import Builder, clean
from knowledge.parsing.lines import Line
from knowledge.parsing.parsed import Limits, Parsed, Refused

_BOLD_FROM = 600  # Weight of a font, as in CSS.
_FORCE_BOLD = 1 << 18  # Of a font's flags.
_FEW = 16  # Characters; a scanned page may have a number that was printed on it since.
_DPI = 200


def read_pdf(content: bytes, limits: Limits) -> Parsed:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        raise Refused(_refusal(getattr(error, "err_code", None))) from None
    if len(document) > limits.pages:
        raise Refused("too_large")
    if not len(document):
        raise Refused("corrupt")
    builder = Builder(limits)
    builder.title = _title(document)
    pages = list(_pages(document, limits, builder))
    known, body = lines.repeated(pages), lines.body_size(pages)
    for page in pages:
        builder.begin_page()
        lines.add_lines(builder, lines.without(page, known), body)
    return builder.done("application/pdf")


def _refusal(code: int | None) -> str:
    from pypdfium2 import raw

    return "encrypted" if code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY) else "corrupt"


def _title(document: Any) -> str:
    """What the file calls itself, unless that is the name of another file, as programs that print leave it."""
    title = document.get_metadata_value("Title").strip()
    return (
        "" if "." in title[-6:] or title.lower().startswith(("microsoft word", "untitled")) else clean(title)
    )


def _pages(document: Any, limits: Limits, builder: Builder) -> Iterator[list[Line]]:
    """The lines of each page. Raises Refused when it is too much."""
    characters = pictures = broken = 0
    for number in range(len(document)):
        page = _page(document, number)
        if page is None:
            broken += 1
            yield []
            continue
        found = list(_lines(page))
        length = sum(len(each.text) for each in found)
        characters += length
        if characters > limits.characters:
            raise Refused("too_large")
        if length < _FEW and _has_picture(page):
            pictures += 1
            if pictures > limits.read_pages:
                builder.warn("pages_left_out")
            else:
                builder.warn("read_from_pictures")
                found = _from_picture(page, limits) or found
        yield found
        page.close()
    if broken == len(document):
        raise Refused("corrupt")
    if broken:
        builder.warn("pages_left_out")


def _page(document: Any, number: int) -> Any:
    """None where it cannot be opened: a page tree may promise pages that it has not."""
    import pypdfium2

    try:
        return document[number]
    except pypdfium2.PdfiumError:
        return None


def _lines(page: Any) -> Iterator[Line]:
    """In the order in which the file has them, which is that of reading in all but odd files."""
    from pypdfium2 import raw

    text_page = page.get_textpage()
    count = text_page.count_chars()
    if count <= 0:
        return
    text = text_page.get_text_range()
    left, right, bottom, top = (ctypes.c_double() for _each in range(4))
    name, flags = ctypes.create_string_buffer(1), ctypes.c_int()

    def box(index: int) -> None:
        raw.FPDFText_GetCharBox(text_page, index, left, right, bottom, top)

    at, base, size = 0, None, 0.0
    for said in text.split("\n"):
        index, at = at, at + len(said) + 1
        words = said.rstrip("\r")
        first = index + len(words) - len(words.lstrip())
        last = min(index + len(words.rstrip()), count) - 1
        if not words.strip() or first > last:
            continue
        box(first)
        start, above, base = left.value, base, bottom.value
        previous, size = size, raw.FPDFText_GetFontSize(text_page, first)
        weight = raw.FPDFText_GetFontWeight(text_page, first)
        raw.FPDFText_GetFontInfo(text_page, first, name, 0, flags)
        is_bold = weight >= _BOLD_FROM or bool(flags.value & _FORCE_BOLD) or _is_named_bold(text_page, first)
        box(last)
        size = _size(raw, text_page, first, size)
        gap = above - base if above is not None else 0.0
        yield Line(
            lines.plain(words.strip()),
            size=size,
            width=right.value - start,
            is_bold=is_bold and _is_named_bold(text_page, last),
            is_apart=gap > 1.75 * max(size, previous, 1.0),
        )


def _size(raw: Any, text_page: Any, index: int, size: float) -> float:
    """In points as seen: some files set size 1 and enlarge by a matrix."""
    matrix = raw.FS_MATRIX()
    if raw.FPDFText_GetMatrix(text_page, index, matrix):
        scale = (matrix.c**2 + matrix.d**2) ** 0.5
        return float(size * scale)
    return float(size)


def _is_named_bold(text_page: Any, index: int) -> bool:
    from pypdfium2 import raw

    name, flags = ctypes.create_string_buffer(128), ctypes.c_int()
    raw.FPDFText_GetFontInfo(text_page, index, name, 128, flags)
    return b"bold" in name.value.lower() or b"black" in name.value.lower()


def _has_picture(page: Any) -> bool:
    from pypdfium2 import raw

    return next(page.get_objects(filter=(raw.FPDF_PAGEOBJ_IMAGE,), max_depth=3), None) is not None


def _from_picture(page: Any, limits: Limits) -> list[Line]:
    from knowledge.parsing.ocr import lines_of

    width, height = page.get_size()
    most = (limits.pixels / max(width * height, 1)) ** 0.5
    picture = page.render(scale=min(_DPI / 72, most), grayscale=False).to_numpy()
    return lines_of(picture)
