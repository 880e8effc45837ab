"""A real inference server process for any test that needs one."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from console.supervisor.ports import free_port
from tests.support.services import MODELS_DIR, REPOSITORY


def start_inference_server(
    models_dir: Path = MODELS_DIR, *options: str, model: str = "smollm2", until: str = "ready"
) -> tuple[str, str, Callable[[], None]]:
    """Start the server and wait for its state; returns (url, token, stop).

    The first run on a machine de-quantises the model into `models_dir`, which takes about 25 s.
    """
    url, token, process = launch_inference_server(models_dir, *options, model=model)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    try:
        wait_for_state(url, process, until)
    except BaseException:
        stop()
        raise
    return url, token, stop


def launch_inference_server(
    models_dir: Path, *options: str, model: str
) -> tuple[str, str, subprocess.Popen[bytes]]:
    """Start the server without waiting; returns (url, token, process)."""
    port, token = free_port(), secrets.token_urlsafe(16)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "inference.server", "--model", model, "--models-dir", str(models_dir)),
            # Compiling takes a minute of a core; what it changes is tested by itself.
            *("--host", "127.0.0.1", "--port", str(port), "--no-compile", *options),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "CUSTOS_INFERENCE_TOKEN": token},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return f"http://127.0.0.1:{port}", token, process


def wait_for_state(url: str, process: subprocess.Popen[bytes], state: str, seconds: float = 90) -> dict:
    """Poll /health until it reports `state`; returns its body. Fails at once if the process ends."""
    deadline = time.monotonic() + seconds
    seen: object = None
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"The inference server ended with status {process.returncode}.")
        try:
            body = httpx.get(f"{url}/health", trust_env=False).json()
        except httpx.TransportError as error:
            seen = error
        else:
            seen = body
            if body["state"] == state:
                return body
        time.sleep(0.1)
    raise AssertionError(f"The inference server is not {state} after {seconds} s: {seen}")
