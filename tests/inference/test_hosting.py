"""An engine that hangs is replaced: whoever waited is told, and the next request is served."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client import generate_latest

from inference.engine.attention import NAME
from inference.engine.engine import Limits
from inference.engine.errors import EngineStopped
from inference.engine.kernels import ops
from inference.engine.kernels.build import Status
from inference.engine.runner import StepModel
from inference.models.folder import prepare
from inference.models.load import LoadedModel, load
from inference.models.source import parse_source
from inference.models.template import ChatTemplate
from inference.server import hosting
from inference.server.hosting import Host, load_host
from inference.server.service import Options, Service, _Ready
from tests.inference.conftest import CPU, NO_KERNELS, PROMPTS, ask, collect, generate, submit, until

MakeHost = Callable[..., Host]


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    models_dir = tmp_path_factory.mktemp("prepared")
    return load(
        prepare(parse_source(str(tiny_folder)), models_dir), dtype=torch.float32, device=CPU, attention=NAME
    )


class Hang:
    """Makes the model wait, once for each time `again` is called, until `release`."""

    def __init__(self, model: Any) -> None:
        self._armed = threading.Semaphore(0)
        self._released = threading.Event()
        self._hook = model.register_forward_hook(self._wait)

    def _wait(self, *_: object) -> None:
        if self._armed.acquire(blocking=False):
            self._released.wait(60)

    def again(self) -> None:
        self._armed.release()

    def release(self) -> None:
        self._released.set()
        self._hook.remove()


@pytest.fixture
def hang(loaded: LoadedModel) -> Iterator[Hang]:
    made = Hang(loaded.model)
    yield made
    made.release()


@pytest.fixture
def host(loaded: LoadedModel, make_host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Watched: a step may take a second."""
    monkeypatch.setattr(hosting, "STALLED_SECONDS", 1.0)
    made = make_host(loaded)
    made.start(compile_graph=False)
    return made


def service_of(host: Host, tmp_path: Path) -> Service:
    service = Service(Options(model="tiny", models_dir=tmp_path))
    service._ready = _Ready(host, ChatTemplate(host.loaded.tokenizer), "tiny")
    return service


async def test_an_engine_that_hangs_is_replaced_and_its_requests_are_told(
    host: Host, hang: Hang, tiny_model: Any, tmp_path: Path
) -> None:
    service = service_of(host, tmp_path)
    assert (service.health()["state"], service.health()["restarts"]) == ("ready", 0)
    old = host.engine
    streams = [submit(old, prompt, max_tokens=200, ignore_eos=True) for prompt in PROMPTS[:2]]
    await anext(streams[0])
    hang.again()
    for stream in streams:
        with pytest.raises(EngineStopped, match="hung and was restarted; try again"):
            await collect(stream)
    assert host.engine is not old
    health = service.health()
    assert (health["state"], health["restarts"]) == ("ready", 1)
    assert "restarted at" in health["detail"] and "in one step" in health["detail"]
    assert await ask(service.ready().engine, PROMPTS[2], 12) == generate(tiny_model, PROMPTS[2], 12)
    with pytest.raises(EngineStopped):
        submit(old, PROMPTS[0])


async def test_a_thread_that_comes_back_after_all_ends_and_gives_its_memory_back(
    host: Host, hang: Hang
) -> None:
    old = host.engine
    stream = submit(old, PROMPTS[0], max_tokens=200, ignore_eos=True)
    await anext(stream)
    hang.again()
    with pytest.raises(EngineStopped):
        await collect(stream)
    assert old.stats().alive
    assert old._runner._memory.number in ops._caches
    hang.release()
    await until(lambda: not old.stats().alive)
    assert old._runner._memory.number not in ops._caches
    old.check()
    assert (old.stats().kv_blocks_used, old.stats().running) == (0, 0)
    assert host.num_restarts == 1


async def test_an_idle_engine_and_long_answers_are_left_alone(host: Host) -> None:
    engine = host.engine
    stream = submit(engine, PROMPTS[0], max_tokens=240, ignore_eos=True)
    await anext(stream)
    engine._last_step -= 0.5  # As if half a second had passed.
    await collect(stream)
    engine._last_step -= 100.0  # Idle for long: no step is late.
    assert engine.stats().seconds_since_step == 0
    await ask(engine, PROMPTS[1], 2)
    assert (host.engine is engine, host.num_restarts) == (True, 0)


