"""The number of threads follows what steps take."""

from __future__ import annotations

from collections.abc import Callable

from inference.engine.threads import Threads


def run(threads: Threads, steps: int, seconds: Callable[[int], float], num_tokens: int = 1) -> list[int]:
    """Which number each step was computed with, when n threads take `seconds(n)`."""
    numbers = []
    for _ in range(steps):
        numbers.append(threads.choose(num_tokens))
        threads.observe(seconds(numbers[-1]))
    return numbers


def test_all_threads_where_they_help() -> None:
    assert run(Threads(4), 40, lambda n: 0.01 / n).count(4) >= 37


def test_one_thread_where_others_are_in_the_way() -> None:
    assert run(Threads(2), 40, lambda n: 0.2 if n == 2 else 0.01).count(1) >= 37


def test_it_changes_at_once_when_a_neighbour_comes_and_back_some_time_after_it_left() -> None:
    threads = Threads(2)
    run(threads, 100, lambda n: 0.006 if n == 2 else 0.01)
    beside_a_neighbour = run(threads, 100, lambda n: 0.2 if n == 2 else 0.011)
    assert beside_a_neighbour.count(2) <= 4
    afterwards = run(threads, 200, lambda n: 0.006 if n == 2 else 0.01)
    assert afterwards[-40:].count(2) >= 39


def test_trying_what_was_worse_becomes_rare() -> None:
    threads = Threads(2)
    numbers = run(threads, 3000, lambda n: 0.05 if n == 2 else 0.01)
    assert 9 <= numbers.count(2) <= 24


def test_steps_of_different_sizes_learn_apart() -> None:
    threads = Threads(2)
    for _ in range(60):
        run(threads, 1, lambda n: 0.02 if n == 2 else 0.01, num_tokens=1)
        run(threads, 1, lambda n: 0.5 / n, num_tokens=300)
    assert run(threads, 1, lambda n: 0.02 if n == 2 else 0.01, num_tokens=1) == [1]
    assert run(threads, 1, lambda n: 0.5 / n, num_tokens=300) == [2]


def test_a_single_core_has_no_choice() -> None:
    assert set(run(Threads(1), 100, lambda n: 0.01)) == {1}
