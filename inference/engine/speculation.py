"""Drafts: guesses at the next tokens, which one pass of the model checks all at once.

They come from what was said before (`lookup`), and where that knows nothing from the model's own
first layers (`early_exit`). Wrong guesses cost time, never correctness: see `sampler.verify_rows`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence as Many
from time import perf_counter
from typing import Protocol

from inference.engine.early_exit import Controller, Plan
from inference.engine.scheduler import Work
from inference.engine.sequence import Sequence

logger = logging.getLogger("custos.inference.engine")

# Rows are nearly free while reading the weights is what takes time, as it does for few sequences.
_MOST_SEQUENCES = 4
_UNKNOWN = 0  # Stands where the first layers will put their guess. Left there, it is one: any token is.


class Drafter(Protocol):
    """What can run the first layers, see `runner.Runner`."""

    @property
    def depths(self) -> tuple[int, ...]: ...
    def draft(self, sequences: Many[Sequence], *, depth: int) -> None: ...


class Tally:
    """Tokens guessed, and those of them that were right; they only grow."""

    def __init__(self) -> None:
        self.num_drafted = 0
        self.num_accepted = 0

    def add(self, *, drafted: int, accepted: int) -> None:
        self.num_drafted += drafted
        self.num_accepted += accepted


class Speculation:
    """Decides who gets drafts, and from where. In each step: `propose`, `draft`, `learn` of each, `observe`.

    `drafter` None: by lookup only.
    """

    def __init__(self, *, enabled: bool, drafter: Drafter | None) -> None:
        self._enabled = enabled
        self._drafter = drafter if drafter and drafter.depths else None
        self._controller = Controller(self._drafter.depths if self._drafter else ())
        self._is_stale = False
        self._plan: Plan | None = None
        self._by_layers: set[Sequence] = set()  # Whose drafts in this step are the first layers'.
        self._draft_seconds = 0.0
        self._num_passes = 0
        self.lookup, self.layers = Tally(), Tally()

    def forget(self) -> None:
        """Measure anew, as the model is computed in another way from now on. Any thread may call this."""
        self._is_stale = True

    def propose(self, running: Many[Sequence]) -> None:
        """Set `draft_ids` of all running sequences, to nothing when there are many."""
        self._by_layers.clear()
        self._num_passes, self._draft_seconds = 0, 0.0
        some = self._enabled and len(running) <= _MOST_SEQUENCES
        for sequence in running:
            wanted = some and sequence.num_completion_tokens > 0
            most = _most(sequence) if wanted else 0
            sequence.draft_ids = sequence.lookup.propose(sequence.token_ids, most) if most > 0 else []
        if some and self._drafter and all(map(_decodes, running)):
            self._propose_layers([s for s in running if not s.draft_ids and _most(s) > 0])

    def _propose_layers(self, sequences: list[Sequence]) -> None:
        """Reserve places for the first layers' guesses, if they are likely to pay."""
        if self._is_stale:
            self._is_stale = False
            self._controller.forget()
        self._plan = self._controller.plan() if sequences else None
        if self._plan:
            self._by_layers.update(sequences)
            for sequence in sequences:
                sequence.draft_ids = [_UNKNOWN] * min(self._plan.num_drafts, _most(sequence))

    def draft(self, work: Many[Work[Sequence]]) -> None:
        """Let the first layers guess, for those planned who have places left for it."""
        items = [item for item in work if item.sequence in self._by_layers and item.num_tokens > 1]
        if not (items and self._plan and self._drafter):
            return
        if not all(_decodes(item.sequence) for item in work):
            # A prompt has come in since: the time of a draft would be taken from it.
            for item in items:
                item.sequence.draft_ids.clear()
                item.num_tokens = 1
            return
        chosen = [item.sequence for item in items]
        started = perf_counter()
        try:
            self._drafter.draft(chosen, depth=self._plan.depth)
        except Exception:
            logger.warning("The first layers cannot guess; going on without.", exc_info=True)
            self._drafter = None
        self._num_passes = max(len(sequence.draft_ids) for sequence in chosen)
        self._draft_seconds = perf_counter() - started

    def learn(self, sequence: Sequence, *, drafted: int, accepted: int) -> None:
        if sequence in self._by_layers:
            self.layers.add(drafted=drafted, accepted=accepted)
            self._controller.learn(drafted=drafted, accepted=accepted)
        else:
            self.lookup.add(drafted=drafted, accepted=accepted)
            sequence.lookup.learn(drafted=drafted, accepted=accepted)

    def observe(self, seconds: float, work: Many[Work[Sequence]]) -> None:
        """A step took so long, drafting included."""
        widest = max(item.num_tokens for item in work)
        if widest != self._num_passes + 1 or len(work) > _MOST_SEQUENCES:
            return  # Also a prompt, or drafts by lookup: it says nothing of the first layers' drafts.
        self._controller.observe(
            seconds=seconds - self._draft_seconds,
            draft_seconds=self._draft_seconds / max(1, self._num_passes),
            num_drafts=self._num_passes,
        )


def _most(sequence: Sequence) -> int:
    """How many drafts could be of use: the last token of an answer comes without."""
    return sequence.request.sampling.max_tokens - sequence.num_completion_tokens - 1


def _decodes(sequence: Sequence) -> bool:
    return sequence.num_tokens - sequence.num_computed_tokens == 1
