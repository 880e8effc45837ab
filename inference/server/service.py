"""Loads the model in the background and answers for its state: loading, ready or failed."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.engine.errors import ContextLengthExceeded
from inference.engine.request import Request, SamplingParameters
from inference.protocol import ApiError, ChatCompletionRequest, CompletionRequest, model_not_found
from inference.server.metrics import Metrics, Snapshot

if TYPE_CHECKING:
    from inference.engine.engine import Engine
    from inference.models.load import LoadedModel
    from inference.models.template import ChatTemplate

logger = logging.getLogger("custos.inference.server")

# A step takes well under a second; one that takes this long hangs.
STALLED_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; see `python -m inference.server --help`."""

    model: str
    models_dir: Path
    served_name: str | None = None
    dtype: str = "bfloat16"
    max_running: int = 16
    max_waiting: int = 64
    max_context: int | None = None
    threads: int | None = None


class _Ready:
    """Everything that exists only once the model is loaded."""

    def __init__(self, loaded: LoadedModel, engine: Engine, template: ChatTemplate, name: str) -> None:
        self.loaded = loaded
        self.engine = engine
        self.template = template
        self.name = name


class Service:
    """One model behind one engine. `start` returns at once."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.metrics = Metrics(self._snapshot)
        self.started_at = int(time.time())
        self._ready: _Ready | None = None
        self._failure = ""
        self._closed = False

    # --- Life -----------------------------------------------------------------------------------

    def start(self) -> None:
        threading.Thread(target=self._load, name="load-model", daemon=True).start()

    def _load(self) -> None:
        started = time.monotonic()
        try:
            ready = _load(self.options, self.metrics)
        except Exception as error:  # Whatever it was, the operator reads it in /health and the log.
            self._failure = f"{type(error).__name__}: {error}"
            logger.exception("The model %s could not be loaded.", self.options.model)
            return
        self._ready = ready
        if self._closed:
            ready.engine.close()
        logger.info("Model %s is ready after %.1f s.", ready.name, time.monotonic() - started)

    def close(self) -> None:
        """End all streams with an error and stop the engine; blocks up to 3 s."""
        self._closed = True
        if self._ready is not None:
            self._ready.engine.close()

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
            "max_context": self._ready.engine.limits.max_context if self._ready else None,
            "running": stats.running if stats else 0,
            "waiting": stats.waiting if stats else 0,
            "capacity": {"running": self._max_running(), "waiting": self.options.max_waiting},
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
        if stats.seconds_since_step > STALLED_SECONDS:
            return "failed", f"The engine has not moved for {stats.seconds_since_step:.0f} s."
        return "ready", ""

    def _max_running(self) -> int:
        return self._ready.engine.limits.max_running if self._ready else self.options.max_running

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            model=self._ready.name if self._ready else self.options.served_name or self.options.model,
            ready=self._state()[0] == "ready",
            max_context=self._ready.engine.limits.max_context if self._ready else 0,
            capacity_running=self._max_running(),
            capacity_waiting=self.options.max_waiting,
            stats=self._ready.engine.stats() if self._ready else None,
        )

    def ready(self) -> _Ready:
        """What serves requests; raises ApiError 503 before it is there."""
        state, detail = self._state()
        if self._ready is None or state != "ready":
            code = "model_loading" if state == "loading" else "model_failed"
            raise ApiError(503, code, "server_error", detail, retry_after=5)
        return self._ready

    def models(self) -> list[dict[str, Any]]:
        """The entries of /v1/models: the one model, once it is loaded."""
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
            }
        ]

    # --- Requests -------------------------------------------------------------------------------

    def engine_request(
        self, wire: ChatCompletionRequest | CompletionRequest, *, request_id: str, tenant: str
    ) -> Request:
        """Tokenise and fill in defaults; takes up to a second on long prompts, so call it in a thread.

        Raises ApiError.
        """
        ready = self.ready()
        if wire.model != ready.name:
            raise model_not_found(wire.model)
        if isinstance(wire, ChatCompletionRequest):
            prompt = ready.template.encode_chat([message.model_dump() for message in wire.messages])
        elif isinstance(wire.prompt, str):
            prompt = ready.template.encode_text(wire.prompt)
        else:
            prompt = wire.prompt
        return Request(request_id, tuple(prompt), _sampling(wire, len(prompt), ready), cache_salt=tenant)


def _sampling(
    wire: ChatCompletionRequest | CompletionRequest, prompt_tokens: int, ready: _Ready
) -> SamplingParameters:
    """The request's wishes, and the model's own defaults where it has none."""
    room = ready.engine.limits.max_context - prompt_tokens
    if room < 1:
        raise ContextLengthExceeded(
            f"The prompt has {prompt_tokens} tokens, but the model's context holds "
            f"{ready.engine.limits.max_context}. Shorten the conversation."
        )

    def given(value: Any, otherwise: Any) -> Any:
        return otherwise if value is None else value

    return SamplingParameters(
        max_tokens=given(wire.token_limit, room),
        temperature=given(wire.temperature, ready.loaded.default_temperature),
        top_p=given(wire.top_p, ready.loaded.default_top_p),
        top_k=given(wire.top_k, ready.loaded.default_top_k),
        seed=wire.seed,
        stop=tuple(wire.stop),
        frequency_penalty=given(wire.frequency_penalty, 0.0),
        presence_penalty=given(wire.presence_penalty, 0.0),
        repetition_penalty=given(wire.repetition_penalty, 1.0),
        ignore_eos=bool(wire.ignore_eos),
    )


def _load(options: Options, metrics: Metrics) -> _Ready:
    """Everything slow: importing torch (4 s), converting (once), verifying, loading, a first run."""
    import torch

    from inference.engine.engine import Engine, Limits, fitting_requests
    from inference.models.folder import prepare
    from inference.models.load import choose_device, load
    from inference.models.source import parse_source
    from inference.models.template import ChatTemplate

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    folder = prepare(parse_source(options.model), options.models_dir)
    loaded = load(folder, dtype=getattr(torch, options.dtype), device=choose_device())
    max_context = min(loaded.max_context, options.max_context or loaded.max_context)
    max_running = min(options.max_running, fitting_requests(loaded.model, max_context))
    if max_running < options.max_running:
        logger.warning("Memory allows %d answers together, not %d.", max_running, options.max_running)
    engine = Engine(
        loaded.model,
        loaded.tokenizer,
        eos_token_ids=loaded.eos_token_ids,
        limits=Limits(max_context, max_running=max_running, max_waiting=options.max_waiting),
        on_step=metrics.observe_step,
    )
    _warm_up(engine)
    return _Ready(loaded, engine, ChatTemplate(loaded.tokenizer), options.served_name or loaded.manifest.name)


def _warm_up(engine: Engine) -> None:
    """Two tokens, so that the first user does not wait for torch's first-use work."""
    import asyncio

    async def run() -> None:
        async for _ in engine.submit(Request("warm-up", (0,), SamplingParameters(2, temperature=0))):
            pass

    asyncio.run(run())
