"""The engine: submit a request, get a stream. One thread steps the model for all of them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from inference.engine.attention import probe_layers
from inference.engine.blocks import BlockManager
from inference.engine.errors import (
    ContextLengthExceeded,
    EngineError,
    EngineStopped,
    InvalidPrompt,
    OutOfMemory,
    StepFailed,
)
from inference.engine.memory import BLOCK_SIZE, blocks_that_fit, is_out_of_memory
from inference.engine.pace import Pace
from inference.engine.request import Request
from inference.engine.runner import Forward, Runner, num_rows
from inference.engine.sampler import Sampled, verify_rows
from inference.engine.scheduler import Scheduler, Work
from inference.engine.sequence import Sequence
from inference.engine.speculation import Speculation
from inference.engine.stream import Outbox, Stream

logger = logging.getLogger("custos.inference.engine")

# A prompt chunk that does not fit in memory is tried again at half its size, down to this many tokens.
_SMALLEST_CHUNK = 16

_Outcome = tuple[Work[Sequence], torch.Tensor | Exception]


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_running` and `max_waiting` count requests; `token_budget` is the most tokens of one step.

    `kv_bytes` bounds the memory for keys and values; None: a quarter of what is free at the start.
    """

    max_context: int
    max_running: int = 64
    max_waiting: int = 256
    token_budget: int = 256
    kv_bytes: int | None = None
    speculate: bool = True
    early_exit: bool = True  # Speculate by the model's first layers too, where that pays.


@dataclass(frozen=True, slots=True)
class Stats:
    """A moment's view. `seconds_since_step` is 0 when idle.

    Prefix, draft and preemption counts only grow; `prefix_*`, `draft_tokens` and `accepted_tokens`
    are in tokens, and `layer_*` are those of them by the model's first layers. `graph` is "eager" or "compiled", `precision` that of the weights.
    `peak_memory_bytes` is what the device had in use at most, as of the last time it ran out; 0: never.
    """

    running: int
    waiting: int
    max_running: int
    max_waiting: int
    steps: int
    seconds_since_step: float
    alive: bool
    kv_blocks_total: int
    kv_blocks_used: int
    kv_blocks_cached: int
    prefix_queries: int
    prefix_hits: int
    preemptions: int
    draft_tokens: int
    accepted_tokens: int
    out_of_memory: int
    peak_memory_bytes: int
    graph: str
    precision: str = ""
    layer_draft_tokens: int = 0
    layer_accepted_tokens: int = 0


