"""Replaced layers compute what the model's own do, in less memory, and only plain layers are replaced."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from inference.engine.kernels.build import Status
from inference.engine.layers import (
    Int8Embedding,
    Int8Linear,
    PackedEmbedding,
    PackedLinear,
    Precision,
    replace_layers,
    weight_bytes,
)

_SHAPE: dict[str, Any] = {
    "vocab_size": 301,  # Odd, as are the numbers below: nothing fits the kernels' blocks.
    "hidden_size": 36,
    "intermediate_size": 51,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,
}
IDS = torch.tensor([[n % 300 for n in range(3, 120, 4)]])


def llama(*, tied: bool, bias: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(2)
    config = LlamaConfig(**_SHAPE, tie_word_embeddings=tied, attention_bias=bias, mlp_bias=bias)
    model = LlamaForCausalLM(config).bfloat16().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    return model


@torch.inference_mode()
def logits(model: PreTrainedModel) -> torch.Tensor:
    return model(input_ids=IDS).logits[0].float()


# --- What they compute --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("precision", "packed"), [("bfloat16", True), ("int8", True), ("int8", False)])
def test_a_model_with_replaced_layers_says_nearly_the_same(
    kernels: Status, precision: Precision, packed: bool, tied: bool, bias: bool
) -> None:
    model = llama(tied=tied, bias=bias)
    truth = logits(copy.deepcopy(model).float())
    plain = torch.cosine_similarity(logits(model), truth).min()
    replaced = replace_layers(model, precision=precision, packed=packed)
    assert replaced.num_layers == 2 * 7 + 1 + (precision == "int8" and not tied)
    found = torch.cosine_similarity(logits(model), truth).min()
    assert plain > 0.9995
    # As bfloat16 as before, or 8 bits a weight.
    assert found > (0.9995 if precision == "bfloat16" else 0.999)


@pytest.mark.parametrize(("precision", "packed"), [("float32", False), ("bfloat16", False)])
def test_without_kernels_a_float_model_stays_as_it_is(precision: Precision, packed: bool) -> None:
    model = llama(tied=True)
    before = dict(model.named_modules())
    replaced = replace_layers(model, precision=precision, packed=packed)
    assert replaced.num_layers == 0
    assert replaced.weight_bytes == weight_bytes(model) == 2 * sum(p.numel() for p in model.parameters())
    assert dict(model.named_modules()) == before


@pytest.mark.parametrize("inputs", [32, 36, 48, 51, 64])
def test_int8_without_kernels_takes_any_size(inputs: int) -> None:
    """torch's kernel gives nonsense, or crashes, where inputs do not come out even."""
    weight = torch.randint(-127, 128, (37, inputs), dtype=torch.int8)
    scale = torch.rand(37).bfloat16() / 100
    layer = Int8Linear(weight, scale, nn.Parameter(torch.randn(37).bfloat16()))
    x = torch.randn(2, 9, inputs).bfloat16()
    exact = x.double() @ (weight.double() * scale.double()[:, None]).T + layer.bias.double()
    torch.testing.assert_close(layer(x).double(), exact, rtol=0.02, atol=0.05)


def test_int8_elsewhere_than_on_a_cpu_is_the_same_arithmetic() -> None:
    """A GPU widens the weights as they are used; the meta device at least takes that path, and shapes agree."""
    layer = Int8Linear(torch.ones(5, 7, dtype=torch.int8), torch.ones(5, dtype=torch.bfloat16), None)
    x = torch.randn(2, 3, 7).bfloat16()
    assert layer.to("meta")(x.to("meta")).shape == (2, 3, 5)


def test_each_row_has_a_scale_of_its_own() -> None:
    """One large weight coarsens its own row only."""
    layer = nn.Linear(64, 3, bias=False).bfloat16()
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, 192).view(3, 64))
        layer.weight[0, 0] = 1000.0
    holder = llama(tied=False)
    holder.lm_head = layer
    replace_layers(holder, precision="int8", packed=False)
    head = holder.lm_head
    assert isinstance(head, Int8Linear)
    widened = head.weight.float() * head.scale.float()[:, None]
    off = (widened - layer.weight.float()).abs().amax(dim=1)
    assert off[0] > 0.3
    assert (off[1:] < 0.01).all()
    assert head.weight.abs().amax(dim=1).tolist() == [127, 127, 127]


def test_a_row_of_zeros_stays_zero() -> None:
    model = llama(tied=False)
    with torch.no_grad():
        model.lm_head.weight[7] = 0
    for packed in (False, True):
        changed = copy.deepcopy(model)
        replace_layers(changed, precision="int8", packed=packed)
        assert (logits(changed)[:, 7] == 0).all()


# --- What is shared, and how much is left -------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "packed"), [("bfloat16", True), ("int8", True), ("int8", False)])
def test_embedding_and_head_go_on_sharing_one_tensor(precision: Precision, packed: bool) -> None:
    model = llama(tied=True)
    replace_layers(model, precision=precision, packed=packed)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert isinstance(embedding, PackedEmbedding if packed else Int8Embedding)
    assert isinstance(head, PackedLinear if packed else Int8Linear)
    assert embedding.weight is head.weight
    assert embedding.scale is head.scale
    assert embedding.num_embeddings == 301


@pytest.mark.parametrize("packed", [True, False])
def test_int8_takes_at_most_55_hundredths_of_bfloat16(packed: bool) -> None:
    config = LlamaConfig(  # SmolLM2-135M's shape, without its memory.
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config).bfloat16()
    model.tie_weights()
    before = weight_bytes(model)
    assert before == pytest.approx(269e6, rel=0.01)
    replaced = replace_layers(model, precision="int8", packed=packed)
    assert replaced.num_layers == 30 * 7 + 1
    assert replaced.weight_bytes <= 0.55 * before


# --- What is left alone -------------------------------------------------------------------------------------


def test_a_subclass_is_left_alone() -> None:
    class Doubling(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model = llama(tied=False)
    own = Doubling(36, 301, bias=False).bfloat16()
    model.lm_head = own
    replaced = replace_layers(model, precision="int8", packed=False)
    assert model.lm_head is own
    assert replaced.num_layers == 2 * 7 + 1


def test_an_embedding_that_scales_is_left_alone_though_its_head_is_tied(kernels: Status) -> None:
    torch.manual_seed(4)
    model = Gemma3ForCausalLM(Gemma3TextConfig(**_SHAPE, head_dim=18)).bfloat16().eval()
    embedding = model.get_input_embeddings()
    truth = logits(copy.deepcopy(model).float())
    replace_layers(model, precision="int8", packed=True)
    assert model.get_input_embeddings() is embedding
    assert isinstance(model.lm_head, PackedLinear)
    assert torch.cosine_similarity(logits(model), truth).min() > 0.998


def test_layers_that_are_no_linear_ones_are_left_alone() -> None:
    torch.manual_seed(4)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=301, n_embd=36, n_layer=2, n_head=2)).bfloat16().eval()
    truth = logits(copy.deepcopy(model).float())
    replaced = replace_layers(model, precision="int8", packed=False)
    # The head, whose tensor the embedding shares; the layers are convolutions by name.
    assert replaced.num_layers == 1
    assert torch.cosine_similarity(logits(model), truth).min() > 0.998
