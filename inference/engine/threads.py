"""How many threads compute a step: learned from how long steps take, for each size of step apart.

On a machine of its own every core helps. With a neighbour on one of the cores, threads that must meet
hundreds of times a step wait for the one that is not running, and a single one is many times faster. Nobody
tells us which it is, and it changes, so the steps themselves are timed.
"""

from __future__ import annotations

_WEIGHT = 0.3  # Of the newest step in the moving average.
_RETRY_STEPS = 48  # Until another number is tried again; doubled each time it was clearly worse.
_LONGEST_RETRY = 768
_CLEARLY = 1.15
_TRIAL_STEPS = 3
_HOPELESS = 1.5  # So many times as long as the best, and the trial ends: somebody waits for each step.


class _Choice:
    """One number of threads, for one size of step."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.seconds = 0.0  # Of a step, lately; 0: never tried.
        self.retry = _RETRY_STEPS
        self.wait = 0  # Steps until it is tried again.


class _Size:
    """What is known about steps of one size."""

    def __init__(self, numbers: list[int]) -> None:
        self._choices = [_Choice(number) for number in numbers]
        self._current = self._choices[0]
        self._trial: list[float] = []  # Seconds of the steps of a trial, while there is one.

    @property
    def _best(self) -> _Choice:
        return min(self._choices, key=lambda choice: choice.seconds)

    def choose(self) -> int:
        if not self._trial:
            # An untried one has no seconds, so it is the best until it was tried.
            self._current = best = self._best
            for choice in self._choices:
                if choice is not best and best.seconds:
                    choice.wait -= 1
                    if choice.wait < 0:
                        self._current = choice
        return self._current.number

    def observe(self, seconds: float) -> None:
        choice = self._current
        if choice is not self._best or not choice.seconds:
            self._try(choice, seconds)
            return
        # A step that takes twice as long is how a neighbour makes itself felt: believed at once.
        weight = 1.0 if seconds > 2 * choice.seconds else _WEIGHT
        choice.seconds += weight * (seconds - choice.seconds)

    def _try(self, choice: _Choice, seconds: float) -> None:
        """A few steps, of which the quickest counts: the first also pays for the change."""
        self._trial.append(seconds)
        hopeless = 0 < _HOPELESS * self._best.seconds < seconds
        if len(self._trial) < _TRIAL_STEPS and not hopeless:
            return
        choice.seconds, self._trial = min(self._trial), []
        worse = choice.seconds > _CLEARLY * self._best.seconds > 0
        choice.retry = min(_LONGEST_RETRY, 2 * choice.retry) if worse else _RETRY_STEPS
        choice.wait = choice.retry


class Threads:
    """`choose`, compute the step, `observe` its seconds; in turn. `most` is how many cores there are to use."""

    def __init__(self, most: int) -> None:
        self._numbers = sorted({1, most}, reverse=True)
        self._sizes: dict[int, _Size] = {}
        self._now = _Size(self._numbers)

    def choose(self, num_tokens: int) -> int:
        """For a step of `num_tokens`; steps of the same order of magnitude share what was learned."""
        self._now = self._sizes.setdefault(num_tokens.bit_length(), _Size(self._numbers))
        return self._now.choose()

    def observe(self, seconds: float) -> None:
        """The step just chosen for took `seconds`."""
        self._now.observe(seconds)
