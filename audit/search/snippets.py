"""Where the words that were searched for stand in a record: short pieces of its text with the matches marked."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from audit.search import tokens
from audit.search.query import Phrase, Prefix, Text, Word

MOST_SNIPPETS = 3
BEFORE, AROUND = 60, 200  # Characters before the first match, and in all.
ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of text. field: input, output, reasoning, tool_call, passage, attachment or detail.

    parts: (text, whether it is what was searched for), in order.
    """

    field: str
    parts: list[tuple[str, bool]]


def snippets(texts: Iterable[Text], terms: Iterable[Word | Prefix | Phrase]) -> list[Snippet]:
    """The first matches of terms in the texts; a text in which another term stands goes before one with the same."""
    wanted = list(dict.fromkeys(terms))
    found: list[Snippet] = []
    unseen = set(wanted)
    later: list[tuple[Text, list[tuple[int, int]]]] = []
    for text in texts:
        here = {term for term in wanted if text.has(term)}
        if not here:
            continue
        places = sorted({place for term in here for place in text.places(term)})
        if here & unseen:
            unseen -= here
            found.append(_snippet(text, places))
        else:
            later.append((text, places))
        if len(found) == MOST_SNIPPETS:
            break
    return found + [_snippet(*each) for each in later[: MOST_SNIPPETS - len(found)]]


def beginning(texts: Iterable[Text]) -> list[Snippet]:
    """How a record begins, when no words were searched for."""
    for text in texts:
        if said := text.original[:AROUND].strip():
            more = ELLIPSIS if len(text.original) > AROUND else ""
            return [Snippet(text.field, [(said + more, False)])]
    return []


def marked(original: str, terms: Iterable[Word | Prefix | Phrase]) -> list[tuple[str, bool]]:
    """A whole text as parts: (text, whether it is what was searched for). Together they are the text as it is."""
    text = Text("", original)
    places = sorted({place for term in terms for place in text.places(term)})
    shown, starts = tokens.places(original)
    if not places or shown != original:
        return [(original, False)]
    parts, at = [], 0
    for start, end in _apart((starts[start], _end(starts, end)) for start, end in places):
        parts += [(original[at:start], False), (original[start:end], True)]
        at = end
    return [part for part in (*parts, (original[at:], False)) if part[0]]


def _snippet(text: Text, places: list[tuple[int, int]]) -> Snippet:
    shown, starts = tokens.places(text.original)
    marks = _apart((starts[start], _end(starts, end)) for start, end in places)
    first = max(0, marks[0][0] - BEFORE)
    if first:
        first = _word_start(shown, first, marks[0][0])
    last = min(len(shown), max(first + AROUND, marks[0][1]))
    parts = [(ELLIPSIS, False)] if first else []
    at = first
    for start, end in marks:
        if start >= last:
            break
        end = min(end, last)
        parts += [(shown[at:start], False), (shown[start:end], True)]
        at = end
    parts.append((shown[at:last] + (ELLIPSIS if last < len(shown) else ""), False))
    return Snippet(text.field, [(_clean(said), is_match) for said, is_match in parts if said])


def _end(starts: list[int], end: int) -> int:
    """Behind the last character of a match: where the next character of the shown text begins."""
    return starts[bisect_right(starts, starts[end - 1])]


def _apart(marks: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Marks in order, those that touch made one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(marks):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _word_start(shown: str, first: int, match: int) -> int:
    """Behind the first space, so that a snippet begins with a whole word where words are written apart."""
    space = shown.find(" ", first, min(first + 20, match))
    return space + 1 if space >= 0 else first


def _clean(text: str) -> str:
    """Lone surrogates cannot be shown."""
    return text.encode(errors="replace").decode() if not text.isascii() else text
