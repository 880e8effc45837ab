"""Every architecture answers as transformers' generate() does: alone, in company, in pieces, twice, from the cache.

Tiny random models in float32, where rounding does not decide which of two tokens is likelier.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers

from inference.engine.kernels.build import Status
from inference.models.load import LoadedModel
from inference.models.template import ChatTemplate
from tests.inference.conftest import EngineMaker, ask, collect, generate, kv_bytes, submit, until

_SHAPE = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,  # Large, so that the model does not say one token for ever.
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_WINDOW = {"sliding_window": 8}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LATENT = {  # DeepSeek's attention: keys and values of different sizes, rotated only in part.
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
}

# Name: (transformers' name, what differs from the shape above).
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "phi3": ("Phi3", {}),
    "mistral": ("Mistral", _WINDOW),
    "gemma2": (
        "Gemma2",
        {"head_dim": 16, "attn_logit_softcapping": 0.5, "query_pre_attn_scalar": 16, **_WINDOW},
    ),
    "gemma3": (
        "Gemma3",
        {
            "head_dim": 16,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            **_WINDOW,
        },
    ),
    "deepseek_v3": (
        "DeepseekV3",
        {
            **_LATENT,
            **_EXPERTS,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
        },
    ),
    "qwen3_moe": ("Qwen3Moe", {"head_dim": 16, **_EXPERTS}),
    "gpt_oss": ("GptOss", {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, **_WINDOW}),
    "gpt2": ("GPT2", {}),
}

_random = random.Random(5)
PROMPTS = [[_random.randrange(3, 256) for _ in range(length)] for length in (45, 3, 31, 47)]
NUM_TOKENS = 24


@dataclass
class Subject:
    """A model and what it answers to each of PROMPTS."""

    model: Any
    answers: list[list[int]]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def subject(request: pytest.FixtureRequest) -> Subject:
    name, differences = ARCHITECTURES[request.param]
    torch.manual_seed(3)
    config_class = getattr(transformers, f"{name}TextConfig", None) or getattr(transformers, f"{name}Config")
    model_class = getattr(transformers, f"{name}ForCausalLM", None) or getattr(
        transformers, f"{name}LMHeadModel"
    )
    model = model_class(config_class(**{**_SHAPE, **differences})).eval()
    model.set_attn_implementation("eager")
    model.generation_config.eos_token_id = None
    return Subject(model, [generate(model, prompt, NUM_TOKENS) for prompt in PROMPTS])


@pytest.fixture(autouse=True, scope="module")
def as_served(kernels: Status) -> Iterator[None]:
    """With the compiled kernels, as on a real machine; test_kernels compares them with those in Python."""
    yield


async def test_alone_a_prompt_in_pieces_is_answered_as_by_generate(
    make_engine: EngineMaker, subject: Subject
) -> None:
    engine = make_engine(subject.model, token_budget=9, max_running=8, speculate=False)
    ids, _, finished = await collect(submit(engine, PROMPTS[0], max_tokens=NUM_TOKENS, ignore_eos=True))
    assert ids == subject.answers[0]
    assert finished.reason == "length"
    steps = len(PROMPTS[0]) // 9 + NUM_TOKENS - 1  # The last piece gives the first token.
    await until(lambda: engine.stats().steps == steps)  # Counted just after the answer ends.


async def test_in_company_each_is_answered_as_alone_even_when_joining_midway(
    make_engine: EngineMaker, subject: Subject
) -> None:
    engine = make_engine(subject.model, token_budget=24, max_running=8)

    async def join_after(steps: int, prompt: list[int]) -> list[int]:
        await until(lambda: engine.stats().steps >= steps)
        return await ask(engine, prompt, NUM_TOKENS - steps, ignore_eos=True)

    answers = await asyncio.gather(*(join_after(3 * n, prompt) for n, prompt in enumerate(PROMPTS)))
    assert answers == [answer[: NUM_TOKENS - 3 * n] for n, answer in enumerate(subject.answers)]


async def test_who_is_sent_back_for_lack_of_memory_goes_on_with_the_same_answer(
    make_engine: EngineMaker, subject: Subject
) -> None:
    # Together they need 9 blocks for their prompts, so all come in, and 16 in the end.
    engine = make_engine(subject.model, kv_bytes=kv_bytes(subject.model, 12), token_budget=40, max_running=8)
    answers = await asyncio.gather(*(ask(engine, p, NUM_TOKENS, ignore_eos=True) for p in PROMPTS))
    assert answers == subject.answers
    assert engine.stats().preemptions > 0


async def test_a_second_turn_from_the_cache_after_a_reset_or_under_another_salt_is_the_same(
    make_engine: EngineMaker, subject: Subject
) -> None:
    engine = make_engine(subject.model)
    first = await ask(engine, PROMPTS[0], NUM_TOKENS, ignore_eos=True)
    second = [*PROMPTS[0], *first, 7, 8, 9]
    expected = generate(subject.model, second, NUM_TOKENS)

    async def turn(salt: str = "") -> tuple[list[int], int]:
        stream = submit(engine, second, max_tokens=NUM_TOKENS, ignore_eos=True, cache_salt=salt)
        ids, _, finished = await collect(stream)
        return ids, finished.cached_tokens

    assert await turn() == (expected, 64)  # Four blocks: the prompt and most of the answer.
    assert await turn(salt="somebody else") == (expected, 0)
    engine.reset_prefix_cache()
    assert await turn() == (expected, 0)


async def test_the_real_model_answers_as_generate_does(
    make_engine: EngineMaker, smollm2_exact: LoadedModel
) -> None:
    engine = make_engine(smollm2_exact.model, max_context=256, max_running=4)
    template = ChatTemplate(smollm2_exact.tokenizer)
    prompts = [
        template.encode_chat([{"role": "user", "content": question}])
        for question in ("What is a bank?", "写一首诗")
    ]
    answers = await asyncio.gather(*(collect(submit(engine, p, max_tokens=12)) for p in prompts))
    for prompt, (ids, text, _) in zip(prompts, answers, strict=True):
        assert ids == generate(smollm2_exact.model, prompt, 12)
        assert text == smollm2_exact.tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")
