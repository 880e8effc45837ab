"""The layout of weights for `custos.linear` and `custos.embedding`.

A weight of N output and K input features becomes (ceil(N/32), ceil(K/2), 32, 2): 32 outputs side by side, two inputs of
each together, which is what one dot-product instruction eats. What is missing to full blocks is zero.
"""

import contextlib
import mmap

import torch
from torch import Tensor
from torch.nn import functional

LANES = 32
INT8_LIMIT = 127
ALIGNMENT = 64  # bytes of a cache line, and of the widest load


def pack(weight: Tensor) -> Tensor:
    """Lay out a (N, K) weight of any dtype; the result is (ceil(N/32), ceil(K/2), 32, 2), contiguous."""
    outputs, inputs = weight.shape
    padded = functional.pad(weight, (0, inputs % 2, 0, -outputs % LANES))
    return padded.view(-1, LANES, padded.shape[1] // 2, 2).permute(0, 2, 1, 3).contiguous()


def unpack(packed: Tensor, outputs: int, inputs: int) -> Tensor:
    """The (N, K) weight that `pack` laid out."""
    blocks, pairs, lanes, two = packed.shape
    return packed.permute(0, 2, 1, 3).reshape(blocks * lanes, pairs * two)[:outputs, :inputs]


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a (N, K) weight to int8, symmetric per output: packed values, and their float32 scale per output.

    The scale has an entry for every output of the packed layout, so ceil(N/32) * 32 of them.
    """
    exact = weight.float()
    scale = exact.abs().amax(dim=1) / INT8_LIMIT
    steps = exact / torch.where(scale == 0, 1.0, scale)[:, None]
    values = steps.round().clamp(-INT8_LIMIT, INT8_LIMIT).to(torch.int8)
    return pack(values), functional.pad(scale, (0, -len(scale) % LANES))


def huge_pages(size: int) -> Tensor:
    """`size` bytes (uint8) of memory that asks for huge pages; committed when first written, zero until then."""
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError, AttributeError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)  # Holds the memory for as long as a view of it lives.


def in_huge_pages(tensors: list[Tensor]) -> list[Tensor]:
    """Copies of CPU tensors, one after another in one stretch of memory that asks for huge pages.

    Reading weights from ordinary pages, the CPU spends up to a third of its time finding where they lie. What
    the system does not grant is memory as usual.
    """
    places, size = [], 0
    for tensor in tensors:
        places.append(size)
        size += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    stretch = huge_pages(size)
    moved = []
    for tensor, place in zip(tensors, places, strict=True):
        copy = stretch[place : place + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        moved.append(copy.copy_(tensor))
    return moved
