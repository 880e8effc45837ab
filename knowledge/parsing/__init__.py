"""Files to text, in a limited process. Knows no Django.

    parsed.py     what comes out: text, blocks, pages; why a file is refused; what it may cost
    process.py    `parse_file`, `parse_content`: the process, its limits, its answer
    worker.py     what runs in it
    sniff.py      what a file is, by its content
    builder.py    a text that is put together block by block
    texts.py      text, Markdown, CSV; decode.py: letters from bytes; statutes.py: chapters and articles
    markup.py     HTML; mail.py: e-mail
    office.py     DOCX, PPTX, XLSX; archive.py: what is checked before one is opened
    pdf.py        PDF; ocr.py: pictures; lines.py: paragraphs from lines on a page
    chunks.py     passages of what came out
    language.py   in which language a text is written

Readers of formats import their libraries when they are called: a process that reads a text starts without them.
"""

from knowledge.parsing.parsed import Block, Limits, Page, Parsed, Refused
from knowledge.parsing.process import Stopped, parse_content, parse_file

__all__ = ["Block", "Limits", "Page", "Parsed", "Refused", "Stopped", "parse_content", "parse_file"]
