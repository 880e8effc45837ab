"""Runs the model: prompts in chunks, one row each, and decoding sequences in one batch.

The model's own transformers code computes; the runner gives it tokens, positions, a mask and a
cache. It owns all keys and values.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence as Rows

import torch
from transformers import DynamicCache, PreTrainedModel

from inference.engine.batch import Batch, Layers, cache_of, layers_of
from inference.engine.sequence import Sequence


class Runner:
    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._device = model.device
        # Spares computing (chunk, V) logits for a prompt of which only the last row is wanted.
        takes = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self._prefilling: dict[Sequence, Layers] = {}
        self._decoding: list[Sequence] = []
        self._batch = Batch()

    @property
    def decoding(self) -> tuple[Sequence, ...]:
        return tuple(self._decoding)

    @property
    def num_cached_tokens(self) -> int:
        """Columns held in memory, padding included; 0 when idle."""
        prefilling = sum(layers[0][0].shape[2] for layers in list(self._prefilling.values()))
        return prefilling + len(self._decoding) * self._batch.columns

    @torch.inference_mode()
    def prefill(self, sequence: Sequence, num_tokens: int) -> torch.Tensor | None:
        """Compute the prompt's next `num_tokens`; once it is complete, the next token's logits (V,)."""
        start = sequence.num_computed_tokens
        end = start + num_tokens
        layers = self._prefilling.get(sequence, [])
        logits, layers = self._forward([sequence.token_ids[start:end]], layers, [start])
        sequence.num_computed_tokens = end
        if end < sequence.num_tokens:
            self._prefilling[sequence] = layers
            return None
        self._prefilling.pop(sequence, None)
        self._batch.join(layers, end)
        self._decoding.append(sequence)
        return logits[0]

    @torch.inference_mode()
    def decode(self) -> list[tuple[Sequence, torch.Tensor | Exception]]:
        """One step of every decoding sequence: its logits (V,), or the exception that felled it."""
        rows = self._decoding
        last_tokens = [[sequence.token_ids[-1]] for sequence in rows]
        try:
            logits, layers = self._forward(last_tokens, self._batch.layers, self._batch.lengths)
        except Exception:
            if len(rows) == 1:
                raise
            layers = []
        if not layers:  # Outside the handler, so that what the failed try still held is freed.
            return self._decode_apart()
        self._batch.layers = layers
        self._batch.lengths = [length + 1 for length in self._batch.lengths]
        for sequence in rows:
            sequence.num_computed_tokens += 1
        return list(zip(rows, logits, strict=True))

    def _decode_apart(self) -> list[tuple[Sequence, torch.Tensor | Exception]]:
        """The batch failed and its cache is as before: run each row alone to find who is at fault."""
        rows, batch = self._decoding, self._batch
        self._decoding, self._batch = [], Batch()
        outcome: list[tuple[Sequence, torch.Tensor | Exception]] = []
        for row, sequence in enumerate(rows):
            try:
                logits, layers = self._forward(
                    [[sequence.token_ids[-1]]], batch.row(row), [batch.lengths[row]]
                )
                self._batch.join(layers, batch.lengths[row] + 1)
            except Exception as error:
                outcome.append((sequence, error))
                continue
            self._decoding.append(sequence)
            sequence.num_computed_tokens += 1
            outcome.append((sequence, logits[0]))
        return outcome

    def release(self, sequences: Rows[Sequence]) -> None:
        """Forget the sequences' keys and values, wherever they are."""
        gone = set(sequences)
        for sequence in gone:
            self._prefilling.pop(sequence, None)
        kept = [row for row, sequence in enumerate(self._decoding) if sequence not in gone]
        if len(kept) < len(self._decoding):
            self._batch.keep(kept)
            self._decoding = [self._decoding[row] for row in kept]

    def release_all(self) -> None:
        self._prefilling, self._decoding, self._batch = {}, [], Batch()

    def _forward(
        self, tokens: list[list[int]], layers: Layers, lengths: list[int]
    ) -> tuple[torch.Tensor, Layers]:
        """`tokens` (B, Q) go after `lengths` (B) cached ones. Returns logits (B, V) of the last, and the
        cache with Q columns more; `layers` itself is left unchanged, also when this raises."""
        ids = torch.tensor(tokens, device=self._device)  # (B, Q)
        cached = torch.tensor(lengths, device=self._device)[:, None]  # (B, 1)
        columns = (max(lengths) if layers else 0) + ids.shape[1]
        steps = torch.arange(columns, device=self._device)[None]  # (1, columns)
        output = self._model(
            input_ids=ids,
            position_ids=cached + torch.arange(ids.shape[1], device=self._device)[None],
            attention_mask=(steps >= columns - ids.shape[1] - cached).long(),  # 0 marks the padding
            past_key_values=cache_of(layers) if layers else DynamicCache(),
            use_cache=True,
            **self._last_only,
        )
        return output.logits[:, -1], layers_of(output.past_key_values)
