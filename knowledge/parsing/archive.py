"""What is checked of an Office file before a library opens it: it is an archive, and it comes from a stranger."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Literal

from knowledge.parsing.parsed import MB, Limits, Refused

_FORMATS: dict[str, Literal["docx", "pptx", "xlsx"]] = {
    "word/document.xml": "docx",
    "ppt/presentation.xml": "pptx",
    "xl/workbook.xml": "xlsx",
}
_ENCRYPTED = 0x1
_SMALL = 10 * MB  # Below this, a high ratio is that of a table with little in it.
# Office writes none, and what is declared in one can be other files, or itself a thousand times.
_DOCTYPE = re.compile(
    b"|".join(re.escape("<!DOCTYPE".encode(each)) for each in ("utf-8", "utf-16-le", "utf-16-be"))
)
_XML = (".xml", ".rels", ".vml")


def format_of(content: bytes) -> Literal["docx", "pptx", "xlsx"]:
    """Raises Refused with "unsupported", "encrypted", "macros" or "corrupt"."""
    names = {each.filename for each in _entries(content)}
    if any(name.lower().rpartition("/")[2] == "vbaproject.bin" for name in names):
        raise Refused("macros")
    for name, kind in _FORMATS.items():
        if name in names:
            return kind
    raise Refused("unsupported")


def check(content: bytes, limits: Limits) -> None:
    """Raises Refused where opening it would cost more than it may, or would read anything but itself."""
    entries = _entries(content)
    if len(entries) > limits.entries:
        raise Refused("expands_too_much")
    # A library reads no more of an entry than is declared of it, so what is declared can be trusted as a bound.
    expanded = sum(each.file_size for each in entries)
    if expanded > limits.expanded or expanded > max(limits.ratio * len(content), _SMALL):
        raise Refused("expands_too_much")
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        for entry in entries:
            if entry.filename.lower().endswith(_XML) and _DOCTYPE.search(opened.read(entry)):
                raise Refused("corrupt")


def _entries(content: bytes) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            entries = opened.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise Refused("corrupt") from None
    if any(each.flag_bits & _ENCRYPTED for each in entries):
        raise Refused("encrypted")
    return entries
