"""Prompt lookup: the next tokens guessed from what followed the same tokens before.

Answers quote: passages of a document, names, code, what was said already. So a draft is what followed
the last time the same few tokens stood in the prompt or the answer (Saxena 2023; Yang et al.,
"Inference with Reference", 2023). How far to guess, and whether at all, follows what was accepted lately.
"""

from __future__ import annotations

_MATCH = (4, 3, 2)  # How many tokens must have stood there before; the longest match is believed first.
_MOST_DRAFTS = 12
_LONGEST_PAUSE = 64  # Steps without drafts after guesses kept failing.


class Lookup:
    """Where each run of tokens last stood in one sequence, and how guessing has gone in it."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, ...], int] = {}  # Run of tokens -> where its successor stands.
        self._num_seen = 0
        self._num_drafts = 4
        self._pause = 0
        self._next_pause = 2

    def propose(self, tokens: list[int], most: int) -> list[int]:
        """Up to `most` tokens that may come next; often none."""
        self._index(tokens)
        if self._pause:
            self._pause -= 1
            return []
        for length in _MATCH:
            place = self._seen.get(tuple(tokens[-length:]))
            if place is not None:
                # Where what followed reaches the present, it is taken to repeat itself.
                period = len(tokens) - place
                return [tokens[place + n % period] for n in range(min(self._num_drafts, most))]
        return []

    def learn(self, *, drafted: int, accepted: int) -> None:
        if accepted == drafted:
            self._num_drafts = min(_MOST_DRAFTS, 2 * self._num_drafts)
            self._next_pause = 2
        elif accepted:
            self._num_drafts = max(2, accepted + 1)
            self._next_pause = 2
        else:
            self._num_drafts = 2
            self._pause = self._next_pause
            self._next_pause = min(_LONGEST_PAUSE, 2 * self._next_pause)

    def _index(self, tokens: list[int]) -> None:
        """Note every run that has a successor by now."""
        for end in range(self._num_seen, len(tokens)):
            for length in _MATCH:
                if end >= length:
                    self._seen[tuple(tokens[end - length : end])] = end
        self._num_seen = len(tokens)
