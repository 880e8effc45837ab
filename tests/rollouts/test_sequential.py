"""The test that a rollout is judged by: it holds however often one looks, and it sees what is to be seen."""

from __future__ import annotations

import random

import pytest

from benchmarks.rollout_tests import run, run_naive
from inference.rollouts.sequential import Comparison, Share

ALPHA, RISE = 0.05, 0.05


def test_nothing_is_known_of_nothing() -> None:
    assert Share(0, 0).bounds(ALPHA) == (0.0, 1.0)
    assert Share(0, 0).value is None
    found = Comparison(Share(0, 0), Share(0, 0), RISE, ALPHA)
    assert not found.is_worse and not found.is_no_worse


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (1, 1), (0, 300), (300, 300), (7, 40), (1, 100_000)])
def test_bounds_stand_around_what_was_seen(hits: int, trials: int) -> None:
    low, high = Share(hits, trials).bounds(ALPHA)
    assert 0 <= low <= hits / trials <= high <= 1
    # A smaller chance of error is a wider interval, more trials are a narrower one.
    wider = Share(hits, trials).bounds(ALPHA / 10)
    assert wider[0] <= low and high <= wider[1]
    narrower = Share(hits * 10, trials * 10).bounds(ALPHA)
    assert narrower[1] - narrower[0] < high - low


def test_bounds_are_where_the_martingale_reaches_its_limit() -> None:
    """By hand for a single failure: M(p) = B(3/2, 1/2) / B(1/2, 1/2) / p = 1 / (2 p), which is 1 / alpha at alpha / 2."""
    low, high = Share(1, 1).bounds(ALPHA)
    assert low == pytest.approx(ALPHA / 2)
    assert high == 1.0


def test_a_true_share_rarely_leaves_its_bounds_however_often_one_looks() -> None:
    draw, left = random.Random(1), 0
    for _ in range(150):
        hits = 0
        for number in range(1, 201):
            hits += draw.random() < 0.3
            low, high = Share(hits, number).bounds(0.1)
            if not low <= 0.3 <= high:
                left += 1
                break
    assert left <= 15  # 10 % of 150


def test_a_candidate_that_fails_no_more_than_it_may_is_rarely_called_worse() -> None:
    draw = random.Random(2)
    verdicts = [run(0.05, 0.10, rise=RISE, alpha=ALPHA, most=250, draw=draw)[0] for _ in range(60)]
    assert verdicts.count("worse") <= 3
    # A test that is made for one look errs several times as often when one looks all the time.
    naive = [run_naive(0.05, 0.10, rise=RISE, most=250, draw=draw) for _ in range(60)]
    assert sum(naive) > 6


@pytest.mark.parametrize(("candidate", "within"), [(0.3, 120), (0.6, 30), (1.0, 15)])
def test_a_candidate_that_breaks_is_called_worse_soon(candidate: float, within: int) -> None:
    draw = random.Random(3)
    found = [run(0.01, candidate, rise=RISE, alpha=ALPHA, most=within, draw=draw) for _ in range(40)]
    assert sum(verdict == "worse" for verdict, _after in found) >= 32


def test_a_candidate_that_is_as_good_is_found_no_worse() -> None:
    draw = random.Random(4)
    found = [run(0.01, 0.01, rise=RISE, alpha=ALPHA, most=800, draw=draw)[0] for _ in range(20)]
    assert found.count("no_worse") >= 18
    assert "worse" not in found
