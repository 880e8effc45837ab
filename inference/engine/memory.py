"""The memory that holds keys and values: one pool of blocks a layer, sized from what is free."""

from __future__ import annotations

import math
from typing import Any

import psutil
import torch

from inference.engine.attention import LayerShape
from inference.engine.kernels.ops import new_handle
from inference.engine.kernels.packing import huge_pages

BLOCK_SIZE = 16  # Tokens. Small enough to share most of a prefix, large enough to be read in one go.

# c10's words on a CPU: on Linux and macOS, and on Windows.
_NO_MEMORY = ("can't allocate memory", "not enough memory")


class KeyValueMemory:
    """`num_blocks` blocks of BLOCK_SIZE tokens in every layer, known to the attention by `handle`.

    On a CPU the system commits a page when it is first written, so an idle pool costs next to nothing.
    """

    def __init__(self, layers: dict[int, LayerShape], *, num_blocks: int, device: torch.device) -> None:
        def pool(heads: int, size: int, dtype: torch.dtype) -> torch.Tensor:
            shape = (num_blocks, heads, BLOCK_SIZE, size)
            # Not zeroed: that would write, and so commit, all of it. Nobody reads what nobody wrote.
            if device.type != "cpu":
                return torch.empty(shape, dtype=dtype, device=device)
            return huge_pages(math.prod(shape) * dtype.itemsize).view(dtype).view(shape)

        self.num_blocks = num_blocks
        self.number = new_handle()
        self.handle = torch.tensor([self.number])  # (1,), on the CPU: read by code, not by kernels.
        shapes = [layers[index] for index in range(len(layers))]
        torch.ops.custos.bind_cache(
            self.number,
            [pool(shape.heads, shape.key, shape.dtype) for shape in shapes],
            [pool(shape.heads, shape.value, shape.dtype) for shape in shapes],
        )

    def close(self) -> None:
        """Give the memory back; no step may follow."""
        torch.ops.custos.release_cache(self.number)


def bytes_per_block(layers: dict[int, LayerShape]) -> int:
    return BLOCK_SIZE * sum(
        shape.heads * (shape.key + shape.value) * shape.dtype.itemsize for shape in layers.values()
    )


def blocks_that_fit(
    model: Any, layers: dict[int, LayerShape], *, limit_bytes: int | None, wanted_tokens: int
) -> int:
    """As many blocks as `limit_bytes` (default: a quarter of what is free now) hold, and no more than `wanted_tokens` need.

    At least one block, so that a small machine fails requests rather than the start.
    """
    if limit_bytes is None:
        limit_bytes = free_bytes(model.device) // 4
    wanted = -(-wanted_tokens // BLOCK_SIZE)
    return max(1, min(wanted, limit_bytes // bytes_per_block(layers)))


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory, as a GPU says it, or the allocator of a CPU: that has no type of its own."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
