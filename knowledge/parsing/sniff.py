"""What a file is. Its content decides; its name only between kinds that are all plain text."""

from __future__ import annotations

import re
from typing import Literal

from knowledge.parsing.parsed import Refused

Format = Literal["pdf", "docx", "pptx", "xlsx", "html", "markdown", "csv", "mail", "text", "picture"]

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"BM", b"GIF87a", b"GIF89a")
_OTHERS = (b"{\\rtf", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b", b"\x7fELF", b"MZ", b"%!PS")
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s|<!--.{0,2000}?-->|<\?xml[^>]{0,200}>)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_HTML_TAG = re.compile(rb"<(?:p|div|h[1-6]|table|ul|ol|a|span|br)\b", re.IGNORECASE)
_FIELD = re.compile(rb"[A-Za-z][\w-]{1,40}:")
_MAIL_NEEDS = frozenset({b"from:", b"received:", b"return-path:", b"message-id:", b"mime-version:"})
_BY_NAME: dict[str, Format] = {
    "md": "markdown",
    "markdown": "markdown",
    "csv": "csv",
    "tsv": "csv",
    "htm": "html",
    "html": "html",
    "xhtml": "html",
    "eml": "mail",
}


def format_of(content: bytes, name: str) -> Format:
    """Raises Refused with "unsupported", "encrypted" or "macros"."""
    if b"%PDF-" in content[:1024]:
        return "pdf"
    if content.startswith(_ZIP):
        from knowledge.parsing import archive

        return archive.format_of(content)
    if content.startswith(_OLE):
        raise Refused(_of_ole(content))
    if content.startswith(_PICTURES) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP"):
        return "picture"
    if content.startswith(_OTHERS):
        raise Refused("unsupported")
    _stem, dot, ending = name.rpartition(".")
    return _of_text(content, ending.lower() if dot else "")


def _of_ole(content: bytes) -> str:
    """Office's older files, which nobody reads here, and a newer one with a password, which stands inside of such."""
    if "EncryptedPackage".encode("utf-16-le") in content:
        return "encrypted"
    return "macros" if "_VBA_PROJECT".encode("utf-16-le") in content else "unsupported"


def _of_text(content: bytes, ending: str) -> Format:
    if _HTML.match(content[:4096]):
        return "html"
    named = _BY_NAME.get(ending, "text")
    if named == "html":
        return "html" if _HTML_TAG.search(content[:65536]) or b"\x00" in content[:64] else "text"
    if named == "mail" or (named == "text" and ending in ("", "msg", "txt")):
        return "mail" if _is_mail(content[:4096]) else "text"
    return named


def _is_mail(head: bytes) -> bool:
    """Whether its first lines are the fields of a message."""
    fields: list[bytes] = []
    for line in head.lstrip().splitlines():
        if not line.strip():
            break
        if match := _FIELD.match(line):
            fields.append(match.group().lower())
        elif not line[:1].isspace():
            return False
    return len(fields) >= 3 and not _MAIL_NEEDS.isdisjoint(fields)
