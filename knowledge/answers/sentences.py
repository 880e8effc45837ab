"""Text into sentences, in English and Chinese."""

import re
from typing import NamedTuple

# A full stop ends a sentence before a space and a capital, a digit, a bracket or Chinese; not in "e.g. this" or "No. 5".
_END = re.compile(
    r"[。！？；]+[”’」』）)\]]*|[.!?]+[\"')\]”’]*(?=\s+[\"'(\[“‘*]*[A-Z0-9㐀-鿿]|\s*$)|\n+", re.MULTILINE
)
_ABBREVIATED = re.compile(
    r"(?:\b(?:[A-Z]|No|Art|Sec|Mr|Mrs|Ms|Dr|St|vs|cf|etc|e\.g|i\.e|U\.S)|^\s*\d{1,3})\.$"
)


class Sentence(NamedTuple):
    """start and end are characters of the text that was cut, without the space around the sentence."""

    text: str
    start: int
    end: int


def sentences_of(text: str) -> list[Sentence]:
    found: list[Sentence] = []
    start = 0
    for match in _END.finditer(text):
        if _ABBREVIATED.search(text[start : match.end()].rstrip()) and "\n" not in match.group():
            continue
        _keep(found, text, start, match.end())
        start = match.end()
    _keep(found, text, start, len(text))
    return found


def _keep(found: list[Sentence], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    stripped = piece.strip()
    if stripped:
        begin = start + piece.index(stripped[0])
        found.append(Sentence(stripped, begin, begin + len(stripped)))
