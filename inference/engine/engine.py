"""The engine: submit a request, get a stream. One thread steps the model for all of them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from inference.engine.errors import (
    ContextLengthExceeded,
    EngineError,
    EngineStopped,
    InvalidPrompt,
    OutOfMemory,
    StepFailed,
)
from inference.engine.request import Request
from inference.engine.runner import Runner
from inference.engine.scheduler import Scheduler
from inference.engine.sequence import Sequence
from inference.engine.stream import Stream

logger = logging.getLogger("custos.inference.engine")


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_context` and `prefill_tokens` are in tokens, the others in requests."""

    max_context: int
    max_running: int = 16
    max_waiting: int = 64
    prefill_tokens: int = 512


def fitting_requests(model: Any, max_context: int) -> int:
    """How many requests of full length have room for their keys and values in half the free memory.

    Twice what they hold is reckoned with: a step keeps the old cache until the new one is complete.
    """
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize  # keys and values
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
    else:
        free = psutil.virtual_memory().available
    return max(1, int(free // 2 // (2 * per_token * max_context)))


@dataclass(frozen=True, slots=True)
class Stats:
    """A moment's view. `num_cached_tokens` is 0 when idle; `seconds_since_step` is 0 then, too.

    Prefix, draft and preemption counts only grow; `prefix_*`, `draft_tokens` and `accepted_tokens`
    are in tokens. `graph` is "eager" or "compiled", `precision` that of the weights.
    """

    running: int
    waiting: int
    max_running: int
    max_waiting: int
    num_cached_tokens: int
    steps: int
    seconds_since_step: float
    alive: bool
    kv_blocks_total: int = 0
    kv_blocks_used: int = 0
    kv_blocks_cached: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    graph: str = "eager"
    precision: str = ""


class Engine:
    """Owns the model from now on.

    `on_step(seconds, rows, num_tokens)` is called after each step, in its thread: requests worked on
    and tokens computed for them.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        eos_token_ids: frozenset[int],
        limits: Limits,
        on_step: Callable[[float, int, int], None] = lambda seconds, rows, num_tokens: None,
    ) -> None:
        self.limits = limits
        self._tokenizer = tokenizer.backend_tokenizer
        self._eos_token_ids = eos_token_ids
        self._vocabulary = int(model.get_input_embeddings().num_embeddings)
        self._on_step = on_step
        self._precision = str(model.dtype).removeprefix("torch.")
        self._runner = Runner(model)
        self._scheduler = Scheduler(
            max_running=limits.max_running,
            max_waiting=limits.max_waiting,
            prefill_tokens=limits.prefill_tokens,
        )
        self._changed = threading.Condition()  # Guards the scheduler and `_closing`.
        self._closing = False
        self._steps = 0
        self._last_step = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # --- Called from event loops ----------------------------------------------------------------

    def submit(self, request: Request) -> Stream:
        """Put a request in line; call from the event loop that will read the stream.

        Raises QueueFull, ContextLengthExceeded, InvalidPrompt or EngineStopped.
        """
        self._check(request)

        def cancel() -> None:
            sequence.cancelled = True
            with self._changed:
                self._changed.notify()

        stream = Stream(asyncio.get_running_loop(), cancel)
        sequence = Sequence(request, stream, self._tokenizer, self._eos_token_ids, self._vocabulary)
        with self._changed:
            if self._closing or not self._thread.is_alive():
                raise EngineStopped
            if self._scheduler.is_idle:
                self._last_step = time.monotonic()
            self._scheduler.add(sequence)
            self._changed.notify()
        return stream

    def _check(self, request: Request) -> None:
        prompt, context = request.prompt_token_ids, self.limits.max_context
        if not prompt:
            raise InvalidPrompt("The prompt is empty; send at least one token.")
        if max(prompt) >= self._vocabulary or min(prompt) < 0:
            raise InvalidPrompt(f"Token ids must be 0 to {self._vocabulary - 1}.")
        wanted = len(prompt) + request.sampling.max_tokens
        if wanted > context:
            raise ContextLengthExceeded(
                f"The model's context holds {context} tokens, but the prompt has {len(prompt)} and the answer "
                f"may have {request.sampling.max_tokens}. Shorten the conversation or lower max_tokens."
            )

    def stats(self) -> Stats:
        with self._changed:
            idle = self._scheduler.is_idle
            return Stats(
                running=len(self._scheduler.running),
                waiting=len(self._scheduler.waiting),
                max_running=self.limits.max_running,
                max_waiting=self.limits.max_waiting,
                num_cached_tokens=self._runner.num_cached_tokens,
                steps=self._steps,
                seconds_since_step=0.0 if idle else time.monotonic() - self._last_step,
                alive=self._thread.is_alive(),
                precision=self._precision,
            )

    def close(self, timeout: float = 3.0) -> None:
        """End every stream with EngineStopped and stop the thread. Blocks up to `timeout` seconds."""
        with self._changed:
            self._closing = True
            self._fail_everyone(EngineStopped())
            self._changed.notify()
        self._thread.join(timeout)

    # --- The engine's thread --------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or not self._scheduler.is_idle)
                if self._closing:
                    break
            try:
                self._step()
            except Exception:
                # Nothing in a step should raise past its own request; if it does, nobody's state
                # can be trusted, so start clean rather than die.
                logger.exception("A step failed outside any request; ending all running requests.")
                with self._changed:
                    self._runner.release_all()
                    self._fail_everyone(StepFailed("The engine failed; try again."))
        self._runner.release_all()

    def _step(self) -> None:
        """Drop the cancelled, admit the waiting, decode everyone one token, then prompts' next chunks."""
        started = time.monotonic()
        with self._changed:
            cancelled = self._scheduler.remove_cancelled()
            admitted = self._scheduler.admit()
            chunks = self._scheduler.prefill_chunks()
        for sequence in cancelled:
            sequence.finish("cancelled")
        self._end(cancelled)
        for sequence in admitted:
            sequence.stream.admitted_at = started
        rows = len(self._runner.decoding) + len(chunks)
        computed = len(self._runner.decoding) + sum(size for _, size in chunks)
        ended = self._decode() if self._runner.decoding else []
        for sequence, num_tokens in chunks:
            ended += self._prefill(sequence, num_tokens)
        self._end(ended)
        self._steps += 1
        self._last_step = time.monotonic()
        if rows:
            self._on_step(self._last_step - started, rows, computed)

    def _decode(self) -> list[Sequence]:
        """One token for every decoding sequence; returns those that ended."""
        try:
            outcome = self._runner.decode()
        except Exception as error:
            return [self._fail(self._runner.decoding[0], error)]
        greedy = [
            row
            for row, (sequence, logits) in enumerate(outcome)
            if isinstance(logits, torch.Tensor) and sequence.sampler.is_plain_greedy
        ]
        # Argmax over the stacked greedy rows at once: one transfer from the device instead of many.
        tokens: dict[int, int] = {}
        if greedy:
            stacked = torch.stack([outcome[row][1] for row in greedy])  # type: ignore[misc]
            tokens = dict(zip(greedy, stacked.argmax(-1).tolist(), strict=True))
        ended = []
        for row, (sequence, logits) in enumerate(outcome):
            if isinstance(logits, Exception):
                ended.append(self._fail(sequence, logits))
            elif self._advance(sequence, logits, tokens.get(row)):
                ended.append(sequence)
        return ended

    def _prefill(self, sequence: Sequence, num_tokens: int) -> list[Sequence]:
        """A chunk of a prompt, and the first token after the last chunk; returns it if it ended."""
        try:
            logits = self._runner.prefill(sequence, num_tokens)
        except Exception as error:
            return [self._fail(sequence, error)]
        return [sequence] if logits is not None and self._advance(sequence, logits) else []

    def _advance(self, sequence: Sequence, logits: torch.Tensor, token: int | None = None) -> bool:
        """Sample unless `token` is given, and send it. True when the sequence ended, well or badly."""
        try:
            return sequence.accept(sequence.sampler.sample(logits) if token is None else token)
        except Exception as error:
            self._fail(sequence, error)
            return True

    def _fail(self, sequence: Sequence, error: Exception) -> Sequence:
        if isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error):
            logger.warning("Request %s ran out of memory.", sequence.request.id)
            failure: EngineError = OutOfMemory()
        else:
            logger.error("Request %s failed.", sequence.request.id, exc_info=error)
            failure = StepFailed("The model failed on this request; try again, or shorten it.")
        sequence.outcome = failure
        return sequence

    def _end(self, sequences: list[Sequence]) -> None:
        """Free all that the sequences hold, then tell their readers: who sees the end sees it freed."""
        self._runner.release(sequences)
        now = time.monotonic()
        with self._changed:
            for sequence in sequences:
                self._scheduler.remove(sequence, seconds=now - sequence.submitted_at)
        for sequence in sequences:
            assert sequence.outcome is not None
            sequence.stream.put(sequence.outcome)

    def _fail_everyone(self, error: EngineError) -> None:
        for sequence in self._scheduler.remove_all():
            sequence.stream.put(error)
