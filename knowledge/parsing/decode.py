"""Bytes to letters: what the file says itself, then UTF-8, UTF-16, GB18030, then what its bytes look like."""

from __future__ import annotations

import codecs
import re

from knowledge.parsing.parsed import Refused

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MOST_CONTROL = 0.002  # Of the characters; a stray one is no sign that this is no text.
_PAIR = re.compile(rb"[\xb0-\xf7][\xa1-\xfe]|[\xa1-\xa9][\xa1-\xfe]")
_USUAL = re.compile("[\t\r\n\x20-\x7e\u2010-\u2027\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
_USUAL_FROM = 0.95
_HIGH = re.compile(rb"[\x80-\xff]")
_GB_FROM = (
    0.9  # Of the bytes that are no ASCII, the share in pairs as GB 2312 has them; Big5 comes to about 0.6.
)
_LATIN_MOST = 0.15  # Of the bytes: European texts are letters without accents for the most part.
_SAMPLE = 1 << 20


def decoded(content: bytes, declared: str = "") -> str:
    """The text, its lines ended by \\n. declared: what the file says of itself. Raises Refused("unsupported")."""
    encoding = _encoding_of(content, declared)
    try:
        text = content.decode(encoding).lstrip("\ufeff")
    except (UnicodeDecodeError, LookupError):
        raise Refused("unsupported") from None
    if len(_CONTROL.findall(text)) > len(text) * _MOST_CONTROL:
        raise Refused("unsupported")
    text = _CONTROL.sub(" ", text)  # One for one: PostgreSQL takes no \x00, and nobody reads the others.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _encoding_of(content: bytes, declared: str) -> str:
    for mark, name in _MARKS:
        if content.startswith(mark):
            return name
    if b"\x00" in content[:_SAMPLE]:
        return _utf_16(content)
    for name in filter(None, (_known(declared), "utf-8")):
        try:
            content.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    if _looks_like_gb(content[:_SAMPLE]):
        return "gb18030"
    if len(_HIGH.findall(content[:_SAMPLE])) < _LATIN_MOST * len(content[:_SAMPLE]):
        return "cp1252"
    return _guessed(content)


def _known(declared: str) -> str:
    """The name of Python for it; GB 2312 is said where GB 18030 is meant."""
    try:
        name = codecs.lookup(declared.strip()).name
    except LookupError:
        return ""
    return "gb18030" if name in ("gb2312", "gbk") else name


def _utf_16(content: bytes) -> str:
    """Without a mark: the order of bytes by which it is letters that people use."""
    sample = content[:_SAMPLE]
    for name in ("utf-16-le", "utf-16-be"):
        text = sample[: len(sample) // 2 * 2].decode(name, "replace")
        if len(_USUAL.findall(text)) > _USUAL_FROM * len(text):
            return name
    raise Refused("unsupported")


def _looks_like_gb(sample: bytes) -> bool:
    paired = sum(len(match) for match in _PAIR.findall(sample))
    return paired >= _GB_FROM * len(_HIGH.findall(sample))


def _guessed(content: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(content[:_SAMPLE]).best()
    if best is None:
        raise Refused("unsupported")
    return best.encoding
