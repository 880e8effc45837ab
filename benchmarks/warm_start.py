"""How long a warm start takes: from `manage.py up` until every part is ready, and until a first token.

    python -m benchmarks.warm_start [--rounds 3]

The first start, which makes the database and may convert the model, does not count. Goal, on 2 cores: ready ≤ 25 s.
"""

import argparse
import os
import statistics
import time

import httpx

from benchmarks import product

QUESTION = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "What is a bank?"}],
    "max_tokens": 4,
    "stream": True,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    ready, first_token = [], []
    with product.folder() as state:
        with product.running(state):
            key = product.api_key("bench")
        for _ in range(options.rounds):
            began = time.perf_counter()
            with product.running(state) as url:
                ready.append(time.perf_counter() - began)
                _wait_for_a_token(url, key)
                first_token.append(time.perf_counter() - began)
    print(f"{os.cpu_count()} cores, {options.rounds} warm starts; seconds, median (worst)\n")
    for what, seconds in {"every part ready": ready, "first token": first_token}.items():
        print(f"{what:18}{statistics.median(seconds):8.1f} ({max(seconds):.1f})")


def _wait_for_a_token(url: str, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.stream(
        "POST", f"{url}/v1/chat/completions", json=QUESTION, headers=headers, timeout=60
    ) as response:
        response.raise_for_status()
        next(line for line in response.iter_lines() if '"content"' in line)


if __name__ == "__main__":
    main()
