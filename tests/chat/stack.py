"""The real thing for tests: an inference process with the small model, and a web process before it.

Both are started once for a run. Each runs against the run's own PostgreSQL and Valkey; tests make tenants and
people of their own in committed transactions.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from console.supervisor.ports import free_port
from tests.support.services import MODELS_DIR, services

TOKEN = "test-inference-token"


class Process:
    """A process of ours with its log; `url` is where it listens."""

    def __init__(
        self, name: str, arguments: list[str], *, port: int, env: dict[str, str], ready: str
    ) -> None:
        self.name, self.port, self.url = name, port, f"http://127.0.0.1:{port}"
        self.log_path: Path = services.var_dir / f"{name}-{port}.log"
        self._arguments, self._env, self._ready = arguments, {**os.environ, **env}, ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments], env=self._env, stdout=log, stderr=log
            )

    def wait_ready(self, timeout_s: float = 90) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self.log_path.read_text()[-3000:]}")
            try:
                if httpx.get(self.url + self._ready, timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise TimeoutError(f"{self.name} is not ready: {self.log_path.read_text()[-3000:]}")

    def stop(self, how: int = signal.SIGTERM, timeout_s: float = 20) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def log(self) -> str:
        return self.log_path.read_text()


def inference_process(
    *,
    max_running: int = 8,
    max_waiting: int = 32,
    port: int | None = None,
    model: str = "smollm2",
    token: str = TOKEN,
) -> Process:
    port = port or free_port()
    arguments = ["-m", "inference.server", "--model", model, "--models-dir", str(MODELS_DIR)]
    # One thread: two would wait for each other whenever the tests themselves need a core.
    arguments += ["--threads", "1"]
    arguments += ["--port", str(port), "--max-running", str(max_running), "--max-waiting", str(max_waiting)]
    return Process("inference", arguments, port=port, env={"CUSTOS_INFERENCE_TOKEN": token}, ready="/health")


def web_process(*, inference_url: str) -> Process:
    """As the supervisor starts it."""
    port = free_port()
    arguments = ["-m", "uvicorn", "console.asgi:application", "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"]
    arguments += ["--no-proxy-headers", "--log-level", "warning", "--no-access-log"]
    arguments += ["--timeout-graceful-shutdown", "5"]
    metrics = services.var_dir / f"metrics-{port}"
    metrics.mkdir()
    env = {
        "CUSTOS_INFERENCE_URL": inference_url,
        "CUSTOS_INFERENCE_TOKEN": TOKEN,
        "CUSTOS_PORT": str(port),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
    }
    return Process("web", arguments, port=port, env=env, ready="/healthz")


class Stack:
    """The web process and the inference process behind it."""

    def __init__(self, inference: Process, web: Process) -> None:
        self.inference, self.web = inference, web

    def socket_url(self, slug: str) -> str:
        return f"ws://127.0.0.1:{self.web.port}/ws/t/{slug}/chat/"

    @property
    def session_cookie_name(self) -> str:
        return f"custos_session_{self.web.port}"
