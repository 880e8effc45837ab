"""From answers to numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.serving.exchange import Answer

PERCENTILES = (50, 95, 99)


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least `percent` % of `values` do not exceed; NaN of nothing.

    By nearest rank: always a value that was measured, and the worst of 20 counts as their p99.
    """
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    return {f"p{percent}": round(percentile(seconds, percent) * 1000, 3) for percent in PERCENTILES}


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a load gave. `client_cpu` is the load generator's processor share, of one core."""

    answers: list[Answer]
    client_cpu: float

    @property
    def good(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.problem]

    def tokens_per_s(self) -> float:
        """Output tokens of all streams together, from the first request to the last answer's end."""
        if not self.good:
            return 0.0
        began, ended = (
            min(answer.asked for answer in self.answers),
            max(answer.ended for answer in self.answers),
        )
        return sum(answer.tokens for answer in self.good) / (ended - began)

    def summary(self) -> dict[str, Any]:
        good = self.good
        problems = [answer.problem for answer in self.answers if answer.problem]
        return {
            "requests": len(self.answers),
            "errors": len(problems),
            "first_error": problems[0] if problems else "",
            "tokens_per_s": round(self.tokens_per_s(), 2),
            "output_tokens": sum(answer.tokens for answer in good),
            "prompt_tokens": sum(answer.prompt_tokens for answer in good),
            "cached_tokens": sum(answer.cached_tokens for answer in good),
            "ttft_ms": spread([answer.ttft for answer in good]),
            "itl_ms": spread([gap for answer in good for gap in answer.gaps]),
            "e2e_ms": spread([answer.ended - answer.asked for answer in good]),
            "client_cpu": round(self.client_cpu, 4),
        }


def median(values: Iterable[float]) -> float:
    """NaN of nothing; values that are NaN do not count."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan
