"""Drafts: guesses at the next tokens, which one pass of the model checks all at once.

Wrong guesses cost time, never correctness: see `sampler.verify_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

from inference.engine.sequence import Sequence

# Rows are nearly free while reading the weights is what takes time, as it does for few sequences.
_MOST_SEQUENCES = 4


class Speculation:
    """Decides who gets drafts. Counts are in tokens and only grow."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self.num_drafted = 0
        self.num_accepted = 0

    def propose(self, running: Many[Sequence]) -> None:
        """Set `draft_ids` of all running sequences, to nothing when there are many."""
        some = self._enabled and len(running) <= _MOST_SEQUENCES
        for sequence in running:
            missing = sequence.request.sampling.max_tokens - sequence.num_completion_tokens
            wanted = some and missing > 1 and sequence.num_completion_tokens > 0
            sequence.draft_ids = sequence.lookup.propose(sequence.token_ids, missing - 1) if wanted else []

    def learn(self, sequence: Sequence, *, drafted: int, accepted: int) -> None:
        self.num_drafted += drafted
        self.num_accepted += accepted
        sequence.lookup.learn(drafted=drafted, accepted=accepted)
