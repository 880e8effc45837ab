"""How often a rollout's test errs when it is looked at after every request, and how many requests it needs.

`python -m benchmarks.rollout_tests`: a table for docs/decisions/0023. Requests are drawn, so nothing is started; each line
is a pair of true shares of failures, drawn anew as often as --trials says with a fixed seed. Of five requests the candidate
gets one. Beside it stands what is usually done: a test for two proportions (one-sided, 5 %) with a look after each request.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt

from inference.rollouts.sequential import Comparison, Share

A_CANDIDATE = 4  # Requests to the baseline for each to the candidate: a share of 20 %.
Z = 1.6449  # One-sided, 5 %.

PAIRS = (
    (0.01, 0.01),
    (0.01, 0.06),
    (0.05, 0.10),
    (0.01, 0.15),
    (0.01, 0.30),
    (0.01, 0.60),
    (0.01, 1.00),
    (0.05, 0.30),
)


@dataclass
class Line:
    """What came of one pair in all trials; the numbers count requests to the candidate."""

    worse: list[int] = field(default_factory=list)
    no_worse: list[int] = field(default_factory=list)
    naive: int = 0


def run(
    baseline: float, candidate: float, *, rise: float, alpha: float, most: int, draw: random.Random
) -> tuple[str, int]:
    """The verdict that comes first, and after how many requests to the candidate: "worse", "no_worse" or ""."""

    def look(here: Share, there: Share) -> str:
        found = Comparison(here, there, rise, alpha)
        return "worse" if found.is_worse else "no_worse" if found.is_no_worse else ""

    return _looked_at(baseline, candidate, look, most, draw)


def run_naive(baseline: float, candidate: float, *, rise: float, most: int, draw: random.Random) -> bool:
    """Whether a test made for one look calls the candidate worse at any of many."""

    def look(here: Share, there: Share) -> str:
        if there.trials < 20:
            return ""
        p, q = here.hits / here.trials, there.hits / there.trials
        spread = sqrt(p * (1 - p) / here.trials + q * (1 - q) / there.trials)
        return "worse" if spread and (q - p - rise) / spread > Z else ""

    return _looked_at(baseline, candidate, look, most, draw)[0] == "worse"


def _looked_at(
    baseline: float, candidate: float, look: Callable[[Share, Share], str], most: int, draw: random.Random
) -> tuple[str, int]:
    failed_here = failed_there = 0
    for number in range(1, most + 1):
        failed_here += sum(draw.random() < baseline for _ in range(A_CANDIDATE))
        failed_there += draw.random() < candidate
        verdict = look(Share(failed_here, number * A_CANDIDATE), Share(failed_there, number))
        if verdict:
            return verdict, number
    return "", most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--most", type=int, default=1000, help="requests to the candidate")
    parser.add_argument("--rise", type=float, default=0.05)
    parser.add_argument("--alpha", type=float, default=0.05)
    options = parser.parse_args()
    print(
        f"{options.trials} trials, at most {options.most} requests to the candidate, rise {options.rise:.0%}, alpha {options.alpha:.0%}"
    )
    print(
        "| baseline | candidate | called worse | after (median) | called no worse | after (median) | one-look test, peeked |"
    )
    print("|---|---|---|---|---|---|---|")
    for baseline, candidate in PAIRS:
        line = _line(baseline, candidate, options)
        cells = [f"{baseline:.0%}", f"{candidate:.0%}"]
        for found in (line.worse, line.no_worse):
            cells += [
                f"{len(found) / options.trials:.1%}",
                f"{statistics.median(found):.0f}" if found else "–",
            ]
        print("| " + " | ".join([*cells, f"{line.naive / options.trials:.1%}"]) + " |", flush=True)


def _line(baseline: float, candidate: float, options: argparse.Namespace) -> Line:
    line, draw = Line(), random.Random(20)
    for _ in range(options.trials):
        verdict, after = run(
            baseline, candidate, rise=options.rise, alpha=options.alpha, most=options.most, draw=draw
        )
        if verdict:
            (line.worse if verdict == "worse" else line.no_worse).append(after)
        line.naive += run_naive(baseline, candidate, rise=options.rise, most=options.most, draw=draw)
    return line


if __name__ == "__main__":
    main()
