"""transformers: its own server, and plain `generate` in a process of ours."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

from benchmarks.peers.environment import INSTALLS, python_of
from benchmarks.serving.load import Body
from benchmarks.serving.scenarios import DECODE_TOKENS, Figures, Scenario
from benchmarks.serving.servers import (
    LOGS,
    DidNotStart,
    HttpContestant,
    Process,
    Server,
    model_folder,
    weight_bytes,
)

# generate() pads to the longest prompt and ends with the longest answer: beyond this a batch says nothing new.
_MOST_ROWS = 32


def serve() -> HttpContestant:
    """`transformers serve` with continuous batching, bf16."""
    python, model = python_of("transformers"), str(model_folder())

    def command(port: int) -> list[str]:
        run = "from transformers.cli.transformers import main; main()"
        return [
            *(python, "-c", run, "serve", model, "--continuous-batching", "--dtype", "bfloat16"),
            # Else it takes most of the machine's memory for its cache, and others are held in memory beside it.
            *("--cb-block-size", "32", "--cb-num-blocks", "1024", "--cb-max-batch-tokens", "1024"),
            *("--device", "cpu", "--host", "127.0.0.1", "--port", str(port)),
        ]

    return HttpContestant(
        Server(
            name="transformers-serve",
            software=INSTALLS["transformers"][0][0],
            precision="bf16",
            weight_bytes=weight_bytes("bf16"),
            command=command,
            quirk=_serve_quirk(model),
            most_streams=8,
        )
    )


def _serve_quirk(model: str) -> Callable[[Body], Body]:
    def quirk(body: Body) -> Body:
        # No end token is its way to ignore one. It validates strictly, so what it does not know must go.
        config = {"do_sample": False, "max_new_tokens": body["max_tokens"], "pad_token_id": 2}
        known = {key: value for key, value in body.items() if key != "ignore_eos"}
        return {**known, "model": model, "generation_config": json.dumps(config)}

    return quirk


class Generate:
    """`model.generate` on a batch, bf16; `cache` is what it calls cache_implementation ("dynamic" or "static")."""

    precision = "bf16"
    software = f"transformers {version('transformers')}, in process"

    def __init__(self, cache: str) -> None:
        self.name = "generate" if cache == "dynamic" else f"generate-{cache}"
        self.weight_bytes = weight_bytes("bf16")
        self._cache = cache

    def start(self, *, compile_limit_s: float) -> Figures:
        command = [sys.executable, "-m", "benchmarks.peers.generate", str(model_folder()), self._cache]
        self._process = Process(self.name, command, {}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._ask({"rows": 1, "tokens": 8, "round": -1})
        return {"first_answer_s": round(time.perf_counter() - self._process.began, 2)}

    def can(self, scenario: Scenario) -> bool:
        return scenario.name.startswith("decode_") and scenario.streams <= _MOST_ROWS

    def run(self, scenario: Scenario, round_: int) -> Figures:
        return self._ask({"rows": scenario.streams, "tokens": DECODE_TOKENS, "round": round_})

    def pause(self) -> None:
        self._process.pause()

    def go_on(self) -> None:
        self._process.go_on()

    def stop(self) -> None:
        self._process.stop()

    def _ask(self, task: dict[str, int]) -> Figures:
        assert self._process.popen.stdin and self._process.popen.stdout
        self._process.popen.stdin.write(json.dumps(task).encode() + b"\n")
        self._process.popen.stdin.flush()
        answer = self._process.popen.stdout.readline()
        if not answer:
            raise DidNotStart(f"{self.name} ended: see {LOGS}/{self.name}.log")
        return dict(json.loads(answer))
