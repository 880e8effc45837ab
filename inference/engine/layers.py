"""Puts faster or smaller layers in a model's place: weights packed for our kernels, or held as int8.

Only the linear layers and the embedding change, and only plain ones: a subclass may do more than it says.
Everything else of the model stays transformers' own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

import inference.engine.kernels.ops  # noqa: F401  It defines torch.ops.custos.
from inference.engine.kernels.packing import INT8_LIMIT, in_huge_pages, pack, quantise

_MOVED_AT_ONCE = 64 << 20  # Bytes.

Precision = Literal["float32", "bfloat16", "int8"]

# torch's int8 kernel for a CPU reads so many inputs at a time, beyond the end if they do not come out even.
_WHOLE = 32


@dataclass(frozen=True, slots=True)
class Replaced:
    """How many layers were replaced, and how many bytes all weights of the model take now."""

    num_layers: int
    weight_bytes: int


class PackedLinear(nn.Module):
    """A linear layer for `custos.linear`: bfloat16 or int8 weights, bfloat16 in and out."""

    def __init__(self, weight: torch.Tensor, scale: torch.Tensor | None, bias: nn.Parameter | None, out: int):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.scale = None if scale is None else nn.Parameter(scale, requires_grad=False)
        self.bias = bias
        self.out_features = out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.ops.custos.linear(x, self.weight, self.scale, self.out_features)
        return y if self.bias is None else y + self.bias


class PackedEmbedding(nn.Module):
    """An embedding that shares the output head's packed weight."""

    def __init__(self, head: PackedLinear, width: int) -> None:
        super().__init__()
        self.weight, self.scale, self.width = head.weight, head.scale, width
        self.num_embeddings = head.out_features

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.ops.custos.embedding(ids, self.weight, self.scale, self.width)


class Int8Linear(nn.Module):
    """Int8 weights without our kernels: torch's own for a CPU, else widened as they are used."""

    def __init__(self, weight: torch.Tensor, scale: torch.Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)  # (N, K) int8
        self.scale = nn.Parameter(scale, requires_grad=False)  # (N,)
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and x.shape[-1] % _WHOLE == 0:
            flat = x.reshape(-1, x.shape[-1]).contiguous()
            y = torch._weight_int8pack_mm(flat, self.weight, self.scale).view(*x.shape[:-1], -1)
        else:
            y = functional.linear(x, self.weight.to(x.dtype)) * self.scale
        return y if self.bias is None else y + self.bias


class Int8Embedding(nn.Module):
    """Rows of int8, one scale each."""

    def __init__(self, weight: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)  # (V, C) int8
        self.scale = nn.Parameter(scale, requires_grad=False)  # (V,)
        self.num_embeddings = len(weight)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.weight[ids].to(self.scale.dtype) * self.scale[ids].unsqueeze(-1)


def replace_layers(model: PreTrainedModel, *, precision: Precision, packed: bool) -> Replaced:
    """Replace the layers of `model` in place, one at a time, so that little more memory is needed.

    `packed`: our kernels are there, and the model is bfloat16 on a CPU. Also works on the meta device.
    """
    if precision == "int8" or (packed and precision == "bfloat16"):
        count = _replace(model, int8=precision == "int8", packed=packed)
    else:
        count = 0
    if packed and model.device.type == "cpu":
        _move_to_huge_pages(model)
    return Replaced(count, weight_bytes(model))


def _move_to_huge_pages(model: PreTrainedModel) -> None:
    """All weights, some at a time, so that little more memory is needed meanwhile."""
    waiting: list[nn.Parameter] = []
    for parameter in model.parameters():
        waiting.append(parameter)
        if sum(p.nbytes for p in waiting) > _MOVED_AT_ONCE:
            _move(waiting)
            waiting = []
    _move(waiting)


def _move(parameters: list[nn.Parameter]) -> None:
    for parameter, moved in zip(parameters, in_huge_pages([p.data for p in parameters]), strict=True):
        parameter.data = moved


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters, each tensor once."""
    seen = {id(p): p.numel() * p.element_size() for p in model.parameters()}
    return sum(seen.values())


def _replace(model: PreTrainedModel, *, int8: bool, packed: bool) -> int:
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    tied = head is not None and embedding.weight is head.weight and type(embedding) is nn.Embedding
    width = int(embedding.weight.shape[1])
    count = 0
    places = [(parent, name) for parent in model.modules() for name, _ in parent.named_children()]
    for parent, name in places:
        layer = getattr(parent, name)
        if type(layer) is nn.Linear:
            new = _linear(layer, int8=int8, packed=packed)
        elif type(layer) is nn.Embedding and int8 and not tied:
            new = Int8Embedding(*_quantise_rows(layer.weight))
        else:
            continue
        setattr(parent, name, new)
        count += 1
    if tied:
        new_head = model.get_output_embeddings()
        if isinstance(new_head, PackedLinear):
            model.set_input_embeddings(PackedEmbedding(new_head, width))
        elif isinstance(new_head, Int8Linear):
            shared = Int8Embedding(new_head.weight, new_head.scale)
            shared.weight, shared.scale = new_head.weight, new_head.scale
            model.set_input_embeddings(shared)
    return count


def _linear(layer: nn.Linear, *, int8: bool, packed: bool) -> nn.Module:
    weight = layer.weight.data
    if not packed:
        return Int8Linear(*_quantise_rows(weight), layer.bias)
    if int8:
        values, scale = quantise(weight)
        return PackedLinear(values, scale, layer.bias, layer.out_features)
    return PackedLinear(pack(weight), None, layer.bias, layer.out_features)


def _quantise_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, K) as int8 and a scale a row in the weight's dtype, symmetric."""
    exact = weight.float()
    scale = (exact.abs().amax(dim=1) / INT8_LIMIT).clamp_min(torch.finfo(torch.float32).tiny)
    values = (exact / scale[:, None]).round().clamp(-INT8_LIMIT, INT8_LIMIT).to(torch.int8)
    return values, scale.to(weight.dtype)