class Engine:
    """Owns the model from now on; it must have been loaded with `attention.NAME` as its attention.

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
        layers = probe_layers(model)
        self._blocks = BlockManager(
            blocks_that_fit(
                model,
                layers,
                limit_bytes=limits.kv_bytes,
                wanted_tokens=limits.max_running * limits.max_context,
            ),
            BLOCK_SIZE,
        )
        self._runner = Runner(model, layers, num_blocks=self._blocks.num_blocks)
        self._pace = Pace(most=limits.token_budget)
        self._speculation = Speculation(
            enabled=limits.speculate, drafter=self._runner if limits.early_exit else None
        )
        self._scheduler: Scheduler[Sequence] = Scheduler(
            self._blocks,
            max_running=limits.max_running,
            max_waiting=limits.max_waiting,
            token_budget=limits.token_budget,
            max_prefill_tokens=self._pace.prefill_tokens,
        )
        self._outbox = Outbox()
        self._changed = threading.Condition()  # Guards the scheduler and `_closing`.
        self._closing = False
        self._steps = 0
        self._out_of_memory = 0
        self._peak_memory = 0
        self._last_step = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # --- Called from other threads ----------------------------------------------------------------

    def submit(self, request: Request) -> Stream:
        """Put a request in line; call from the event loop that will read the stream.

        Raises QueueFull, ContextLengthExceeded, InvalidPrompt or EngineStopped.
        """
        self._check(request)

        def cancel() -> None:
            sequence.cancelled = True
            with self._changed:
                self._changed.notify()

        stream = Stream(asyncio.get_running_loop(), cancel, self._outbox)
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

    def use(self, forward: Forward) -> None:
        """Compute with a compiled forward from the next step on."""
        self._runner.use(forward)
        self._pace.forget()
        self._speculation.forget()

    def stats(self) -> Stats:
        with self._changed:
            scheduler, blocks = self._scheduler, self._blocks
            lookup, layers = self._speculation.lookup, self._speculation.layers
            return Stats(
                running=scheduler.num_running,
                waiting=scheduler.num_waiting,
                max_running=self.limits.max_running,
                max_waiting=self.limits.max_waiting,
                steps=self._steps,
                seconds_since_step=0.0 if scheduler.is_idle else time.monotonic() - self._last_step,
                alive=self._thread.is_alive(),
                kv_blocks_total=blocks.num_blocks,
                kv_blocks_used=blocks.num_used,
                kv_blocks_cached=blocks.num_cached,
                prefix_queries=blocks.prefix_queries,
                prefix_hits=blocks.prefix_hits,
                preemptions=scheduler.num_preemptions,
                draft_tokens=lookup.num_drafted + layers.num_drafted,
                accepted_tokens=lookup.num_accepted + layers.num_accepted,
                layer_draft_tokens=layers.num_drafted,
                layer_accepted_tokens=layers.num_accepted,
                out_of_memory=self._out_of_memory,
                peak_memory_bytes=self._peak_memory,
                graph="compiled" if self._runner.is_compiled else "eager",
            )

    def check(self) -> None:
        """Assert that the books of the key/value memory balance; for tests."""
        with self._changed:
            self._blocks.check()

    def reset_prefix_cache(self) -> None:
        """Forget all prefixes, so that the next prompts are computed in full."""
        with self._changed:
            self._blocks.reset_prefix_cache()

    def close(self, timeout: float = 3.0, reason: EngineError | None = None) -> None:
        """End every stream with `reason` (EngineStopped) and stop the thread. Blocks up to `timeout` seconds.

        A thread that hangs in a step is left behind; should it ever return, it ends.
        """
        with self._changed:
            self._closing = True
            self._fail_everyone(reason or EngineStopped())
            self._changed.notify()
        self._thread.join(timeout)

    # --- The engine's thread ------------------------------------------------------------------------

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
                    self._fail_everyone(StepFailed("The engine failed; try again."))
                    self._blocks.reset_prefix_cache()
        self._runner.close()

    def _step(self) -> None:
        """Drop the cancelled, plan, compute, pick tokens, send them."""
        started = time.monotonic()
        with self._changed:
            cancelled = self._scheduler.remove_cancelled()
            running = self._scheduler.running
        # Without the lock: looking through a long prompt for the first time takes a while, and requests wait to come in.
        self._speculation.propose(running)
        with self._changed:
            self._scheduler.max_prefill_tokens = self._pace.prefill_tokens
            step = self._scheduler.schedule()
        for sequence in cancelled:
            sequence.finish("cancelled")
        self._end(cancelled)
        for sequence in step.admitted:
            if sequence.stream.admitted_at is None:
                sequence.stream.admitted_at = started
        if not step.work:
            return
        num_tokens = step.num_tokens
        num_decodes = sum(work.sequence.num_completion_tokens > 0 for work in step.work)
        self._speculation.draft(step.work)
        self._end(self._take(self._compute(step.work)))
        self._steps += 1
        self._last_step = time.monotonic()
        self._speculation.observe(self._last_step - started, step.work)
        self._pace.observe(self._last_step - started, num_tokens=num_tokens, num_decodes=num_decodes)
        self._on_step(self._last_step - started, len(step.work), num_tokens)

    # --- Computing, and what may go wrong ------------------------------------------------------------

    def _compute(self, work: list[Work[Sequence]]) -> list[_Outcome]:
        """Each item's logits (rows, V), or the exception that it alone causes.

        A failed pass has changed nothing, so its halves are run again, down to single items.
        """
        failure: Exception | None = None
        try:
            logits = self._runner.run(work)
        except Exception as error:
            failure = error
        if failure is None:
            rows = torch.split(logits, [num_rows(item) for item in work])
            return list(zip(work, rows, strict=True))
        # Outside the handler, so that what the failed try still held is freed.
        if is_out_of_memory(failure):
            self._note_out_of_memory(work)
        if len(work) > 1:
            middle = len(work) // 2
            return self._compute(work[:middle]) + self._compute(work[middle:])
        item = work[0]
        if is_out_of_memory(failure) and (smaller := _smaller(item)):
            # What is left out is planned again in the next step, whose budget is halved now.
            return self._compute([Work(item.sequence, smaller)])
        return [(item, failure)]

    def _note_out_of_memory(self, work: list[Work[Sequence]]) -> None:
        num_tokens = sum(item.num_tokens for item in work)
        self._out_of_memory += 1
        if torch.cuda.is_available():
            self._peak_memory = torch.cuda.max_memory_allocated()
            torch.cuda.empty_cache()
        with self._changed:
            self._scheduler.limit_budget(num_tokens // 2)
        logger.warning(
            "Out of memory in a step of %d tokens for %d requests (peak %d bytes); trying less.",
            num_tokens,
            len(work),
            self._peak_memory,
        )

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        if is_out_of_memory(error):
            failure: EngineError = OutOfMemory()
        elif isinstance(error, EngineError):
            failure = error
        else:
            logger.error("Request %s failed.", sequence.request.id, exc_info=error)
            failure = StepFailed("The model failed on this request; try again, or shorten it.")
        sequence.outcome = failure

    # --- From logits to tokens ------------------------------------------------------------------------

    def _take(self, outcomes: list[_Outcome]) -> list[Sequence]:
        """Pick and send the next tokens; returns the sequences that ended."""
        choosing: list[tuple[Work[Sequence], torch.Tensor]] = []
        for work, logits in outcomes:
            if isinstance(logits, Exception):
                self._fail(work.sequence, logits)
            elif len(logits):
                choosing.append((work, logits))
            else:
                self._advance(work, work.num_tokens)
        self._choose(choosing)
        return [work.sequence for work, _ in outcomes if work.sequence.outcome is not None]

    def _choose(self, items: list[tuple[Work[Sequence], torch.Tensor]]) -> None:
        """Check the drafts and take the tokens after them; of all at once, or of each alone if that fails."""
        if not items:
            return
        drafts = [work.sequence.draft_ids[: len(logits) - 1] for work, logits in items]
        try:
            picked = verify_rows(
                torch.cat([logits for _, logits in items]),
                [work.sequence.sampler for work, _ in items],
                drafts,
            )
        except Exception as error:
            if len(items) == 1:
                self._fail(items[0][0].sequence, error)
            else:
                for item in items:
                    self._choose([item])
            return
        for (work, logits), draft, tokens in zip(items, drafts, picked, strict=True):
            if draft:
                self._speculation.learn(work.sequence, drafted=len(draft), accepted=len(tokens) - 1)
            self._accept(work, tokens, rows=len(logits))

    def _accept(self, work: Work[Sequence], picked: list[Sampled], *, rows: int) -> None:
        """Send the tokens up to the one that ends the answer, and book what is computed for good."""
        num_taken = 0
        for sampled in picked:
            num_taken += 1
            if work.sequence.accept(sampled):
                break
        # All rows but one belong to drafts, all tokens taken but the last were drafts.
        self._advance(work, work.num_tokens - rows + num_taken)

    def _advance(self, work: Work[Sequence], num_computed: int) -> None:
        with self._changed:
            self._scheduler.advance(work, num_computed)

    def _end(self, sequences: list[Sequence]) -> None:
        """Free all that the sequences hold, then tell their readers: who sees the end sees it freed."""
        now = time.monotonic()
        with self._changed:
            for sequence in sequences:
                self._scheduler.remove(sequence, seconds=now - sequence.submitted_at)
        for sequence in sequences:
            assert sequence.outcome is not None
            sequence.stream.put(sequence.outcome)
        self._outbox.send()

    def _fail_everyone(self, error: EngineError) -> None:
        for sequence in self._scheduler.remove_all():
            sequence.stream.put(error)
        self._outbox.send()


def _smaller(item: Work[Sequence]) -> int:
    """How many tokens to try when these do not fit in memory: no drafts, then half a prompt's part; 0: none."""
    known = item.sequence.num_tokens - item.sequence.num_computed_tokens
    if item.num_tokens > known:
        return known
    return item.num_tokens // 2 if item.num_tokens > _SMALLEST_CHUNK else 0
