"""Keys and values of the sequences that decode together.

One transformers cache holds them all as rows, aligned to the right: row i's tokens are its last
`lengths[i]` columns and what lies before is padding that the attention mask hides. Rows join by
padding to the longest, and leave by selection; both copy, which only happens when the company
changes.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows

import torch
import torch.nn.functional as F
from transformers import DynamicCache

# One (keys, values) pair a layer, each (rows, key-value heads, columns, head size).
Layers = list[tuple[torch.Tensor, torch.Tensor]]


def layers_of(cache: DynamicCache) -> Layers:
    return [(layer.keys, layer.values) for layer in cache.layers]  # type: ignore[union-attr,misc]


def cache_of(layers: Layers) -> DynamicCache:
    """A cache whose tensors are `layers`. Updates make new tensors, so `layers` stays as it was."""
    cache = DynamicCache()
    for index, (keys, values) in enumerate(layers):
        # An empty update makes the layer; assigning spares the copy that a full one would make.
        cache.update(keys[:, :, :0], values[:, :, :0], index)
        layer = cache.layers[index]
        layer.keys, layer.values = keys, values  # type: ignore[union-attr]
    return cache


class Batch:
    """`lengths[i]` is how many tokens row i has computed."""

    def __init__(self) -> None:
        self.layers: Layers = []
        self.lengths: list[int] = []

    @property
    def columns(self) -> int:
        return max(self.lengths, default=0)

    def join(self, layers: Layers, length: int) -> None:
        """Add one row with `length` computed tokens; `layers` has just those columns."""
        columns = max(self.columns, length)
        if not self.lengths:
            self.layers = layers
        else:
            self.layers = [
                (_join(keys, new_keys, columns), _join(values, new_values, columns))
                for (keys, values), (new_keys, new_values) in zip(self.layers, layers, strict=True)
            ]
        self.lengths.append(length)

    def keep(self, rows: Rows[int]) -> None:
        """Drop every row not in `rows` (ascending), and the columns none of them needs."""
        self.lengths = [self.lengths[row] for row in rows]
        if not rows:
            self.layers = []
            return
        index = torch.tensor(rows, device=self.layers[0][0].device)
        self.layers = [
            tuple(t[:, :, t.shape[2] - self.columns :].index_select(0, index) for t in pair)  # type: ignore[misc]
            for pair in self.layers
        ]

    def row(self, row: int) -> Layers:
        """Row `row` alone, without padding."""
        start = self.columns - self.lengths[row]
        return [(k[row : row + 1, :, start:], v[row : row + 1, :, start:]) for k, v in self.layers]


def _join(rows: torch.Tensor, new: torch.Tensor, columns: int) -> torch.Tensor:
    return torch.cat([_pad(rows, columns), _pad(new, columns)])


def _pad(tensor: torch.Tensor, columns: int) -> torch.Tensor:
    """Pad the column dimension on the left with zeros."""
    return F.pad(tensor, (0, 0, columns - tensor.shape[2], 0))
