"""The compiled graph computes what the model does; where there is none, the model serves and says why."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from inference.engine import graph
from inference.engine.aoti import CompiledStep, GraphFailed, GraphUnavailable
from inference.engine.attention import NAME, probe_layers
from inference.engine.engine import Engine, Limits
from inference.engine.graph import graph_path, load_graph
from inference.engine.kernels import build
from inference.engine.kernels.build import Status
from inference.engine.layers import replace_layers
from inference.engine.runner import Runner
from inference.engine.scheduler import Work
from inference.models.folder import prepare
from inference.models.load import LoadedModel, load
from inference.models.source import parse_source
from inference.server import hosting
from inference.server.hosting import GraphState, Host
from tests.inference.conftest import CPU, ask, random_llama, until
from tests.support.services import MODELS_DIR

CACHE_DIR = MODELS_DIR / "compiled"  # Kept between runs: the graph's name says all that it depends on.

MakeHost = Callable[..., Host]


@pytest.fixture(scope="module")
def folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose embedding and head are one, which is the harder case."""
    model = random_llama(
        11,
        vocab_size=320,
        hidden_size=64,
        intermediate_size=96,
        max_position_embeddings=512,
        initializer_range=0.2,
        pad_token_id=None,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-graph"
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def loaded_model(folder: Path, **changes: Any) -> Any:
    """In bfloat16, its layers packed, as served."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation=NAME, **changes
    ).eval()
    replace_layers(model, precision="bfloat16", packed=True)
    return model


@pytest.fixture(scope="module")
def model(folder: Path, kernels: Status) -> Any:
    return loaded_model(folder)


@pytest.fixture(scope="module")
def compiled(folder: Path, kernels: Status) -> Path:
    """The graph: from disk, or made as the child makes it, but here, where it is not the last to get the processor."""
    path = graph_path(folder, "bfloat16", kernels, CACHE_DIR)
    if not path.exists():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
            patch.setattr(graph.os, "nice", lambda increment: 0)
            patch.setattr(graph, "_end_with_parent", lambda: None)
            here = SimpleNamespace(
                Popen=lambda command, **options: graph.main(command[3:]), DEVNULL=None, STDOUT=None
            )
            patch.setattr(graph, "subprocess", here)
            graph.compile_in_background(folder, "bfloat16", CACHE_DIR, path)
        assert not list(CACHE_DIR.glob(f".compiling-*/{path.name}"))
    return path


@pytest.fixture
def loaded(folder: Path, kernels: Status, tmp_path: Path) -> LoadedModel:
    found = load(
        prepare(parse_source(str(folder)), tmp_path), dtype=torch.bfloat16, device=CPU, attention=NAME
    )
    replace_layers(found.model, precision="bfloat16", packed=True)
    return found


class Part:
    """A sequence as far as a runner looks at it."""

    def __init__(self, tokens: list[int], block_ids: list[int]) -> None:
        self.token_ids = tokens
        self.block_ids = block_ids
        self.num_computed_tokens = 0
        self.draft_ids: list[int] = []

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)


@contextmanager
def forbidden(model: Any) -> Iterator[None]:
    """Within, the model's own code must not run."""

    def refuse(*_: object) -> None:
        raise AssertionError("the model itself was run")

    hook = model.register_forward_pre_hook(refuse)
    yield
    hook.remove()


def fail(*_: object) -> None:
    raise GraphFailed("no")


# --- With a graph ---------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)  # Compiling takes 20 s on a quiet machine.
def test_it_computes_what_the_model_does_in_steps_of_any_size(model: Any, compiled: Path) -> None:
    def run(use_graph: bool) -> Iterator[torch.Tensor]:
        runner = Runner(model, probe_layers(model), num_blocks=16)
        if use_graph:
            runner.use(load_graph(compiled, model))
        long = Part([n % 300 + 3 for n in range(90)], [3, 4, 5, 6, 7, 8])
        short = Part([7, 8, 9], [1])
        for steps in ([(long, 37)], [(long, 53), (short, 2)], [(short, 1)]):
            yield runner.run([Work(part, count) for part, count in steps])
            for part, count in steps:
                part.num_computed_tokens += count
        for part in (long, short):
            part.token_ids.append(5)
        long.draft_ids = [6, 7]
        yield runner.run([Work(long, 3), Work(short, 1)])
        runner.close()

    for ours, truth in zip(run(use_graph=True), run(use_graph=False), strict=True):
        assert ours.shape == truth.shape
        if len(truth):
            assert torch.cosine_similarity(ours.float(), truth.float()).min() > 0.999


async def test_an_engine_answers_by_it_and_no_longer_by_the_model(
    folder: Path, model: Any, compiled: Path, tokenizer: Any
) -> None:
    truth = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    engine = Engine(
        model, tokenizer, eos_token_ids=frozenset(), limits=Limits(max_context=256, max_running=4)
    )
    try:
        assert engine.stats().graph == "eager"
        engine.use(load_graph(compiled, model))
        with forbidden(model):
            ids = await ask(engine, [5, 6, 7], 30)
        assert engine.stats().graph == "compiled"
    finally:
        engine.close()
    with torch.no_grad():
        logits = truth(torch.tensor([[5, 6, 7, *ids]])).logits[0, 2:-1]
    # Rounding may choose between near equals, so each token is nearly the likeliest.
    behind = logits.amax(-1) - logits[torch.arange(30), torch.tensor(ids)]
    assert (behind < 0.1 * logits.std(-1)).all()


async def test_a_host_takes_it_from_disk_and_so_do_the_engines_after_a_restart(
    loaded: LoadedModel, compiled: Path, kernels: Status, make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "compile_in_background", None)  # Not called.
    host = make_host(loaded, precision="bfloat16", cache_dir=CACHE_DIR, kernels=kernels)
    host.start(compile_graph=True)
    await until(lambda: host.graph.state != "eager")
    assert host.graph == GraphState("compiled")
    assert host.engine.stats().graph == "compiled"
    host._restart(1.0)
    assert host.engine.stats().graph == "compiled"
    with forbidden(loaded.model):
        assert len(await ask(host.engine, [5, 6, 7], 8, ignore_eos=True)) == 8


async def test_a_step_that_it_fails_is_computed_by_the_model(
    model: Any, tokenizer: Any, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(
        model, tokenizer, eos_token_ids=frozenset(), limits=Limits(max_context=256, max_running=4)
    )
    try:
        expected = await ask(engine, [5, 6, 7], 8)
        engine.use(load_graph(compiled, model))
        engine.reset_prefix_cache()
        monkeypatch.setattr(CompiledStep, "__call__", fail)
        assert await ask(engine, [5, 6, 7], 8) == expected
    finally:
        engine.close()


# --- Graphs that do not fit -----------------------------------------------------------------------------------


def test_a_file_that_is_no_graph_is_refused_and_removed(model: Any, tmp_path: Path) -> None:
    broken = tmp_path / "graph.so"
    broken.write_bytes(b"\x7fELF, but not really")
    with pytest.raises(GraphUnavailable, match="cannot be loaded"):
        load_graph(broken, model)
    assert not broken.exists()


def test_another_library_is_refused(model: Any, kernels: Status, tmp_path: Path) -> None:
    library = tmp_path / "graph.so"
    library.write_bytes(next(CACHE_DIR.glob("kernels-*.so")).read_bytes())
    with pytest.raises(GraphUnavailable, match="cannot be loaded"):
        load_graph(library, model)


def test_a_graph_of_a_model_with_other_weights_or_arithmetic_is_refused(folder: Path, compiled: Path) -> None:
    with pytest.raises(GraphUnavailable, match="lacks"):
        load_graph(compiled, loaded_model(folder, num_hidden_layers=1))
    with pytest.raises(GraphUnavailable, match="disagree"):
        load_graph(compiled, loaded_model(folder, rms_norm_eps=10.0))


def test_a_graph_that_fails_at_once_is_refused(
    model: Any, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CompiledStep, "__call__", fail)
    with pytest.raises(GraphUnavailable):
        load_graph(compiled, model)


def test_its_name_changes_with_all_that_it_depends_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = Status(True, "", "avx512")

    def name(precision: Any = "bfloat16", kernels: Status = kernels) -> str:
        return graph_path(tmp_path, precision, kernels, Path("cache")).name

    config = tmp_path / "config.json"
    config.write_bytes((folder / "config.json").read_bytes())
    names = {name(), name(precision="int8"), name(kernels=Status(True, "", "amx"))}
    assert name() in names
    config.write_text(config.read_text().replace('"hidden_size": 64', '"hidden_size": 32'))
    names.add(name())
    monkeypatch.setattr(torch, "__version__", "99")
    names.add(name())
    monkeypatch.setattr(graph, "_SOURCES", graph._SOURCES[:-1])
    names.add(name())
    assert len(names) == 6


# --- Without a graph ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["PATH", "CXX"])
async def test_without_a_compiler_the_model_serves_and_says_why(
    loaded: LoadedModel, make_host: MakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    monkeypatch.setattr(build, "_status", None)
    kernels = build.load_kernels(tmp_path / "cache")
    assert not kernels.loaded
    host = make_host(loaded, kernels=kernels)
    host.start(compile_graph=True)
    assert host.graph.state == "eager"
    assert "No C++ compiler was found" in host.graph.detail
    assert len(await ask(host.engine, [5, 6, 7], 4, ignore_eos=True)) == 4


async def test_a_compiler_that_fails_leaves_the_model_serving_and_names_the_log(
    loaded: LoadedModel, kernels: Status, make_host: MakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hosting, "compile_in_background", lambda *_: subprocess.Popen(["false"]))
    host = make_host(loaded, kernels=kernels)
    host.start(compile_graph=True)
    await until(lambda: bool(host.graph.detail))
    assert host.graph.state == "eager"
    assert "failed with status 1" in host.graph.detail and ".log" in host.graph.detail
    assert len(await ask(host.engine, [5, 6, 7], 4, ignore_eos=True)) == 4


async def test_a_compiler_that_cannot_start_leaves_the_model_serving(
    loaded: LoadedModel, kernels: Status, make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(hosting, "compile_in_background", refuse)
    host = make_host(loaded, kernels=kernels)
    host.start(compile_graph=True)
    await until(lambda: bool(host.graph.detail))
    assert host.graph == GraphState("eager", "No space left on device")


async def test_while_it_is_compiled_the_model_serves_and_closing_ends_the_compiler(
    loaded: LoadedModel, kernels: Status, make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    compilers: list[subprocess.Popen[bytes]] = []

    def start(*_: object) -> subprocess.Popen[bytes]:
        compilers.append(subprocess.Popen(["sleep", "60"]))
        return compilers[0]

    monkeypatch.setattr(hosting, "compile_in_background", start)
    host = make_host(loaded, kernels=kernels)
    host.start(compile_graph=True)
    await until(lambda: bool(compilers))
    assert host.graph.state == "compiling"
    assert len(await ask(host.engine, [5, 6, 7], 4, ignore_eos=True)) == 4
    host.close()
    assert compilers[0].wait(10) < 0
    await until(lambda: host.graph.state == "eager")
