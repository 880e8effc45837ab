"""From a file's content to the reader of its format. Run in the limited process; see `process`."""

from __future__ import annotations

from importlib import import_module

from knowledge.parsing import sniff
from knowledge.parsing.parsed import Limits, Parsed, Refused

# Named, not imported: each brings libraries that the others do not need.
_READERS: dict[sniff.Format, tuple[str, str]] = {
    "text": ("texts", "read_text"),
    "markdown": ("texts", "read_markdown"),
    "csv": ("texts", "read_csv"),
    "html": ("markup", "read_html"),
    "mail": ("mail", "read_mail"),
    "pdf": ("pdf", "read_pdf"),
    "docx": ("office", "read_docx"),
    "pptx": ("office", "read_pptx"),
    "xlsx": ("office", "read_xlsx"),
    "picture": ("ocr", "read_picture"),
}


def read(content: bytes, name: str, limits: Limits) -> Parsed:
    """Raises Refused; other errors mean that the file is not what it seems to be."""
    if not content.strip(b"\x00 \t\r\n"):
        raise Refused("no_text")
    module, function = _READERS[sniff.format_of(content, name)]
    parsed = getattr(import_module(f"knowledge.parsing.{module}"), function)(content, limits)
    assert isinstance(parsed, Parsed)
    return parsed
