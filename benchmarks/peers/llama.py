"""llama.cpp behind llama-cpp-python's server, with the packaged model's weights as Q8_0 or BF16.

The server answers one request at a time. It has no `ignore_eos` (a minimum length would run Python on every token), so
an answer may end early: its tokens are counted as they are. Its usual repeat penalty is switched off.
"""

from __future__ import annotations

import os

from benchmarks.peers.environment import INSTALLS, PEERS, python_of
from benchmarks.peers.weights import bytes_of_weights, requantised
from benchmarks.serving.servers import HttpContestant, Server


def contestant(kind: str) -> HttpContestant:
    """`kind` is q8_0, bf16 or f16."""
    python, model = python_of("llama"), requantised(kind, PEERS / "weights")
    cores = str(os.cpu_count() or 1)

    def command(port: int) -> list[str]:
        return [
            *(python, "-m", "llama_cpp.server", "--model", str(model), "--n_ctx", "8192"),
            *("--n_threads", cores, "--n_threads_batch", cores, "--interrupt_requests", "false"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ]

    return HttpContestant(
        Server(
            name=f"llama-{kind}",
            software=INSTALLS["llama"][0][0],
            precision={"q8_0": "int8"}.get(kind, kind),
            weight_bytes=bytes_of_weights(model),
            command=command,
            quirk=lambda body: {**body, "model": "model", "repeat_penalty": 1.0},
            health="/v1/models",
            most_streams=1,
        )
    )
