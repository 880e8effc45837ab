"""Word, slides and spreadsheets. Their archives are checked first; see `archive`."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any

from knowledge.parsing import archive, statutes
from knowledge.parsing.builder import Builder
from knowledge.parsing.parsed import Limits, Parsed, Refused
from knowledge.parsing.texts import row_of

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_HEADING = re.compile(r"(?:heading|标题|標題)\s*([1-9])", re.IGNORECASE)
_DEEPEST = 20  # Groups of shapes in one another.
_MEDIA_TYPE = "application/vnd.openxmlformats-officedocument."


def read_docx(content: bytes, limits: Limits) -> Parsed:
    """Without what was struck out while changes are tracked, and without headers and footers of pages."""
    from docx import Document

    archive.check(content, limits)
    document = Document(io.BytesIO(content))
    builder = Builder(limits)
    builder.title = document.core_properties.title or ""
    styles = {style.style_id: str(style.name) for style in document.styles}
    for element in document.element.body.iterchildren():
        _word_element(builder, element, styles)
    for name in ("footnotes", "endnotes"):
        _notes(builder, document, name)
    return builder.done(f"{_MEDIA_TYPE}wordprocessingml.document")


def _word_element(builder: Builder, element: Any, styles: dict[str, str]) -> None:
    if element.tag == f"{_WORD}p":
        _word_paragraph(builder, element, styles)
    elif element.tag == f"{_WORD}tbl":
        for number, row in enumerate(element.iter(f"{_WORD}tr")):
            cells = [_cell_words(cell) for cell in row.iterchildren(f"{_WORD}tc")]
            # Word names the columns in the first row, whether it says so or not.
            builder.add("table_row", row_of(cells), int(number == 0 and len(cells) > 1))
    elif element.tag == f"{_WORD}sdt":
        for inner in element.iterchildren(f"{_WORD}sdtContent"):
            for each in inner.iterchildren():
                _word_element(builder, each, styles)


def _word_paragraph(builder: Builder, paragraph: Any, styles: dict[str, str]) -> None:
    text = _words_in(paragraph)
    properties = paragraph.find(f"{_WORD}pPr")
    style, is_item = "", False
    if properties is not None:
        named = properties.find(f"{_WORD}pStyle")
        style = styles.get(named.get(f"{_WORD}val", ""), "") if named is not None else ""
        is_item = properties.find(f"{_WORD}numPr") is not None
    if match := _HEADING.match(style):
        builder.add("heading", text, int(match.group(1)))
    elif style.lower() == "title":
        builder.add("heading", text, 1)
    elif level := statutes.heading_level(text):
        builder.add("heading", text, level)
    elif is_item or style.lower().startswith("list"):
        builder.add("list_item", text)
    else:
        builder.add("paragraph", text)


def _words_in(element: Any) -> str:
    """The text of runs. Text in frames comes in two forms, of which one is for older programs."""
    return "".join(_runs(element))


def _runs(element: Any) -> Iterator[str]:
    for child in element.iterchildren():
        if child.tag == f"{_WORD}t":
            yield child.text or ""
        elif child.tag in (f"{_WORD}tab", f"{_WORD}ptab"):
            yield " "
        elif child.tag in (f"{_WORD}br", f"{_WORD}cr"):
            yield "\n"
        elif child.tag not in (f"{_WORD}del", f"{_WORD}moveFrom", f"{_WORD}pPr", _FALLBACK):
            if child.tag == f"{_WORD}p":
                yield "\n"
            if not _is_hidden(child):
                yield from _runs(child)


def _is_hidden(run: Any) -> bool:
    """Letters that Word does not show: they would speak to the model alone."""
    properties = run.find(f"{_WORD}rPr") if run.tag == f"{_WORD}r" else None
    hidden = properties.find(f"{_WORD}vanish") if properties is not None else None
    return hidden is not None and hidden.get(f"{_WORD}val", "1") not in ("0", "false")


def _cell_words(cell: Any) -> str:
    return " ".join(_words_in(each) for each in cell.iter(f"{_WORD}p"))


def _notes(builder: Builder, document: Any, name: str) -> None:
    """At the end, as they have no place in a text without pages."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    for relation in document.part.rels.values():
        if relation.is_external or not relation.reltype.endswith(f"/{name}"):
            continue
        root = etree.fromstring(relation.target_part.blob, parser)
        for note in root:
            if note.get(f"{_WORD}type") is None:
                builder.add("paragraph", " ".join(_words_in(each) for each in note.iter(f"{_WORD}p")))


# --- Slides -------------------------------------------------------------------------------------------


def read_pptx(content: bytes, limits: Limits) -> Parsed:
    """A slide is a page; what the speaker notes stands at its end."""
    from pptx import Presentation

    archive.check(content, limits)
    presentation = Presentation(io.BytesIO(content))
    builder = Builder(limits)
    builder.title = presentation.core_properties.title or ""
    if builder.title == "PowerPoint Presentation":
        builder.title = ""  # That of every new file.
    for slide in presentation.slides:
        builder.begin_page()
        title = slide.shapes.title
        if title is not None:
            builder.add("heading", title.text_frame.text, 1)
        for shape in slide.shapes:
            if title is None or shape.shape_id != title.shape_id:
                _shape(builder, shape, 0)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            builder.add("paragraph", slide.notes_slide.notes_text_frame.text)
    return builder.done(f"{_MEDIA_TYPE}presentationml.presentation")


def _shape(builder: Builder, shape: Any, depth: int) -> None:
    if getattr(shape, "has_table", False):
        for number, row in enumerate(shape.table.rows):
            builder.add("table_row", row_of([cell.text for cell in row.cells]), int(number == 0))
    elif shape.has_text_frame:
        paragraphs = shape.text_frame.paragraphs
        for paragraph in paragraphs:
            is_item = shape.is_placeholder and len(paragraphs) > 1
            builder.add(
                "list_item" if is_item else "paragraph", paragraph.text, paragraph.level if is_item else 0
            )
    elif hasattr(shape, "shapes") and depth < _DEEPEST:
        for inner in shape.shapes:
            _shape(builder, inner, depth + 1)


# --- Spreadsheets -------------------------------------------------------------------------------------


def read_xlsx(content: bytes, limits: Limits) -> Parsed:
    """Sheet by sheet, row by row, by the values last calculated; the first row with words names the columns."""
    from openpyxl import load_workbook

    archive.check(content, limits)
    workbook = load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
    builder = Builder(limits)
    builder.title = workbook.properties.title or ""
    left = limits.cells
    for sheet in workbook.worksheets:
        builder.add("heading", sheet.title, 1)
        # What it says of its size may be a million rows of nothing.
        sheet.reset_dimensions()
        is_first = True
        for row in sheet.iter_rows(values_only=True):
            left -= max(len(row), 1)
            if left < 0:
                raise Refused("too_large")
            if words := row_of([_value(cell) for cell in row]).rstrip(" |"):
                builder.add("table_row", words, int(is_first))
                is_first = False
    if not builder.has_more_than_headings:
        raise Refused("no_text")
    return builder.done(f"{_MEDIA_TYPE}spreadsheetml.sheet")


def _value(value: object) -> str:
    """As people write it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(" ") if value.time() != time() else value.date().isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value)
