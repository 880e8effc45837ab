"""Models and a server for the inference tests: the real one once, and a tiny random one."""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # As the server does; read when torch is loaded.

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from inference.engine.attention import NAME
from inference.engine.engine import Engine, Limits
from inference.engine.request import Request, SamplingParameters
from inference.engine.stream import Finished, Stream, Token
from inference.models.folder import ModelFolder, prepare
from inference.models.load import LoadedModel, load
from inference.models.source import parse_source
from tests.support.inference import start_inference_server
from tests.support.services import MODELS_DIR

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def forget_keys() -> None:
    """Nothing here uses the console's keys."""


@pytest.fixture(scope="session")
def smollm2_folder() -> ModelFolder:
    return prepare(parse_source("smollm2"), MODELS_DIR)


@pytest.fixture(scope="session")
def smollm2(smollm2_folder: ModelFolder) -> LoadedModel:
    """SmolLM2 as it is served: bfloat16."""
    return load(smollm2_folder, dtype=torch.bfloat16, device=CPU)


@pytest.fixture(scope="session")
def smollm2_exact(smollm2_folder: ModelFolder) -> LoadedModel:
    """SmolLM2 in float32, where rounding never decides which of two tokens is likelier."""
    return load(smollm2_folder, dtype=torch.float32, device=CPU)


@pytest.fixture(scope="session")
def tokenizer(smollm2: LoadedModel) -> Any:
    return smollm2.tokenizer


@pytest.fixture(scope="session")
def tiny_model() -> LlamaForCausalLM:
    """A random two-layer Llama with SmolLM2's vocabulary; a step takes a few milliseconds."""
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.3,  # Large, so that the model does not say one token for ever.
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tiny_folder(tiny_model: LlamaForCausalLM, tokenizer: Any, tmp_path_factory: Any) -> Path:
    """The tiny model as an operator would keep it: a folder of safetensors."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


EngineMaker = Callable[..., Engine]


def served(model: Any) -> Any:
    """A copy that attends by the engine's own attention; the original stays what `generate` is asked of."""
    copied = copy.deepcopy(model)
    copied.set_attn_implementation(NAME)
    return copied


@pytest.fixture
def make_engine(tokenizer: Any) -> Iterator[EngineMaker]:
    """Engines that are closed, and proven empty, when the test ends."""
    engines: list[Engine] = []

    def make(model: Any, *, eos: frozenset[int] = frozenset({2}), **limits: int) -> Engine:
        limits.setdefault("max_context", 4096)
        engines.append(Engine(served(model), tokenizer, eos_token_ids=eos, limits=Limits(**limits)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
        engine.check()
        stats = engine.stats()
        assert stats.kv_blocks_used == 0


@pytest.fixture
async def tiny(make_engine: EngineMaker, tiny_model: LlamaForCausalLM) -> AsyncIterator[Engine]:
    yield make_engine(tiny_model)


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[str, str]]:
    """(url, token) of a server process with the real model."""
    url, token, stop = start_inference_server()
    yield url, token
    stop()


# --- What tests say of engines -----------------------------------------------------------------------


def submit(engine: Engine, prompt: list[int], **sampling: Any) -> Stream:
    """Greedy and 16 tokens, unless said otherwise."""
    parameters = SamplingParameters(**{"max_tokens": 16, "temperature": 0.0, **sampling})
    return engine.submit(Request("test", tuple(prompt), parameters))


async def collect(stream: Stream) -> tuple[list[int], str, Finished]:
    """Read to the end: (token ids, text, last event)."""
    ids, text = [], ""
    async for event in stream:
        text += event.text
        if isinstance(event, Token):
            ids.append(event.id)
        else:
            finished = event
    return ids, text, finished


def generate(model: Any, prompt: list[int], max_tokens: int) -> list[int]:
    """The truth: transformers' own greedy answer, without the end token."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False
    )
    answer = output[0, len(prompt) :].tolist()
    return answer[: answer.index(2)] if 2 in answer else answer


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for `condition`, failing after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
