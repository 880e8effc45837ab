"""How many prompt tokens a step may compute while others wait for their next token."""

from __future__ import annotations

# A step with prompt tokens may take this many times as long as one without: whoever reads along
# notices a longer pause.
_PATIENCE = 2.5
_FEWEST = 16  # Fewer would starve prompts, and cost hardly less: reading the weights is the same.
_WEIGHT = 0.2  # Of the newest observation in the moving averages.


class Pace:
    """Learns from each step's time. `most` is the bound when nobody decodes."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self.forget()

    def forget(self) -> None:
        """Start anew, as when the model is computed in another way from now on."""
        self._decode_seconds = 0.0
        self._token_seconds = 0.0

    @property
    def prefill_tokens(self) -> int:
        if not (self._decode_seconds and self._token_seconds):
            return min(2 * _FEWEST, self._most)
        allowed = (_PATIENCE - 1) * self._decode_seconds / self._token_seconds
        return int(max(min(_FEWEST, self._most), min(self._most, allowed)))

    def observe(self, seconds: float, *, num_tokens: int, num_decodes: int) -> None:
        """A step of `num_tokens` tokens, those of `num_decodes` sequences being single ones."""
        num_prefilled = num_tokens - num_decodes
        if not num_prefilled:
            self._decode_seconds = _average(self._decode_seconds, seconds)
        elif num_prefilled >= _FEWEST:
            extra = max(seconds - (self._decode_seconds if num_decodes else 0.0), seconds / 10)
            self._token_seconds = _average(self._token_seconds, extra / num_prefilled)


def _average(average: float, value: float) -> float:
    return average + _WEIGHT * (value - average) if average else value
