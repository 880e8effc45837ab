"""Server processes: started, waited for, asked, and held still while another one is measured."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving.exchange import Address, Answer, exchange
from benchmarks.serving.load import Body
from benchmarks.serving.scenarios import Client, Figures, Scenario, warm_up
from console.supervisor.ports import free_port
from inference.models.folder import prepare
from inference.models.source import parse_source

REPOSITORY = Path(__file__).resolve().parents[2]
VAR = REPOSITORY / "var"
LOGS = VAR / "bench" / "log"
# Any first start may convert or compile something, on a machine with few cores.
READY_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Server:
    """How to run one server, and how it differs from the rest.

    `software` is what exactly runs, `command(port)` gives the arguments, `weight_bytes` what it reads of weights for one token, `most_streams` how many
    answers it can have under way. `quirk` turns a standard request into one that makes this server do the same work.
    """

    name: str
    software: str
    precision: str
    weight_bytes: int
    command: Callable[[int], list[str]]
    quirk: Callable[[Body], Body]
    environment: dict[str, str] = field(default_factory=dict)
    health: str = "/health"
    most_streams: int = 64
    token: str = ""


class DidNotStart(Exception):
    """A server that ended, hung or would not answer; the message says where its log is."""


class Process:
    """A running contestant: a process group of its own that can be stopped in the literal sense and go on later."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], **pipes: Any) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        self._log = (LOGS / f"{name}.log").open("wb")
        self.began = time.perf_counter()
        self.popen = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stderr=self._log,
            start_new_session=True,
            **{"stdin": subprocess.DEVNULL, "stdout": self._log, **pipes},
        )

    def pause(self) -> None:
        """Not one instruction of it runs until `go_on`: a server that spins while idle would skew the others."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        self.go_on()
        self._signal(signal.SIGTERM)
        try:
            self.popen.wait(15)
        except subprocess.TimeoutExpired:
            pass
        self._signal(signal.SIGKILL)  # Children that outlived it, or all of it.
        self.popen.wait()
        self._log.close()

    def resident_bytes(self) -> int:
        """Memory of the whole group, shared pages divided among those who share them."""
        total = 0
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                if os.getpgid(int(process.name)) == self.popen.pid:
                    lines = (process / "smaps_rollup").read_text().splitlines()
                    total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        return total

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)


class HttpContestant:
    """A server measured through its API."""

    def __init__(self, server: Server) -> None:
        self.name, self.software = server.name, server.software
        self.precision, self.weight_bytes = server.precision, server.weight_bytes
        self._server = server

    def start(self, *, compile_limit_s: float) -> Figures:
        """Start and measure the start; the figures are seconds from the process's start."""
        port = free_port()
        self._process = Process(self.name, self._server.command(port), self._server.environment)
        self._client = Client(Address(port, self._server.token), self._server.quirk)
        try:
            return asyncio.run(self._first_tokens(compile_limit_s))
        except BaseException:
            self._process.stop()
            raise

    async def _first_tokens(self, compile_limit_s: float) -> Figures:
        began = self._process.began
        if not await self._reports(lambda health: True, limit_s=READY_SECONDS):
            raise DidNotStart(f"{self.name} is not ready after {READY_SECONDS} s: see {LOGS}/{self.name}.log")
        figures: Figures = {"first_token_s": await self._token_after(began)}
        if graph := (self._health() or {}).get("graph"):
            figures["graph_at_first_token"] = graph
            if await self._reports(lambda health: health.get("graph") == "compiled", limit_s=compile_limit_s):
                figures["compiled_first_token_s"] = await self._token_after(began)
            figures["graph"] = (self._health() or {}).get("graph")
        await warm_up(self._client, min(8, self._server.most_streams))
        figures["resident_mb"] = round(self._process.resident_bytes() / 1e6)
        return figures

    async def _token_after(self, began: float) -> float:
        answer = Answer.of(await exchange(self._client.address, self._client.ask("Hello.", max_tokens=2)))
        if answer.problem:
            raise DidNotStart(f"{self.name} does not answer: {answer.problem}; see {LOGS}/{self.name}.log")
        return round(answer.arrivals[0] - began, 2)

    async def _reports(self, good: Callable[[dict[str, Any]], bool], *, limit_s: float) -> bool:
        """Wait until the server is ready and its health is `good`; False when it takes longer than `limit_s`."""
        deadline = time.perf_counter() + limit_s
        while time.perf_counter() < deadline:
            health = self._health()
            if health is not None and good(health):
                return True
            if self._process.popen.poll() is not None:
                raise DidNotStart(f"{self.name} ended while starting: see {LOGS}/{self.name}.log")
            await asyncio.sleep(0.05)
        return False

    def _health(self) -> dict[str, Any] | None:
        """What the server says of itself ({} if that is no JSON object), or None while it is not ready."""
        connection = http.client.HTTPConnection("127.0.0.1", self._client.address.port, timeout=5)
        try:
            connection.request("GET", self._server.health)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if response.status != 200:
            return None
        with contextlib.suppress(ValueError):
            if isinstance(body := json.loads(content), dict):
                return body
        return {}

    def can(self, scenario: Scenario) -> bool:
        return scenario.streams <= self._server.most_streams

    def run(self, scenario: Scenario, round_: int) -> Figures:
        async def measure() -> Figures:
            await warm_up(self._client, scenario.streams)
            return await scenario.run(self._client, round_)

        return asyncio.run(measure())

    def pause(self) -> None:
        self._process.pause()

    def go_on(self) -> None:
        self._process.go_on()

    def stop(self) -> None:
        self._process.stop()


def ours(variant: str) -> HttpContestant:
    """The product's inference server. `variant` is a precision, with "-drafts" after it for speculation as well.

    `make run` speculates; without it, decoding is compared with decoding.
    """
    token = secrets.token_urlsafe(16)
    precision = variant.removesuffix("-drafts")
    dtype = {"bf16": "bfloat16"}.get(precision, precision)

    def command(port: int) -> list[str]:
        return [
            *(sys.executable, "-m", "inference.server", "--model", "smollm2", "--dtype", dtype),
            *("--models-dir", str(VAR / "models"), "--port", str(port)),
            *("--max-running", "64", "--max-waiting", "128"),
            *(() if variant.endswith("-drafts") else ("--no-speculation",)),
        ]

    return HttpContestant(
        Server(
            name="ours" if variant == "bf16" else f"ours-{variant.removeprefix('bf16-')}",
            software=f"Custos {_commit()}",
            precision=precision,
            weight_bytes=weight_bytes(precision),
            command=command,
            quirk=lambda body: {**body, "model": "smollm2-135m-instruct"},
            environment={"CUSTOS_INFERENCE_TOKEN": token},
            token=token,
        )
    )


def _commit() -> str:
    """The commit of this repository, with a + when files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "of unknown commit"


def model_folder() -> Path:
    """The packaged model as bf16 safetensors; made if it is not there yet."""
    return prepare(parse_source("smollm2"), VAR / "models").path


def weight_bytes(precision: str) -> int:
    """Bytes of weights that one token reads: the input embedding is the output's matrix, so all of them, once."""
    with (model_folder() / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    total = 0
    for shape in shapes:
        count = 1
        for size in shape:
            count *= size
        if precision == "int8" and len(shape) > 1:
            total += count + 2 * shape[0]  # One byte each, and a scale for every output channel.
        else:
            total += 2 * count
    return total
