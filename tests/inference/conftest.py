"""Models and a server for the inference tests: the real one once, and a tiny random one."""

from __future__ import annotations

import asyncio
import copy
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # As the server does; read when torch is loaded.

import httpx
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from inference.engine.attention import NAME, probe_layers
from inference.engine.engine import Engine, Limits
from inference.engine.kernels import ops
from inference.engine.kernels.build import Status, load_kernels
from inference.engine.layers import Precision
from inference.engine.memory import bytes_per_block
from inference.engine.request import Request, SamplingParameters
from inference.engine.stream import Finished, Stream, Token
from inference.models.folder import ModelFolder, prepare
from inference.models.load import LoadedModel, load
from inference.models.source import parse_source
from inference.server.hosting import Host
from tests.support.inference import start_inference_server
from tests.support.services import MODELS_DIR

CPU = torch.device("cpu")
NO_KERNELS = Status(loaded=False, reason="None here.", isa="")

# Of all lengths, and different from the first token on.
PROMPTS = [[1, 40 + n, 300, 7, 90 * n + 11, 5, *range(100, 100 + 9 * n)] for n in range(6)]


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
def tokenizer(smollm2_folder: ModelFolder) -> Any:
    return AutoTokenizer.from_pretrained(smollm2_folder.path, local_files_only=True)


@pytest.fixture(scope="session")
def kernels() -> Status:
    """The compiled kernels, kept between runs like the converted model. The whole process uses them from now on."""
    status = load_kernels(MODELS_DIR / "compiled")
    assert status.loaded, status.reason
    return status


def random_llama(seed: int, **config: Any) -> LlamaForCausalLM:
    """A small Llama with random weights; `config` is what differs from the usual."""
    usual = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**usual, **config})).eval()


@pytest.fixture(scope="session")
def tiny_model() -> LlamaForCausalLM:
    """A random two-layer Llama with SmolLM2's vocabulary; a step takes a few milliseconds."""
    # The weights are large, so that the model does not say one token for ever.
    return random_llama(7, vocab_size=49152, attn_implementation="sdpa")


@pytest.fixture(scope="session")
def tiny_folder(tiny_model: LlamaForCausalLM, tokenizer: Any, tmp_path_factory: Any) -> Path:
    """The tiny model as an operator would keep it: a folder of safetensors."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def others_go_on() -> Iterator[None]:
    """Asserts that another thread is never held up for most of the time that the block takes."""
    ended = threading.Event()
    longest = 0.0

    def watch() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not ended.wait(0.001):
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()

    watching = threading.Thread(target=watch)
    watching.start()
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - started
        ended.set()
        watching.join()
    assert longest < seconds / 2


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

    def make(
        model: Any,
        *,
        eos: frozenset[int] = frozenset({2}),
        on_step: Callable[[float, int, int], None] = lambda seconds, rows, num_tokens: None,
        **limits: Any,
    ) -> Engine:
        limits.setdefault("max_context", 4096)
        engines.append(
            Engine(served(model), tokenizer, eos_token_ids=eos, limits=Limits(**limits), on_step=on_step)
        )
        return engines[-1]

    yield make
    for engine in engines:
        assert_books_balance(engine)
        engine.close(timeout=10.0)
        engine.check()
        stats = engine.stats()
        assert (stats.kv_blocks_used, stats.running, stats.waiting, stats.alive) == (0, 0, 0, False)
        assert engine._runner._memory.number not in ops._caches


@pytest.fixture
async def tiny(make_engine: EngineMaker, tiny_model: LlamaForCausalLM) -> AsyncIterator[Engine]:
    yield make_engine(tiny_model)


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Hosts that are closed when the test ends; without kernels unless said otherwise."""
    hosts: list[Host] = []

    def make(
        loaded: LoadedModel,
        *,
        precision: Precision = "float32",
        cache_dir: Path = tmp_path,
        kernels: Status = NO_KERNELS,
    ) -> Host:
        limits = Limits(max_context=256, max_running=4)
        hosts.append(
            Host(
                loaded,
                limits=limits,
                precision=precision,
                cache_dir=cache_dir,
                kernels=kernels,
                on_step=lambda seconds, rows, num_tokens: None,
            )
        )
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[str, str]]:
    """(url, token) of a server process with the real model."""
    url, token, stop = start_inference_server()
    yield url, token
    stop()


@pytest.fixture
async def http(server: tuple[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `server` that has its token."""
    url, token = server
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
        yield client


# --- What tests say of engines -----------------------------------------------------------------------


def submit(
    engine: Engine,
    prompt: list[int],
    *,
    tenant: str = "",
    priority: int = 0,
    cache_salt: str = "",
    **sampling: Any,
) -> Stream:
    """Greedy and 16 tokens, unless said otherwise."""
    parameters = SamplingParameters(**{"max_tokens": 16, "temperature": 0.0, **sampling})
    return engine.submit(Request("test", tuple(prompt), parameters, tenant, priority, cache_salt))


async def ask(engine: Engine, prompt: list[int], max_tokens: int = 16, **options: Any) -> list[int]:
    """The answer's tokens, end or not."""
    return (await collect(submit(engine, prompt, max_tokens=max_tokens, **options)))[0]


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
    if model.generation_config.eos_token_id is None:
        return answer
    return answer[: answer.index(2)] if 2 in answer else answer


def kv_bytes(model: Any, num_blocks: int) -> int:
    """What to set as `Limits.kv_bytes` for so many blocks."""
    return num_blocks * bytes_per_block(probe_layers(served(model)))


def assert_books_balance(engine: Engine) -> None:
    """What is used, cached and free adds up, whatever is under way."""
    with engine._changed:
        engine._blocks.check()
        blocks = engine._blocks
        assert blocks.num_free + blocks.num_cached + blocks.num_used == blocks.num_blocks


class Trouble:
    """Makes the model itself fail, under a condition on (input_ids, position_ids)."""

    def __init__(self, engine: Engine, condition: Callable[..., bool], error: Exception) -> None:
        self.raised = 0

        def check(module: Any, args: Any, kwargs: Any) -> None:
            if condition(kwargs["input_ids"], kwargs["position_ids"]):
                self.raised += 1
                raise error

        self._hook = engine._runner.model.register_forward_pre_hook(check, with_kwargs=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for `condition`, failing after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
