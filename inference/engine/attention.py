"""Our attention inside transformers' own model code.

transformers calls it through `AttentionInterface`, so any causal LM that supports attention backends
runs unchanged. All tokens of a step come as one row, whoever they belong to; whose keys and values
each token may see is in the step that `custos.begin_step` announced (see `kernels`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import inference.engine.kernels.ops  # noqa: F401  It defines torch.ops.custos.

NAME = "custos"
# What a model may hand to its attention and still get the right answer from ours. Anything else
# that is not None (ALiBi biases, sparse indices, …) would be ignored silently, so it is refused.
_IRRELEVANT = {
    *(
        "position_ids",
        "use_cache",
        "cache_position",
        "output_attentions",
        "output_hidden_states",
        "is_causal",
    ),
    *("position_embeddings", "past_key_values", "return_dict", "logits_to_keep", "output_router_logits"),
}

_now = threading.local()


class UnsupportedAttention(Exception):
    """The model's attention needs something that ours does not do."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer keeps of a token: `heads` keys of size `key` and as many values of size `value`.

    `dtype` is theirs. A model's own `dtype` is that of any weight, as of the float32 scales of int8 ones.
    """

    heads: int
    key: int
    value: int
    dtype: torch.dtype


class PassThrough:
    """What the model takes for its cache. Keeping is the attention's work, as only it knows the step."""

    is_compileable = False
    is_sliding = ()

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return keys, values

    def get_seq_length(self, *_: object) -> int:
        return 0


@contextmanager
def attending(handle: torch.Tensor) -> Iterator[PassThrough]:
    """Within, this thread's models attend to the cache of `handle` (1,). Gives what to pass them as cache."""
    _now.handle = handle
    try:
        yield PassThrough()
    finally:
        _now.handle = None


def probe_layers(model: PreTrainedModel) -> dict[int, LayerShape]:
    """Run one token to see what each layer keeps. Raises UnsupportedAttention."""
    shapes: dict[int, LayerShape] = {}
    _now.probe = shapes
    try:
        ids = torch.zeros((1, 1), dtype=torch.long, device=model.device)
        with torch.inference_mode():
            model(input_ids=ids, position_ids=ids, past_key_values=PassThrough(), use_cache=True)
    finally:
        _now.probe = None
    if sorted(shapes) != list(range(len(shapes))) or not shapes:
        raise UnsupportedAttention("This model's layers do not all attend through transformers' interface.")
    return shapes


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """(1, H, T, D) queries against everything their sequences hold; returns (1, T, H, D)."""
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    if getattr(_now, "probe", None) is not None:
        _record_shape(layer, key, value, attention_mask, others)
        output, _ = sdpa_attention_forward(module, query, key, value, None, scaling=scaling, is_causal=True)
        return output, None
    output = torch.ops.custos.attention(
        query,
        key,
        value,
        _now.handle,
        layer,
        query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        sliding_window or 0,
        softcap or 0.0,
        s_aux,
    )
    return output, None


def _record_shape(
    layer: int, key: torch.Tensor, value: torch.Tensor, mask: object, others: dict[str, Any]
) -> None:
    unknown = [name for name, given in others.items() if given is not None and name not in _IRRELEVANT]
    if mask is not None:
        unknown.append("attention_mask")
    if unknown:
        raise UnsupportedAttention(f"This model's attention needs {', '.join(sorted(unknown))}.")
    if layer in _now.probe:
        raise UnsupportedAttention("Layers of this model share keys and values.")
    _now.probe[layer] = LayerShape(key.shape[1], key.shape[3], value.shape[3], key.dtype)


AttentionInterface.register(NAME, _attend)
