"""From token ids to text that may be shown: whole characters, and nothing past a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_REPLACEMENT = "\ufffd"  # What a decoder gives for bytes that are not (yet) a character.

# Tokens that wait to be shown are decoded again with each that comes, so their number is bounded: any request can
# ask for nothing but control tokens, or bytes that are never a character (which has at most four).
_MOST_INVISIBLE = 16
_MOST_WAITING = 64


class Detokenizer:
    """Decodes token by token, holding back bytes that do not make a whole character yet.

    The window is the one `tokenizers.DecodeStream` uses: decode from a little before the new
    token, so that decoders which look at their neighbours (spaces, byte fallback) agree with
    decoding everything at once.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer  # A `tokenizers.Tokenizer`.
        self._ids: list[int] = []  # From the start of the window on.
        self._shown = 0  # How many of `_ids` have had their text returned.

    def push(self, token: int) -> str:
        """The text that `token` completes; "" while a character is unfinished."""
        self._ids.append(token)
        before = self._decode(self._ids[: self._shown])
        after = self._decode(self._ids)
        num_waiting = len(self._ids) - self._shown
        if len(after) <= len(before):
            if num_waiting >= _MOST_INVISIBLE:  # Control tokens, of which no text ever comes.
                del self._ids[self._shown :]
            return ""
        if after.endswith(_REPLACEMENT) and num_waiting < _MOST_WAITING:
            return ""
        self._ids = self._ids[self._shown :]
        self._shown = len(self._ids)
        return after[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


class StopStrings:
    """Watches text go by for stop strings, holding back what could yet become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """(text that may be shown, whether a stop string was completed)."""
        self._held += text
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            # The one completed first, so that the answer does not depend on where tokens split.
            _, at = min(found)
            shown, self._held = self._held[:at], ""
            return shown, True
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown, False

    def flush(self) -> str:
        """What was held back, once no more text can come."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
