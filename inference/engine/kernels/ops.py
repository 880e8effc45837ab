"""`torch.ops.custos`: the operations' definitions, and implementations in Python for any device and dtype.

The cache is reached through a `handle`, an int64 tensor of one element that is an input of the compiled graph, so that
`attention` looks like a pure function to the compiler though it writes the cache. An engine binds its cache once
(`bind_cache`), says before each step which tokens the step computes (`begin_step`), and releases it at its end.
Engines in several threads of a process have a handle each.
"""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from inference.engine.kernels.packing import LANES, unpack

_library = torch.library.Library("custos", "DEF")

# Without an autograd kernel: the engine only ever infers.
_EVERYWHERE = "CompositeExplicitAutograd"


@dataclass(frozen=True)
class Step:
    """The tokens of one step. Sequence s owns the rows query_starts[s] to query_starts[s + 1]."""

    block_tables: Tensor  # (S, B) int32
    query_starts: list[int]  # S + 1 of them
    context_lengths: list[int]  # S, with the new tokens
    block_size: int

    @cached_property
    def slots(self) -> tuple[Tensor, Tensor]:
        """Where each new token's keys and values go: its block, and its place therein; (T,) each."""
        device = self.block_tables.device
        owners, positions = [], []
        for number, (start, end) in enumerate(itertools.pairwise(self.query_starts)):
            context = self.context_lengths[number]
            positions.append(torch.arange(context - (end - start), context, device=device))
            owners.append(torch.full_like(positions[-1], number))
        position = torch.cat(positions)
        return self.block_tables[
            torch.cat(owners), position // self.block_size
        ].long(), position % self.block_size


@dataclass
class Cache:
    """The paged keys and values of one engine, a tensor (blocks, kv heads, block size, head size) for each layer."""

    keys: list[Tensor]
    values: list[Tensor]
    step: Step | None = field(default=None)

    @property
    def block_size(self) -> int:
        return self.keys[0].shape[2]


class NativeCaches:
    """What compiled kernels want to hear about caches; `build` puts the real one in its place."""

    def bind(self, handle: int, cache: Cache) -> None:
        """A cache was bound."""

    def begin(self, handle: int, step: Step) -> None:
        """A step begins."""

    def release(self, handle: int) -> None:
        """A cache was released; its memory may go."""


_caches: dict[int, Cache] = {}
_native = NativeCaches()
_lock = threading.Lock()
_handles = itertools.count(1)


def new_handle() -> int:
    """A handle that no other engine of this process has."""
    return next(_handles)


def use_native(native: NativeCaches) -> None:
    """Let compiled kernels follow the caches, those bound already included."""
    global _native
    with _lock:
        for handle, cache in _caches.items():
            native.bind(handle, cache)
            if cache.step is not None:
                native.begin(handle, cache.step)
        _native = native


def _cache(handle: int) -> Cache:
    cache = _caches.get(handle)
    if cache is None:
        raise RuntimeError(f"No cache is bound to handle {handle}: call custos.bind_cache first.")
    return cache


def _define(schema: str, implementation: Callable[..., object]) -> None:
    name = _library.define(schema)
    _library.impl(name, implementation, _EVERYWHERE)


def _define_with_reference(name: str, signature: str, implementation: Callable[..., object]) -> None:
    """Under a second name too, where compiled kernels find what they leave to Python, and tests what to compare."""
    _define(name + signature, implementation)
    _define(f"{name}_reference{signature}", implementation)


# The cache


def _bind_cache(handle: int, keys: list[Tensor], values: list[Tensor]) -> None:
    if not keys or len(keys) != len(values):
        raise ValueError(f"{len(keys)} key tensors and {len(values)} value tensors: one of each for a layer.")
    for layer, (key, value) in enumerate(zip(keys, values, strict=True)):
        of_all = (
            keys[0].shape[0],
            keys[0].shape[2],
        )  # blocks and their size, which the block tables count in
        if (
            key.dim() != 4
            or key.shape[:3] != value.shape[:3]
            or (key.shape[0], key.shape[2]) != of_all
            or key.device != keys[0].device
        ):
            raise ValueError(
                f"Layer {layer}: keys {tuple(key.shape)} and values {tuple(value.shape)} do not fit."
            )
        if not key.is_contiguous() or not value.is_contiguous():
            raise ValueError(f"Layer {layer}: the cache's tensors must be contiguous.")
    cache = Cache(list(keys), list(values))
    with _lock:
        _caches[handle] = cache
        _native.bind(handle, cache)


