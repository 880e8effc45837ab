"""A loaded model and the engine that runs it: made at the start, compiled in the background, replaced if it hangs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inference.engine.attention import NAME
from inference.engine.compiled import clean_up, mark_used
from inference.engine.engine import Engine, Limits
from inference.engine.errors import EngineStopped
from inference.engine.graph import (
    COMPILE_SECONDS,
    GraphUnavailable,
    compile_in_background,
    graph_path,
    load_graph,
)
from inference.engine.kernels.build import Status, load_kernels
from inference.engine.layers import Precision, replace_layers, weight_bytes
from inference.engine.request import Request, SamplingParameters
from inference.models.folder import prepare
from inference.models.load import LoadedModel, choose_device, load
from inference.models.source import parse_source

logger = logging.getLogger("custos.inference.server")

# A step takes well under a second; one that takes this long hangs.
STALLED_SECONDS = 60.0
_MOST_RESTARTS = 3  # After that the process is ended: whoever started it starts a fresh one.


@dataclass(frozen=True, slots=True)
class GraphState:
    """`state` is eager, compiling or compiled; `detail` says why not, when it stays eager."""

    state: str
    detail: str = ""


class Host:
    """One model behind one engine at a time. `close` it once."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        limits: Limits,
        precision: Precision,
        cache_dir: Path,
        kernels: Status,
        on_step: Callable[[float, int, int], None],
    ) -> None:
        self.loaded = loaded
        self.precision = precision
        self.weight_bytes = weight_bytes(loaded.model)
        self.graph = GraphState("eager", kernels.reason)
        self.num_restarts = 0
        self.last_restart = ""
        self._limits, self._on_step = limits, on_step
        self._kernels, self._cache_dir = kernels, cache_dir
        self._forward: Any = None
        self._compiler: subprocess.Popen[bytes] | None = None
        self._closed = threading.Event()
        self._num_threads = torch.get_num_threads()
        self._changing = threading.Lock()  # Held while the engine, or what it computes with, is replaced.
        self.engine = self._make_engine()

    def _make_engine(self) -> Engine:
        # A thread takes over what another last set, which for an engine that hangs may be a single one.
        torch.set_num_threads(self._num_threads)
        engine = Engine(
            self.loaded.model,
            self.loaded.tokenizer,
            eos_token_ids=self.loaded.eos_token_ids,
            limits=self._limits,
            on_step=self._on_step,
        )
        if self._forward is not None:
            engine.use(self._forward)
        return engine

    def start(self, *, compile_graph: bool) -> None:
        """Begin what goes on beside serving: compiling, and watching for a step that hangs."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        if compile_graph and self._kernels.loaded:
            threading.Thread(target=self._compile, name="compile-graph", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        if self._compiler is not None:
            self._compiler.terminate()
        self.engine.close()

    # --- The compiled graph ---------------------------------------------------------------------------

    def _compile(self) -> None:
        self._use_graph()
        clean_up(self._cache_dir)

    def _use_graph(self) -> None:
        try:
            forward = self._graph()
        except Exception as problem:  # Whatever it was, the model serves, and /health says why.
            self.graph = GraphState("eager", str(problem) or repr(problem))
            expected = isinstance(problem, (GraphUnavailable, OSError))
            logger.warning(
                "Serving without a compiled graph, which is slower: %s", problem, exc_info=not expected
            )
            return
        with self._changing:
            self._forward = forward
            self.engine.use(forward)
        self.graph = GraphState("compiled")
        logger.info("The compiled graph is in use.")

    def _graph(self) -> Any:
        """The graph from disk, made first if need be."""
        folder = self.loaded.path
        path = graph_path(folder, self.precision, self._kernels, self._cache_dir)
        if not path.exists():
            self.graph = GraphState("compiling")
            logger.info("Compiling the model in the background; it is served meanwhile, more slowly.")
            self._compiler = compile_in_background(folder, self.precision, self._cache_dir, path)
            try:
                status = self._compiler.wait(COMPILE_SECONDS)
            except subprocess.TimeoutExpired:
                self._compiler.kill()
                raise GraphUnavailable("Compiling the model took too long.") from None
            if self._closed.is_set():
                raise GraphUnavailable("The service is stopping.")
            if status:
                raise GraphUnavailable(
                    f"Compiling the model failed with status {status}; see {path.with_suffix('.log')}."
                )
        mark_used(path)
        return load_graph(path, self.loaded.model)

    # --- The watchdog -----------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Replace an engine whose step hangs: its requests fail, the next ones are served."""
        while not self._closed.wait(1.0):
            stats = self.engine.stats()
            if not stats.alive or stats.seconds_since_step > STALLED_SECONDS:
                self._restart(stats.seconds_since_step)

    def _restart(self, seconds: float) -> None:
        if self.num_restarts >= _MOST_RESTARTS:
            logger.critical("The engine hangs again; ending the process.")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        old = self.engine
        self.num_restarts += 1
        self.last_restart = f"The engine was restarted at {time.strftime('%Y-%m-%d %H:%M:%S %z')} after {seconds:.0f} s in one step."
        logger.error("%s", self.last_restart)
        try:
            with self._changing:
                self.engine = self._make_engine()
        except Exception:  # Nobody would watch any more; a fresh process is the better start.
            logger.critical("No new engine could be made; ending the process.", exc_info=True)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        old.close(timeout=0, reason=EngineStopped("The engine hung and was restarted; try again."))


def load_host(
    *,
    model: str,
    models_dir: Path,
    precision: Precision,
    compile_graph: bool,
    limits: Callable[[LoadedModel], Limits],
    on_step: Callable[[float, int, int], None],
    digest: str = "",
) -> Host:
    """Everything slow: converting (once), compiling kernels (once), verifying, loading, a first run.

    digest: of the registered version that it must be; "" for whatever is there.
    Raises ModelError and whatever torch raises.
    """
    cache_dir = models_dir / "compiled"
    device = choose_device()
    with ThreadPoolExecutor(1) as pool:  # The compiler runs while the model is read.
        compiling = pool.submit(load_kernels, cache_dir) if device.type == "cpu" else None
        folder = prepare(parse_source(model), models_dir, digest=digest)
        dtype = torch.float32 if precision == "float32" else torch.bfloat16
        loaded = load(folder, dtype=dtype, device=device, attention=NAME)
        kernels = compiling.result() if compiling else Status(False, "The kernels are for CPUs.", "")
    if not kernels.loaded:
        logger.warning("Serving without compiled kernels, which is slower: %s", kernels.reason)
    replaced = replace_layers(loaded.model, precision=precision, packed=kernels.loaded)
    logger.info("Weights take %.0f MB as %s.", replaced.weight_bytes / 1e6, precision)
    host = Host(
        loaded,
        limits=limits(loaded),
        precision=precision,
        cache_dir=cache_dir,
        kernels=kernels,
        on_step=on_step,
    )
    _warm_up(host.engine)
    host.start(compile_graph=compile_graph)
    return host


def _warm_up(engine: Engine) -> None:
    """Two tokens, so that the first user does not wait for torch's first-use work."""

    async def run() -> None:
        async for _ in engine.submit(Request("warm-up", (0,), SamplingParameters(2, temperature=0))):
            pass

    asyncio.run(run())
