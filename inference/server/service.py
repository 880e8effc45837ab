"""Loads the model in the background and answers for its state: loading, ready or failed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.protocol import ApiError
from inference.server.embeddings import Embeddings
from inference.server.logprobs import Vocabulary
from inference.server.metrics import Metrics, Snapshot

if TYPE_CHECKING:
    from inference.engine.engine import Engine
    from inference.engine.grammar import GrammarCompiler
    from inference.engine.layers import Precision
    from inference.models.load import LoadedModel
    from inference.models.template import ChatTemplate
    from inference.server.hosting import Host

logger = logging.getLogger("custos.inference.server")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; see `python -m inference.server --help`."""

    model: str
    models_dir: Path
    served_name: str | None = None
    dtype: Precision = "bfloat16"
    max_running: int = 64
    max_waiting: int = 256
    kv_bytes: int | None = None
    speculate: bool = True
    compile: bool = True
    max_context: int | None = None
    threads: int | None = None
    embedder: str = "minilm"
    digest: str = ""


class _Ready:
    """Everything that exists only once the model is loaded."""

    def __init__(self, host: Host, template: ChatTemplate, name: str) -> None:
        self.host = host
        self.loaded = loaded = host.loaded
        self.template = template
        self.name = name
        self.vocabulary = Vocabulary(loaded.tokenizer)

    @cached_property
    def grammars(self) -> GrammarCompiler:
        """Made when first asked for, which takes seconds. Raises UnsupportedTokenizer."""
        from inference.engine.grammar import GrammarCompiler

        return GrammarCompiler(self.loaded.tokenizer, self.loaded.eos_token_ids)

    @property
    def engine(self) -> Engine:
        """The present one: another takes its place should it hang."""
        return self.host.engine


class Service:
    """One model behind one engine. `start` returns at once."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.metrics = Metrics(self._snapshot)
        self.embeddings = Embeddings(options.embedder, options.models_dir, self.metrics)
        self.started_at = int(time.time())
        # Of all kinds, as whoever runs the service counts them: also what is not in the engine yet, or not any more.
        self.open_requests: Callable[[], int] = lambda: 0
        self._ready: _Ready | None = None
        self._failure = ""
        self._closed = False

    # --- Life -----------------------------------------------------------------------------------

    def start(self) -> None:
        threading.Thread(target=self._load, name="load-model", daemon=True).start()

    def _load(self) -> None:
        started = time.monotonic()
        preparing = threading.Thread(target=self.embeddings.prepare, name="prepare-embedder", daemon=True)
        preparing.start()
        try:
            ready = _load(self.options, self.metrics)
        except Exception as error:  # Whatever it was, the operator reads it in /health and the log.
            self._failure = f"{type(error).__name__}: {error}"
            logger.exception("The model %s could not be loaded.", self.options.model)
            return
        preparing.join()  # Done long ago; so that who is told "ready" finds both models.
        self._ready = ready
        if self._closed:
            ready.host.close()
        logger.info("Model %s is ready after %.1f s.", ready.name, time.monotonic() - started)

    def close(self) -> None:
        """End all streams with an error and stop the engine; blocks up to 3 s."""
        self._closed = True
        if self._ready is not None:
            self._ready.host.close()
        self.embeddings.close()

    # --- State ----------------------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """The body of /health; `state` is loading, ready or failed."""
        state, detail = self._state()
        stats = self._ready.engine.stats() if self._ready else None
        return {
            "state": state,
            "model": self._ready.name if self._ready else self.options.served_name or self.options.model,
            "digest": self._ready.loaded.manifest.digest if self._ready else None,
            "dtype": self.options.dtype,
            "weight_bytes": self._ready.host.weight_bytes if self._ready else None,
            "max_context": self._ready.engine.limits.max_context if self._ready else None,
            "running": stats.running if stats else 0,
            "waiting": stats.waiting if stats else 0,
            "open": self.open_requests(),
            "capacity": {"running": self._max_running(), "waiting": self.options.max_waiting},
            "graph": self._ready.host.graph.state if self._ready else "eager",
            "graph_detail": self._ready.host.graph.detail if self._ready else "",
            "restarts": self._ready.host.num_restarts if self._ready else 0,
            "detail": detail,
        }

    def _state(self) -> tuple[str, str]:
        if self._failure:
            return "failed", self._failure
        if self._ready is None:
            return "loading", "The model is being loaded."
        stats = self._ready.engine.stats()
        if not stats.alive:
            return "failed", "The engine has stopped."
        return "ready", self._ready.host.last_restart

    def _max_running(self) -> int:
        return self._ready.engine.limits.max_running if self._ready else self.options.max_running

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            model=self._ready.name if self._ready else self.options.served_name or self.options.model,
            ready=self._state()[0] == "ready",
            max_context=self._ready.engine.limits.max_context if self._ready else 0,
            capacity_running=self._max_running(),
            capacity_waiting=self.options.max_waiting,
            stats=replace(self._ready.engine.stats(), precision=self.options.dtype) if self._ready else None,
        )

    def ready(self) -> _Ready:
        """What serves requests; raises ApiError 503 before it is there."""
        state, detail = self._state()
        if self._ready is None or state != "ready":
            code = "model_loading" if state == "loading" else "model_failed"
            raise ApiError(503, code, "server_error", detail, retry_after=5)
        return self._ready

    def models(self) -> list[dict[str, Any]]:
        """The entries of /v1/models: the language model, once it is loaded, then the embedding model."""
        if self._ready is None:
            return []
        return [
            {
                "id": self._ready.name,
                "object": "model",
                "created": self.started_at,
                "owned_by": "custos",
                "digest": self._ready.loaded.manifest.digest,
                "max_context": self._ready.engine.limits.max_context,
            },
            *self.embeddings.entries(self.started_at),
        ]


def _load(options: Options, metrics: Metrics) -> _Ready:
    """Everything slow, beginning with the import of torch (4 s); see `hosting.load_host`."""
    import torch

    from inference.engine.engine import Limits
    from inference.models.template import ChatTemplate
    from inference.server.hosting import load_host

    def limits(loaded: LoadedModel) -> Limits:
        return Limits(
            max_context=min(loaded.max_context, options.max_context or loaded.max_context),
            max_running=options.max_running,
            max_waiting=options.max_waiting,
            kv_bytes=options.kv_bytes,
            speculate=options.speculate,
        )

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    host = load_host(
        model=options.model,
        models_dir=options.models_dir,
        precision=options.dtype,
        compile_graph=options.compile,
        limits=limits,
        on_step=metrics.observe_step,
        digest=options.digest,
    )
    template = ChatTemplate(host.loaded.tokenizer)
    return _Ready(host, template, options.served_name or host.loaded.manifest.name)