def _begin_step(handle: int, block_tables: Tensor, query_starts: Tensor, context_lengths: Tensor) -> None:
    with _lock:
        cache = _cache(handle)
        step = _checked_step(cache, block_tables, query_starts.tolist(), context_lengths.tolist())
        cache.step = step
        _native.begin(handle, step)


def _checked_step(cache: Cache, block_tables: Tensor, starts: list[int], contexts: list[int]) -> Step:
    """Refuse what would reach outside the cache: kernels trust a step that began."""
    size, num_blocks = cache.block_size, cache.keys[0].shape[0]
    tables = block_tables.to(cache.keys[0].device, torch.int32).contiguous()
    if len(tables) != len(contexts) or len(starts) != len(contexts) + 1 or starts[0] != 0:
        raise ValueError(f"{len(tables)} tables, {len(starts)} starts, {len(contexts)} lengths do not fit.")
    named = tables.cpu().numpy()
    for number, (start, end) in enumerate(itertools.pairwise(starts)):
        context = contexts[number]
        used = named[number, : -(-context // size)]
        if not 0 <= end - start <= context or context > size * named.shape[1]:
            raise ValueError(
                f"Sequence {number}: {end - start} tokens of {context} in {named.shape[1]} blocks."
            )
        if used.size and not 0 <= used.min() <= used.max() < num_blocks:
            raise ValueError(f"Sequence {number} names a block outside the cache of {num_blocks} blocks.")
    return Step(tables, starts, contexts, size)


def _release_cache(handle: int) -> None:
    with _lock:
        _native.release(handle)
        _caches.pop(handle, None)


_define("bind_cache(int handle, Tensor[] keys, Tensor[] values) -> ()", _bind_cache)
_define(
    "begin_step(int handle, Tensor block_tables, Tensor query_starts, Tensor context_lengths) -> ()",
    _begin_step,
)
_define("release_cache(int handle) -> ()", _release_cache)


# Attention


def attention_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    handle: Tensor,
    layer: int,
    scale: float,
    window: int,
    softcap: float,
    sinks: Tensor | None,
) -> Tensor:
    """Write the step's keys and values into the cache, then attend causally: what `custos.attention` must compute.

    query (1, H, T, Dk), key (1, Hkv, T, Dk), value (1, Hkv, T, Dv), handle (1,) int64; the result is (1, T, H, Dv).
    A query sees the last `window` positions, its own included; 0 means all. `softcap` bounds scores by
    softcap * tanh(score / softcap); 0 means not. `sinks` (H,) are logits that take part in the softmax only.
    """
    cache = _cache(int(handle))
    step = cache.step
    if step is None or query.shape[2] != step.query_starts[-1]:
        raise RuntimeError(f"{query.shape[2]} tokens were given to a step that began otherwise.")
    keys, values = cache.keys[layer], cache.values[layer]
    blocks, offsets = step.slots
    keys[blocks, :, offsets] = key[0].transpose(0, 1).to(keys.dtype)
    values[blocks, :, offsets] = value[0].transpose(0, 1).to(values.dtype)
    result = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
    for rows in _rows_of_equal_length(step):
        tokens = torch.cat([torch.arange(step.query_starts[row], step.query_starts[row + 1]) for row in rows])
        tokens = tokens.to(query.device)
        queries = query[0][:, tokens].unflatten(1, (len(rows), -1)).transpose(0, 1)  # (S, H, n, Dk)
        contexts = torch.tensor([step.context_lengths[row] for row in rows], device=query.device)
        used = -(-int(contexts.max()) // cache.block_size)
        visible = _visible(contexts, queries.shape[2], used * cache.block_size, window)
        # Unseen places may hold anything, also what is not a number, and zero times that would not be zero.
        unseen = ~visible.any(dim=2)[..., None]
        # Past a row's own end its table may name anything too: in reach, but never seen.
        tables = step.block_tables[rows, :used].long().clamp(0, keys.shape[0] - 1)
        gathered = (cached[tables].transpose(1, 2).flatten(2, 3) for cached in (keys, values))
        seen_keys, seen_values = (part.masked_fill(unseen, 0) for part in gathered)  # (S, Hkv, L, D)
        attended = _attend(queries, seen_keys, seen_values, visible, scale, softcap, sinks)
        result[tokens] = attended.transpose(1, 2).flatten(0, 1).to(result.dtype)
    return result[None]


def _rows_of_equal_length(step: Step) -> list[list[int]]:
    """The sequences by how many tokens they have in the step: decoding ones go together."""
    groups: dict[int, list[int]] = {}
    for row, (start, end) in enumerate(itertools.pairwise(step.query_starts)):
        if end > start:
            groups.setdefault(end - start, []).append(row)
    return list(groups.values())


def _visible(contexts: Tensor, queries: int, keys: int, window: int) -> Tensor:
    """Which key each query may see: (S, 1, queries, keys) of bool."""
    places = torch.arange(keys, device=contexts.device)
    own = (contexts[:, None] - queries + torch.arange(queries, device=contexts.device))[:, None, :, None]
    visible = places <= own
    return visible & (places > own - window) if window else visible


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor,
    scale: float,
    softcap: float,
    sinks: Tensor | None,
) -> Tensor:
    if not softcap and sinks is None:
        return functional.scaled_dot_product_attention(
            query, key.to(query.dtype), value.to(query.dtype), attn_mask=visible, scale=scale, enable_gqa=True
        )
    exact = torch.promote_types(query.dtype, torch.float32)
    groups = query.shape[1] // key.shape[1]
    scores = query.to(exact) @ key.to(exact).repeat_interleave(groups, dim=1).transpose(2, 3) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~visible, -torch.inf)
    if sinks is not None:
        sink = sinks.to(exact)[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sink], dim=3)
    shares = scores.softmax(dim=3)[..., : key.shape[2]]
    return shares @ value.to(exact).repeat_interleave(groups, dim=1)


