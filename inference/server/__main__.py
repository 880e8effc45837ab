"""Run the inference service: `python -m inference.server --model smollm2 --port 45001`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
from pathlib import Path

# This process counts for itself; the console's shared-file mode would only collect its files here.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
# Torch's threads meet some 150 times a token. Waiting asleep costs a fifth of a token's time; spinning without end
# makes a token hundreds of times slower whenever another process takes one of the cores, and burns them when
# idle. So they spin for some 50 microseconds, then sleep; how many of them are of use, `engine.threads` finds out.
# Read when torch is loaded, so set before.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import uvicorn

from inference.models.source import EMBEDDERS
from inference.server.app import create_app
from inference.server.service import Options, Service


class _Server(uvicorn.Server):
    """On a signal, first ends the running answers: uvicorn would wait for them to finish."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        service.open_requests = lambda: len(self.server_state.tasks)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self._service.close)
        await super().shutdown(sockets)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m inference.server", description=__doc__)
    parser.add_argument(
        "--model", required=True, help="smollm2, a folder, a .gguf file, or hub:ORG/NAME@REVISION"
    )
    parser.add_argument(
        "--digest", default="", help="sha256:<hex> as the registry has it; load nothing else than these files"
    )
    parser.add_argument("--models-dir", type=Path, required=True, help="where converted models are kept")
    parser.add_argument("--served-name", help="the model id clients use; default: from the model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", choices=("bfloat16", "float32", "int8"), default="bfloat16")
    parser.add_argument("--max-running", type=_positive, default=64, help="answers generated together")
    parser.add_argument("--max-waiting", type=_not_negative, default=256, help="requests in line before 429")
    parser.add_argument(
        "--kv-memory-mb", type=_positive, help="for keys and values; default: a quarter of what is free"
    )
    parser.add_argument("--no-speculation", action="store_true", help="never guess tokens ahead")
    parser.add_argument("--no-compile", action="store_true", help="do not compile the model: slower answers")
    parser.add_argument("--max-context", type=_positive, help="tokens; default: what the model has")
    parser.add_argument("--threads", type=_positive, help="torch threads; default: one per core")
    parser.add_argument("--embedder", choices=EMBEDDERS, default="minilm", help="for /v1/embeddings")
    parser.add_argument("--faults", action="store_true", help="POST /faults makes it fail, for tests")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _not_negative(text: str) -> int:
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError("must be at least 0")
    return value


def main(arguments: list[str] | None = None) -> None:
    """Listens at once; /health tells when the model is ready. The token comes from the environment."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    service = Service(
        Options(
            model=options.model,
            models_dir=options.models_dir,
            served_name=options.served_name,
            dtype=options.dtype,
            max_running=options.max_running,
            max_waiting=options.max_waiting,
            kv_bytes=options.kv_memory_mb and options.kv_memory_mb * 1_000_000,
            speculate=not options.no_speculation,
            compile=not options.no_compile,
            max_context=options.max_context,
            threads=options.threads,
            embedder=options.embedder,
            digest=options.digest,
        )
    )
    config = uvicorn.Config(
        create_app(service, os.environ.get("CUSTOS_INFERENCE_TOKEN", ""), faults=options.faults),
        host=options.host,
        port=options.port,
        access_log=False,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    service.start()
    _Server(config, service).run()


if __name__ == "__main__":
    main()
