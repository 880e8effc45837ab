"""Which passages say what an answer says.

A sentence rests on a passage when the sentence of it that is most like it holds most of its words and all of its numbers;
otherwise, or when it says nothing, nothing is claimed. That is a check of words, not of meaning: it can miss a support in
other words, and a sentence that turns the passage's meaning round in the same words passes. docs/knowledge.md has figures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from knowledge.answers.sentences import Sentence, sentences_of
from knowledge.retrieval.terms import asked_terms, normalise

# Of a sentence's words, the share that a passage must hold, and the share that one sentence of it must hold to be shown.
ENOUGH = 0.6
_EXACT = 0.5
_FEWEST_TERMS = 3  # Shorter ones, as "Yes." and headings, are not judged.
_CITED = re.compile(r"\s*\[\d{1,2}\]")
_MARKUP = re.compile(r"[*_`#>|]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Support:
    """A sentence of an answer: characters [start, end) of it. passages: numbers, from 1, of those that say it.

    spans: of each of them, the characters of its text that say it best; None when that cannot be told.
    """

    start: int
    end: int
    passages: tuple[int, ...]
    spans: tuple[tuple[int, int] | None, ...]

    @property
    def is_supported(self) -> bool:
        return bool(self.passages)


def support_of(answer: str, passages: Sequence[str]) -> list[Support]:
    """Of every sentence of the answer that says enough to be judged. passages: their texts, in their order."""
    texts = [_Passage(text) for text in passages]
    found = []
    for sentence in sentences_of(answer):
        plain = _MARKUP.sub(" ", _CITED.sub("", sentence.text))
        terms = set(asked_terms(plain))
        if len(terms) < _FEWEST_TERMS:
            continue
        numbers = set(_NUMBER.findall(normalise(plain)))
        held = [(passage.share(terms, numbers), number) for number, passage in enumerate(texts, start=1)]
        best = sorted((-share, number) for share, number in held if share >= ENOUGH)[:2]
        # A second passage counts only if it says it as well as the first.
        chosen = [number for share, number in best if share <= best[0][0] * 0.9]
        spans = tuple(texts[number - 1].span(terms) for number in chosen)
        found.append(Support(sentence.start, sentence.end, tuple(chosen), spans))
    return found


class _Passage:
    def __init__(self, text: str) -> None:
        self._terms = set(asked_terms(text))
        self._numbers = set(_NUMBER.findall(normalise(text)))
        self._sentences: list[tuple[Sentence, set[str]]] = [
            (each, set(asked_terms(each.text))) for each in sentences_of(text)
        ]

    def share(self, terms: set[str], numbers: set[str]) -> float:
        """Of the terms, those that it holds; 0 when a number is missing."""
        return len(terms & self._terms) / len(terms) if numbers <= self._numbers else 0.0

    def span(self, terms: set[str]) -> tuple[int, int] | None:
        best, share = None, 0.0
        for sentence, held in self._sentences:
            if (of := len(terms & held) / len(terms)) > share:
                best, share = sentence, of
        return (best.start, best.end) if best and share >= _EXACT else None
