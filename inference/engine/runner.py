"""Computes one step: all its tokens in one forward pass of the model, whoever they belong to."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from inference.engine.aoti import GraphFailed
from inference.engine.attention import LayerShape, attending
from inference.engine.early_exit import depths_of, short_model
from inference.engine.memory import BLOCK_SIZE, KeyValueMemory
from inference.engine.sampler import guess_rows
from inference.engine.threads import Threads

# (ids (1, T), positions (1, T), rows (R,), handle (1,)) -> logits (R, V)
Forward = Callable[..., torch.Tensor]


class Item(Protocol):
    """One sequence's part of a step, see `scheduler.Work`."""

    sequence: Any
    num_tokens: int


class _Part(NamedTuple):
    """`tokens` that follow `start` others of the same sequence; of the last `num_rows` logits are wanted."""

    tokens: list[int]
    start: int
    block_ids: list[int]
    num_rows: int


class StepModel(torch.nn.Module):
    """A step as a function of tensors alone, which is what can be compiled."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._picks_rows = "logits_to_keep" in inspect.signature(model.forward).parameters

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor, handle: torch.Tensor
    ) -> torch.Tensor:
        keep = {"logits_to_keep": rows} if self._picks_rows else {}
        with attending(handle) as cache:
            output = self.model(
                input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, **keep
            )
        logits = output.logits[0]
        return logits if keep else logits[rows]


class Runner:
    """Owns the model and the memory of keys and values. Use from one thread."""

    def __init__(self, model: PreTrainedModel, layers: dict[int, LayerShape], *, num_blocks: int) -> None:
        self.model = model
        self._device = model.device
        self._memory = KeyValueMemory(layers, num_blocks=num_blocks, device=model.device)
        self._most_threads = torch.get_num_threads()
        self._threads = Threads(self._most_threads)
        self._eager = StepModel(model)
        self._forward: Forward = self._eager
        self._short = {depth: StepModel(short_model(model, depth)) for depth in depths_of(model)}
        self.is_compiled = False

    @property
    def depths(self) -> tuple[int, ...]:
        """After how many layers `draft` can stop; none if the model's layers are not to be had."""
        return tuple(self._short)

    def use(self, forward: Forward) -> None:
        """From the next step on compute with `forward`, a compiled StepModel. Any thread may call this."""
        self._threads = Threads(self._most_threads)  # What was learned was about the other way.
        self._forward, self.is_compiled = forward, True

    @torch.inference_mode()
    def run(self, work: Sequence[Item]) -> torch.Tensor:
        """Compute the work and store its keys and values.

        Returns logits (R, V): for each item, in order, as many rows as `num_rows(item)` says. Raises
        whatever the model raises; then nothing is lost, and the same work can be run again.
        """
        return self._pass(
            self._compute,
            [
                _Part(
                    tokens_of(item),
                    item.sequence.num_computed_tokens,
                    item.sequence.block_ids,
                    num_rows(item),
                )
                for item in work
            ],
        )

    @torch.inference_mode()
    def draft(self, sequences: Sequence[Any], *, depth: int) -> None:
        """Replace all `draft_ids` by what would be chosen if the first `depth` layers were all.

        For sequences that lack one token, with blocks for the drafts too. In those layers it writes the
        keys and values of tokens that are not computed yet; computing the step writes them again.
        """
        short = self._short[depth]
        for place in range(max(len(sequence.draft_ids) for sequence in sequences)):
            going_on = [sequence for sequence in sequences if len(sequence.draft_ids) > place]
            parts = []
            for sequence in going_on:
                token = sequence.draft_ids[place - 1] if place else sequence.token_ids[-1]
                parts.append(_Part([token], sequence.num_tokens - 1 + place, sequence.block_ids, 1))
            guesses = guess_rows(
                self._pass(short, parts),
                [sequence.sampler for sequence in going_on],
                [sequence.draft_ids[:place] for sequence in going_on],
            )
            for sequence, guess in zip(going_on, guesses, strict=True):
                sequence.draft_ids[place] = guess

    def _pass(self, forward: Forward, parts: list[_Part]) -> torch.Tensor:
        """All parts through `forward` at once: logits (R, V) of the wanted rows."""
        ids: list[int] = []
        positions: list[int] = []
        rows: list[int] = []
        starts = [0]
        lengths: list[int] = []
        for part in parts:
            ids += part.tokens
            positions += range(part.start, part.start + len(part.tokens))
            rows += range(len(ids) - part.num_rows, len(ids))
            starts.append(len(ids))
            lengths.append(part.start + len(part.tokens))
        tables = np.zeros((len(parts), -(-max(lengths) // BLOCK_SIZE)), dtype=np.int32)
        for table, part, length in zip(tables, parts, lengths, strict=True):
            count = -(-length // BLOCK_SIZE)
            table[:count] = part.block_ids[:count]
        torch.ops.custos.begin_step(
            self._memory.number,
            torch.from_numpy(tables),
            torch.tensor(starts, dtype=torch.int32),
            torch.tensor(lengths, dtype=torch.int32),
        )
        # A model must be asked for one row at least, so a step of mere prompt chunks asks for its last.
        wanted = torch.tensor(rows or [len(ids) - 1], device=self._device)
        logits = forward(
            torch.tensor([ids], device=self._device),
            torch.tensor([positions], device=self._device),
            wanted,
            self._memory.handle,
        )
        return logits[: len(rows)]

    def _compute(self, *inputs: torch.Tensor) -> torch.Tensor:
        if self._device.type != "cpu":
            return self._forward(*inputs)
        number = self._threads.choose(inputs[0].shape[1])
        if number != torch.get_num_threads():
            torch.set_num_threads(number)
        started = time.perf_counter()
        try:
            logits = self._forward(*inputs)
        except GraphFailed:
            logits = None
        if logits is None:  # The model itself says what is wrong, or gets by.
            logits = self._eager(*inputs)
        self._threads.observe(time.perf_counter() - started)
        return logits

    def close(self) -> None:
        self._memory.close()


def tokens_of(item: Item) -> list[int]:
    """The tokens that an item computes: known ones first, then drafts."""
    sequence = item.sequence
    start = sequence.num_computed_tokens
    known = sequence.token_ids[start : start + item.num_tokens]
    return known + sequence.draft_ids[: item.num_tokens - len(known)]


def num_rows(item: Item) -> int:
    """How many of an item's tokens have a successor to pick: none within a prompt, else the last
    known token and each draft."""
    sequence = item.sequence
    return max(0, sequence.num_computed_tokens + item.num_tokens - sequence.num_tokens + 1)
