"""Whether passages hold an answer at all.

Two signs: how much of what is asked stands in one passage, and how near it lies to the question in meaning. They are told
against questions of other documents in docs/benchmarks.md, where the default threshold is from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

# Of MiniLM and its kin: what has nothing to do with a question still comes to the first, what answers it to the second.
_FAR, _NEAR = 0.25, 0.75


class Found(Protocol):
    """What is known of how a passage was found."""

    @property
    def coverage(self) -> float: ...
    @property
    def cosine(self) -> float | None: ...


def confidence_of(found: Sequence[Found]) -> float:
    """From 0 to 1: that one of these passages answers the question."""
    return max((max(each.coverage, _meant(each.cosine)) for each in found), default=0.0)


def _meant(cosine: float | None) -> float:
    return 0.0 if cosine is None else min(max((cosine - _FAR) / (_NEAR - _FAR), 0.0), 1.0)
