"""Decides who runs: a bounded line of waiting requests and a bounded set of running ones."""

from __future__ import annotations

from collections import deque

from inference.engine.errors import QueueFull
from inference.engine.sequence import Sequence


class Scheduler:
    """First come, first served. Not thread-safe: the engine guards it with its lock."""

    def __init__(self, *, max_running: int, max_waiting: int, prefill_tokens: int) -> None:
        self.max_running = max_running
        self.max_waiting = max_waiting
        self.prefill_tokens = prefill_tokens  # The most prompt tokens computed in one step.
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._seconds_per_request = 1.0  # Moving average, for Retry-After.

    def add(self, sequence: Sequence) -> None:
        """Raises QueueFull when the free places and the waiting line are all taken."""
        if len(self.waiting) + len(self.running) >= self.max_running + self.max_waiting:
            raise QueueFull(self.retry_after())
        self.waiting.append(sequence)

    def retry_after(self) -> int:
        """Seconds, 1 to 60, until about one place should be free."""
        return round(min(60.0, max(1.0, self._seconds_per_request / self.max_running)))

    def admit(self) -> list[Sequence]:
        """Move waiting requests into free places; returns those moved."""
        admitted = []
        while self.waiting and len(self.running) < self.max_running:
            admitted.append(self.waiting.popleft())
            self.running.append(admitted[-1])
        return admitted

    def prefill_chunks(self) -> list[tuple[Sequence, int]]:
        """Whose prompt to compute in this step, and how many tokens of it.

        Capped, so that a long prompt delays everybody's next token by one chunk at most.
        """
        budget, chunks = self.prefill_tokens, []
        for sequence in self.running:
            missing = sequence.num_tokens - sequence.num_computed_tokens
            is_prompt = sequence.num_completion_tokens == 0
            if is_prompt and budget > 0:
                chunks.append((sequence, min(missing, budget)))
                budget -= chunks[-1][1]
        return chunks

    def remove_cancelled(self) -> list[Sequence]:
        gone = [s for s in (*self.waiting, *self.running) if s.cancelled]
        if gone:
            self.waiting = deque(s for s in self.waiting if not s.cancelled)
            self.running = [s for s in self.running if not s.cancelled]
        return gone

    def remove(self, sequence: Sequence, *, seconds: float) -> None:
        """A request ended after `seconds` in the engine; no matter if it is gone already."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._seconds_per_request += 0.1 * (seconds - self._seconds_per_request)

    def remove_all(self) -> list[Sequence]:
        everyone = [*self.waiting, *self.running]
        self.waiting.clear()
        self.running.clear()
        return everyone

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.running
