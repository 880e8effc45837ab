"""Self-speculation: the model's own first layers, its last norm and its head guess the next tokens.

Easy text is settled early: stopping after a few layers often gives the token that all of them would
(Schuster et al. 2022; Zhang et al., "Draft & Verify", 2023; Elhoushi et al., "LayerSkip", 2024).
There is no second model to load and no second cache: a draft writes the keys and values of the layers
it ran, and the pass that checks it writes the same again.

Whether that pays, after how many layers, and for how many tokens ahead is measured while serving.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn
from transformers import PreTrainedModel

_SHARES = (0.25, 0.5, 0.75)  # Of the layers, at which a draft may stop.
_MOST_DRAFTS = 8
_TRIAL = 8  # Drafts by which a depth is judged,
_SHORTEST_TRIAL = 3  # or so many if it is hopeless; the first ones find everything cold.
_TRIAL_SHARE = 0.02  # Of the time, at most, goes to trials, the first round aside.
_LONGEST_PAUSE = 4096  # Steps between trials when none has paid for long.
_PLAIN_EVERY = 32  # One step in so many goes without drafts, to know how long that takes.
_WORTH = 1.05  # Drafts must promise so many times the tokens a second.
_RATE_WEIGHT = 1 / 32  # Of the newest observation in the moving averages.
_FASTER_WEIGHT, _SLOWER_WEIGHT = 1 / 2, 1 / 16  # Likewise: what makes a step slow is mostly not its own.


def depths_of(model: PreTrainedModel) -> tuple[int, ...]:
    """After how many layers drafts of `model` may stop, ascending; none if its layers are not to be had."""
    layers = getattr(model.base_model, "layers", None)
    if model.base_model is model or not isinstance(layers, nn.ModuleList):
        return ()
    depths = {max(1, round(share * len(layers))) for share in _SHARES}
    return tuple(sorted(depth for depth in depths if depth < len(layers)))


def short_model(model: PreTrainedModel, depth: int) -> PreTrainedModel:
    """`model` with its first `depth` layers only. Every module and weight in it is the model's own."""
    base: Any = _shallow(model.base_model)
    base.layers = base.layers[:depth]
    short = _shallow(model)
    setattr(short, model.base_model_prefix, base)
    return short


def _shallow(module: Any) -> Any:
    copied = copy.copy(module)
    copied._modules = dict(module._modules)  # Else both would have the same children for ever.
    return copied


class Plan(NamedTuple):
    """Guess `num_drafts` tokens by the first `depth` layers."""

    depth: int
    num_drafts: int


@dataclass(slots=True, eq=False)
class _Exit:
    """One depth, and how it has gone. Pessimistic until tried."""

    depth: int
    rate: float = 0.0  # Drafts that were right, of those whose predecessors were.
    seconds: float = 0.0  # A draft takes.


class Controller:
    """Decides before each step whether to draft, and how. It knows no model and no clock.

    With a draft right at rate a and taking r times as long as a step, k drafts give
    (1 - a^(k+1)) / (1 - a) tokens in the time of 1 + k·r steps. That exceeds 1 only if a > r. Both are
    measured, a at first in a short trial of each depth. What pays best goes on; if nothing does there
    are no drafts until the next trials, ever more rarely as long as they find nothing.
    """

    def __init__(self, depths: Sequence[int]) -> None:
        self._depths = tuple(depths)
        self.forget()

    def forget(self) -> None:
        """Start anew, as when the model is computed in another way from now on."""
        self._exits = [_Exit(depth) for depth in self._depths]
        self._plain = 0.0  # Seconds of a step without drafts; 0: unknown.
        self._row = 0.0  # Seconds that checking a draft adds to a step.
        self._num_steps = 0
        self._current: _Exit | None = None  # Whose drafts are in the step.
        self._trials: list[_Exit] = []  # To be judged in this round, the first of them now.
        self._num_tried = self._num_right = 0
        self._round_cost = 0.0  # In steps.
        self._pause = 0  # Steps until the next round.
        self._last_pause = 0

    def plan(self) -> Plan | None:
        """What to do in the step to come. Call it only when drafts are possible at all."""
        self._current = None
        self._num_steps += 1
        if not self._plain or self._num_steps % _PLAIN_EVERY == 0:
            return None
        best, num_drafts, _ = self._best()
        if not self._trials:
            self._pause -= 1
            if self._pause < 0:
                self._trials = [exit for exit in self._exits if exit is not best]
        if self._trials:
            best, num_drafts = self._trials[0], 1
        self._current = best
        return Plan(best.depth, num_drafts) if best else None

    def learn(self, *, drafted: int, accepted: int) -> None:
        """So many of one sequence's drafts in this step were right."""
        if self._current is None:
            return
        if self._trials:
            self._num_tried += drafted
            self._num_right += accepted
            return
        for right in [1.0] * accepted + [0.0] * (accepted < drafted):
            self._current.rate += _RATE_WEIGHT * (right - self._current.rate)

    def observe(self, *, seconds: float, draft_seconds: float, num_drafts: int) -> None:
        """A step is over. It took `seconds` beside `draft_seconds` for each of `num_drafts` tokens ahead."""
        if not num_drafts:
            self._plain = _average(self._plain, seconds)
        elif self._current is not None:
            self._current.seconds = _average(self._current.seconds, draft_seconds)
            self._row = _average(self._row, max(0.0, seconds - self._plain) / num_drafts)
            if self._trials:
                self._judge(self._current)

    def _judge(self, tried: _Exit) -> None:
        """End the trial when it is long enough, or nothing that may come could make it pay."""
        cost = self._cost(tried)
        self._round_cost += cost + self._best()[2] - 1  # Also what better drafts would have given.
        missing = max(0, _TRIAL - self._num_tried)
        hopeless = self._num_right + missing <= cost * _TRIAL and self._num_tried >= _SHORTEST_TRIAL
        if missing and not hopeless:
            return
        tried.rate = self._num_right / max(1, self._num_tried)
        self._num_tried = self._num_right = 0
        del self._trials[0]
        if not self._trials:
            fruitless = self._best()[0] is None
            shortest = int(self._round_cost / _TRIAL_SHARE)
            self._last_pause = max(shortest, min(_LONGEST_PAUSE, 2 * self._last_pause) if fruitless else 0)
            self._pause, self._round_cost = self._last_pause, 0.0

    def _cost(self, exit: _Exit) -> float:
        """Of a draft, in steps."""
        return (exit.seconds + self._row) / self._plain

    def _best(self) -> tuple[_Exit | None, int, float]:
        """(whose drafts, how many, how many times the tokens a second); (None, 0, 1) if none is worth it."""
        best: tuple[_Exit | None, int, float] = (None, 0, 1.0)
        for exit in self._exits:
            cost, tokens, right = self._cost(exit), 1.0, 1.0
            for count in range(1, _MOST_DRAFTS + 1):
                right *= exit.rate
                tokens += right
                gain = tokens / (1 + count * cost)
                if gain > max(best[2], _WORTH):
                    best = (exit, count, gain)
        return best


def _average(average: float, value: float) -> float:
    weight = _FASTER_WEIGHT if value < average else _SLOWER_WEIGHT
    return average + weight * (value - average) if average else value