async def test_an_engine_whose_thread_died_is_replaced(
    host: Host, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = host.engine
    old.close()
    await until(lambda: host.engine is not old)
    assert await ask(host.engine, PROMPTS[1], 8) == generate(tiny_model, PROMPTS[1], 8)


async def test_a_new_engine_has_all_threads_though_the_old_one_took_a_single_one(host: Host) -> None:
    """What one thread of the process sets is what the next one to be started begins with."""
    all_of_them = torch.get_num_threads()
    host._num_threads = all_of_them + 1
    try:
        torch.set_num_threads(1)
        host._restart(1.0)
        assert host.engine._runner._most_threads == all_of_them + 1
    finally:
        torch.set_num_threads(all_of_them)


async def test_whatever_is_wrong_with_a_graph_is_told_and_the_model_serves(
    loaded: LoadedModel, make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("an error of torch's")

    monkeypatch.setattr(hosting, "graph_path", fail)
    host = make_host(loaded, kernels=Status(loaded=True, reason="", isa="none"))
    host.start(compile_graph=True)
    await until(lambda: bool(host.graph.detail))
    assert host.graph == hosting.GraphState("eager", "an error of torch's")
    assert len(await ask(host.engine, [5, 6, 7], 4, ignore_eos=True)) == 4


async def test_what_is_in_use_is_marked_and_what_nobody_uses_goes(
    loaded: LoadedModel, make_host: MakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used, unused = tmp_path / "graph-used.so", tmp_path / "graph-unused.so"
    for path in (used, unused):
        path.write_text("x")
        os.utime(path, (0, 0))
    monkeypatch.setattr(hosting, "graph_path", lambda *_: used)
    monkeypatch.setattr(hosting, "load_graph", lambda path, model: StepModel(model))
    host = make_host(loaded, kernels=Status(loaded=True, reason="", isa="none"))
    host.start(compile_graph=True)
    await until(lambda: not unused.exists())
    assert used.exists() and host.graph == hosting.GraphState("compiled")


async def test_metrics_tell_the_precision_served(host: Host, tmp_path: Path) -> None:
    service = service_of(host, tmp_path)
    assert 'precision="bfloat16"' in generate_latest(service.metrics.registry).decode()


async def test_after_too_many_restarts_the_process_is_asked_to_end(
    host: Host, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: killed.append((process, number)))
    host.num_restarts = hosting._MOST_RESTARTS
    old = host.engine
    hang.again()
    submit(old, PROMPTS[0], max_tokens=200)
    await until(lambda: bool(killed))
    assert killed[0] == (os.getpid(), signal.SIGTERM)
    assert host.engine is old


async def test_closing_ends_watching(host: Host) -> None:
    watchdog = next(thread for thread in threading.enumerate() if thread.name == "watchdog")
    host.close()
    await until(lambda: not watchdog.is_alive())
    assert host.num_restarts == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
async def test_a_model_is_loaded_in_each_precision_and_answers_nearly_alike(
    tiny_folder: Path, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    monkeypatch.setattr(hosting, "load_kernels", lambda cache_dir: NO_KERNELS)
    limits = Limits(max_context=256, max_running=4)
    steps: list[int] = []
    host = await asyncio.to_thread(
        load_host,
        model=str(tiny_folder),
        models_dir=tmp_path,
        precision=precision,
        compile_graph=True,
        limits=lambda loaded: limits,
        on_step=lambda seconds, rows, num_tokens: steps.append(num_tokens),
    )
    try:
        # Warmed up: somebody's first token does not pay for it. A step is told of just after its token.
        for _attempt in range(500):
            if len(steps) == 2:
                break
            await asyncio.sleep(0.01)
        assert steps == [1, 1]
        assert host.graph == hosting.GraphState("eager", "None here.")
        ids = await ask(host.engine, PROMPTS[3], 8, ignore_eos=True)
    finally:
        host.close()
    with torch.no_grad():
        logits = tiny_model(torch.tensor([[*PROMPTS[3], *ids]])).logits[0, len(PROMPTS[3]) - 1 : -1]
    behind = logits.amax(-1) - logits[torch.arange(8), torch.tensor(ids)]
    assert (behind <= (0.0 if precision == "float32" else 0.5 * logits.std(-1))).all()
