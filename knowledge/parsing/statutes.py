"""How Chinese statutes are laid out: parts, chapters and sections are headings, an article begins a paragraph."""

from __future__ import annotations

import re

_NUMBER = "[一二三四五六七八九十百千零〇两0-9０-９]{1,12}"
_HEADING = re.compile(rf"[#*\s　]*第{_NUMBER}([编章节])(?:[\s　]\s*\S.{{0,60}}|[^\s，。；、]{{0,30}})?\s*$")
_ARTICLE = re.compile(rf"[#*\s　]*第{_NUMBER}条(?:之{_NUMBER})?[*\s　【（]")
_LEVELS = {"编": 1, "章": 2, "节": 3}


def heading_level(line: str) -> int:
    """1 to 3; 0 for no such heading."""
    match = _HEADING.match(line) if "第" in line else None
    return _LEVELS[match.group(1)] if match else 0


def begins_article(line: str) -> bool:
    return "第" in line[:12] and _ARTICLE.match(line) is not None
