"""Comparing two shares while looking at them all the time, without being wrong more often for looking.

A confidence sequence is a confidence interval that holds at every moment at once: with a probability of 1 - alpha the true
share never leaves it. For Bernoulli trials it is all p for which the mixture martingale

    M_n(p) = B(s + 1/2, n - s + 1/2) / B(1/2, 1/2) / (p^s (1 - p)^(n - s))

(s successes of n trials, the mixture over Jeffreys' prior) stays below 1 / alpha; M_n is a martingale with mean 1 under p, so
by Ville's inequality it ever reaches 1 / alpha with a probability of alpha at most (H. Robbins, 1970; S. R. Howard, A. Ramdas,
J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", 2021; R. Johari, P. Koomen, L.
Pekelis, D. Walsh, "Always valid inference", 2022). Two such sequences tell two shares apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, lgamma, log, pi

_STEPS = 50  # Halvings: bounds are exact to 1e-15.


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `trials`."""

    hits: int
    trials: int

    @property
    def value(self) -> float | None:
        return self.hits / self.trials if self.trials else None

    def bounds(self, alpha: float) -> tuple[float, float]:
        """The share is between these at every moment, with a probability of 1 - alpha."""
        if not self.trials:
            return 0.0, 1.0
        most = self.hits / self.trials
        low = 0.0 if self.hits == 0 else self._edge(0.0, most, alpha)
        high = 1.0 if self.hits == self.trials else self._edge(1.0, most, alpha)
        return low, high

    def _edge(self, outside: float, inside: float, alpha: float) -> float:
        """Where the martingale reaches 1 / alpha between a p that is refuted and one that is not."""
        limit = -log(alpha)
        for _ in range(_STEPS):
            middle = (outside + inside) / 2
            if self._evidence_against(middle) >= limit:
                outside = middle
            else:
                inside = middle
        return outside

    def _evidence_against(self, p: float) -> float:
        """log M_n(p)."""
        if not 0 < p < 1:
            return inf
        misses = self.trials - self.hits
        mixture = lgamma(self.hits + 0.5) + lgamma(misses + 0.5) - lgamma(self.trials + 1) - log(pi)
        return mixture - self.hits * log(p) - misses * log(1 - p)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The candidate's share against the baseline's, of which it may be `rise` higher."""

    baseline: Share
    candidate: Share
    rise: float
    alpha: float

    @property
    def is_worse(self) -> bool:
        """That it is higher by more than it may is shown. Wrong with a chance of alpha, however often one asks."""
        return self.least_difference > self.rise

    @property
    def is_no_worse(self) -> bool:
        """That it is not higher by more than it may is shown. As above."""
        return self.most_difference < self.rise

    @property
    def least_difference(self) -> float:
        return self._bounds(self.candidate)[0] - self._bounds(self.baseline)[1]

    @property
    def most_difference(self) -> float:
        return self._bounds(self.candidate)[1] - self._bounds(self.baseline)[0]

    def _bounds(self, share: Share) -> tuple[float, float]:
        return share.bounds(self.alpha / 2)  # One half for each of the two.