_define_with_reference(
    "attention",
    "(Tensor query, Tensor key, Tensor value, Tensor handle, int layer, float scale, int window, float softcap, "
    "Tensor? sinks) -> Tensor",
    attention_reference,
)


@torch.library.register_fake("custos::attention", lib=_library)
def _(query: Tensor, key: Tensor, value: Tensor, *_: object) -> Tensor:
    return query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])


# Linear


def linear_reference(x: Tensor, weight: Tensor, scale: Tensor | None, out_features: int) -> Tensor:
    """x (..., K) times a packed weight: (..., out_features), in x's dtype. `scale` comes with int8 weights."""
    exact = torch.promote_types(x.dtype, torch.float32)
    result = functional.linear(x.to(exact), unpack(weight, out_features, x.shape[-1]).to(exact))
    return (result if scale is None else result * scale[:out_features]).to(x.dtype)


def _linears(x: Tensor, *weights: Any) -> tuple[Tensor, ...]:
    """`linear_reference` of x with each weight, scale and number of outputs, which come one after the other."""
    return tuple(linear_reference(x, *weights[at : at + 3]) for at in range(0, len(weights), 3))


def embedding_reference(ids: Tensor, weight: Tensor, scale: Tensor | None, width: int) -> Tensor:
    """The rows `ids` (...) of a packed weight: (..., width), bfloat16 for an int8 weight, else the weight's dtype."""
    rows = weight[ids // LANES, :, ids % LANES].flatten(-2)[..., :width]
    return rows if scale is None else (rows * scale[ids][..., None]).to(torch.bfloat16)


def _several(count: int) -> str:
    weights = ", ".join(f"Tensor weight_{i}, Tensor? scale_{i}, int out_{i}" for i in range(count))
    return f"(Tensor x, {weights}) -> ({', '.join(['Tensor'] * count)})"


_define_with_reference(
    "linear", "(Tensor x, Tensor weight, Tensor? scale, int out_features) -> Tensor", linear_reference
)
_define_with_reference("linear_2", _several(2), _linears)
_define_with_reference("linear_3", _several(3), _linears)
_define_with_reference(
    "embedding", "(Tensor ids, Tensor weight, Tensor? scale, int width) -> Tensor", embedding_reference
)


@torch.library.register_fake("custos::linear", lib=_library)
def _(x: Tensor, weight: Tensor, scale: Tensor | None, out_features: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], out_features)


@torch.library.register_fake("custos::linear_2", lib=_library)
@torch.library.register_fake("custos::linear_3", lib=_library)
def _(x: Tensor, *weights: Any) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(*x.shape[:-1], outputs) for outputs in weights[2::3])


@torch.library.register_fake("custos::embedding", lib=_library)
def _(ids: Tensor, weight: Tensor, scale: Tensor | None, width: int) -> Tensor:
    return weight.new_empty(*ids.shape, width, dtype=weight.dtype if scale is None else torch.bfloat16)
