"""Separates what a reasoning model thinks (between <think> and </think>) from what it answers.

Imports nothing but `markers`. Works on text as it is generated, however it is cut into pieces.
"""

from __future__ import annotations

from inference.server.markers import held_back

OPEN, CLOSE = "<think>", "</think>"


class ReasoningParser:
    """For one answer. `opened` says that the prompt itself ends inside <think>, as DeepSeek-R1's does.

    Only a <think> that begins the answer counts: one in the midst of it is just text. The line
    breaks right after a tag belong to the tag. Apart from those and the tags no text is ever lost;
    of an answer that never says </think>, all is reasoning.
    """

    def __init__(self, *, opened: bool) -> None:
        self._opened = opened
        self._state = "start"  # Then "thinking", then "answer".
        self._fresh = opened  # Until something follows the last tag.
        self._held = ""

    @property
    def is_thinking(self) -> bool:
        return self._state == "thinking" or (self._state == "start" and self._opened)

    def push(self, text: str) -> tuple[str, str]:
        """(reasoning, answer) that `text` completes."""
        self._held += text
        if self._state == "start":
            self._begin()
        reasoning = self._think() if self._state == "thinking" else ""
        return reasoning, self._take(len(self._held)) if self._state == "answer" else ""

    def finish(self) -> tuple[str, str]:
        """What was held back, once no more text can come."""
        held, self._held = self._held, ""
        return (held, "") if self.is_thinking else ("", held)

    def _begin(self) -> None:
        """Look for <think>, which some models say even though their prompt has opened it."""
        begun = self._held.lstrip()
        if begun.startswith(OPEN):
            self._state, self._fresh, self._held = "thinking", True, begun.removeprefix(OPEN)
        elif not OPEN.startswith(begun):
            self._state = "thinking" if self._opened else "answer"

    def _think(self) -> str:
        thought, tag, rest = self._held.partition(CLOSE)
        if not tag:
            return self._take(len(self._held) - held_back(self._held, CLOSE))
        thought = self._take(len(thought))
        self._state, self._fresh, self._held = "answer", True, rest
        return thought

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        if self._fresh:
            taken = taken.lstrip("\n")
        self._fresh = self._fresh and not taken
        return taken
