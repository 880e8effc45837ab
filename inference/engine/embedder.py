"""Texts to unit vectors: a small encoder in a thread of its own, which batches whoever waits."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from typing import Any

import numpy as np
import torch

from inference.engine.errors import (
    EngineError,
    EngineStopped,
    InvalidPrompt,
    OutOfMemory,
    QueueFull,
    StepFailed,
)
from inference.engine.memory import is_out_of_memory

logger = logging.getLogger("custos.inference.engine")

# Tokens of one forward pass, padding included. Large enough for full speed, small enough that a
# short text behind a long batch waits for a fraction of a second.
MAX_BATCH_TOKENS = 2048
# Tokens of all requests in line: the largest request (256 texts of 512 tokens) and a little more.
MAX_WAITING_TOKENS = 150_000
# Texts of one batch may differ in length by this factor: padding wastes at most half of it.
_LENGTH_RATIO = 2

Vectors = np.ndarray  # (texts, dimensions), float32, each row of length 1


class _Job:
    """One request's texts. `left` holds the indices not yet computed, the shortest first."""

    def __init__(self, inputs: list[list[int]]) -> None:
        self.inputs = inputs
        self.left = sorted(range(len(inputs)), key=lambda index: len(inputs[index]))
        self.rows: list[np.ndarray | None] = [None] * len(inputs)
        self.num_missing = len(inputs)
        self.future: Future[Vectors] = Future()

    @property
    def longest(self) -> int:
        return len(self.inputs[self.left[-1]])

    def put(self, index: int, row: np.ndarray) -> None:
        self.rows[index] = row
        self.num_missing -= 1
        if not self.num_missing:
            _settle(self.future, np.stack([row for row in self.rows if row is not None]))


def _settle(future: Future[Vectors], outcome: Vectors | EngineError) -> None:
    try:
        if isinstance(outcome, EngineError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    except InvalidStateError:  # Cancelled: nobody is left to read it.
        pass


class Embedder:
    """Mean-pooled, normalised vectors, as sentence-transformers' MiniLM models define them."""

    def __init__(self, model: Any) -> None:
        self.max_tokens = int(model.config.max_position_embeddings)
        self._model = model
        self._vocabulary = int(model.config.vocab_size)
        self._jobs: deque[_Job] = deque()
        self._waiting_tokens = 0
        self._tokens_per_second = 1000.0  # Measured as it runs; only tells refused callers when to return.
        self._closing = False
        self._changed = threading.Condition()  # Guards all of the above.
        self._thread = threading.Thread(target=self._run, name="embedder", daemon=True)
        self._thread.start()

    def submit(self, inputs: list[list[int]]) -> Future[Vectors]:
        """Vectors of texts given as token ids, each 1 to `max_tokens` long; cancel the future to give up.

        Raises InvalidPrompt, QueueFull or EngineStopped; the future fails with an EngineError.
        """
        for ids in inputs:
            if not 1 <= len(ids) <= self.max_tokens:
                raise InvalidPrompt(f"Each text must have 1 to {self.max_tokens} tokens.")
            if min(ids) < 0 or max(ids) >= self._vocabulary:
                raise InvalidPrompt(f"Token ids must be 0 to {self._vocabulary - 1}.")
        num_tokens = sum(map(len, inputs))
        with self._changed:
            if self._closing:
                raise EngineStopped
            self._drop_done()
            if self._jobs and self._waiting_tokens + num_tokens > MAX_WAITING_TOKENS:
                raise QueueFull(min(60, math.ceil(self._waiting_tokens / self._tokens_per_second)))
            job = _Job(inputs)
            self._jobs.append(job)
            self._waiting_tokens += num_tokens
            self._changed.notify()
        return job.future

    def close(self, timeout: float = 3.0) -> None:
        """Fail whoever waits with EngineStopped and stop the thread. Blocks up to `timeout` seconds."""
        with self._changed:
            self._closing = True
            for job in self._jobs:
                _settle(job.future, EngineStopped())
            self._jobs.clear()
            self._changed.notify()
        self._thread.join(timeout)

    # --- The embedder's thread --------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._jobs)
                if self._closing:
                    return
                self._drop_done()
                batch = self._next_batch()
            if batch:
                self._serve(batch)

    def _drop_done(self) -> None:
        """Forget requests that were cancelled, or failed in an earlier batch."""
        for job in [job for job in self._jobs if job.future.done()]:
            self._jobs.remove(job)
            self._waiting_tokens -= sum(len(job.inputs[index]) for index in job.left)

    def _next_batch(self) -> list[tuple[_Job, int]]:
        """(job, index) of texts of similar length: the first job's longest, then the others in turn.

        The job served first goes to the back, so that a large request does not hold up a small one.
        """
        batch: list[tuple[_Job, int]] = []
        width = self._jobs[0].longest if self._jobs else 0
        for job in self._jobs:
            while job.left and width >= job.longest >= width / _LENGTH_RATIO:
                if (len(batch) + 1) * width > max(width, MAX_BATCH_TOKENS):
                    break
                batch.append((job, job.left.pop()))
        self._jobs.rotate(-1)
        self._jobs = deque(job for job in self._jobs if job.left)
        self._waiting_tokens -= sum(len(job.inputs[index]) for job, index in batch)
        return batch

    def _serve(self, batch: list[tuple[_Job, int]]) -> None:
        """Compute a batch and hand out its rows. A failure is that of the batch's requests alone."""
        started = time.monotonic()
        inputs = [job.inputs[index] for job, index in batch]
        try:
            rows = self._compute(inputs)
        except Exception as error:
            failure = self._failure(error)
            for job, _ in batch:
                _settle(job.future, failure)
            return
        seconds = time.monotonic() - started
        self._tokens_per_second += 0.2 * (sum(map(len, inputs)) / seconds - self._tokens_per_second)
        for (job, index), row in zip(batch, rows, strict=True):
            job.put(index, row)

    @staticmethod
    def _failure(error: Exception) -> EngineError:
        if is_out_of_memory(error):
            logger.warning("A batch of texts to embed ran out of memory.")
            return OutOfMemory()
        logger.error("A batch of texts could not be embedded.", exc_info=error)
        return StepFailed("The embedding model failed on this request; try again.")

    @torch.inference_mode()
    def _compute(self, inputs: list[list[int]]) -> Vectors:
        """(texts) token ids → (texts, dimensions)."""
        width = max(map(len, inputs))
        ids = torch.zeros(len(inputs), width, dtype=torch.long)
        mask = torch.zeros(len(inputs), width, dtype=torch.long)
        for row, tokens in enumerate(inputs):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        ids, mask = ids.to(self._model.device), mask.to(self._model.device)
        states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)  # (texts, width, 1): padding counts for nothing.
        means = (states * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(means, dim=-1).float().cpu().numpy()
