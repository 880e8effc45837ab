"""Whether passages hold an answer at all.

Two signs: how much of what is asked stands in one passage, and how near it lies to the question in meaning; the better one
counts. docs/benchmarks.md has how well they tell questions of other documents, and where the default threshold is from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

# Of MiniLM and its kin: what is of the same field still comes to the first, what says the same to the second.
_FAR, _NEAR = 0.5, 0.9
# A Chinese word is asked for as itself and in pairs of characters, so other words for the same thing cover less of it.
_CHINESE = 2.2


class Found(Protocol):
    """What is known of how a passage was found."""

    @property
    def coverage(self) -> float: ...
    @property
    def cosine(self) -> float | None: ...


def confidence_of(found: Sequence[Found], language: str) -> float:
    """From 0 to 1: that one of these passages answers the question. language: the question's."""
    scale = _CHINESE if language == "zh" else 1.0
    return max((max(min(scale * each.coverage, 1.0), _meant(each.cosine)) for each in found), default=0.0)


def _meant(cosine: float | None) -> float:
    return 0.0 if cosine is None else min(max((cosine - _FAR) / (_NEAR - _FAR), 0.0), 1.0)
