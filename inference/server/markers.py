"""Looking for a marker in text that arrives in pieces."""

from __future__ import annotations


def held_back(text: str, marker: str) -> int:
    """Length of the longest end of `text` that may yet become `marker`; 0 when none can."""
    for length in range(min(len(text), len(marker) - 1), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0
