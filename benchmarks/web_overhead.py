"""What the web layer adds to an answer: calling inference directly against the API and the chat.

    python -m benchmarks.web_overhead [--rounds 12] [--tokens 48]

Starts the whole product in a temporary folder and asks the same kind of question in turn: directly to the inference
process, over the API (server-sent events), and over the chat's websocket. Between the model and the reader the web
layer authorises the request, records the intent, and commits every piece of text to the audit record before it hands
it on. Goal, on 2 cores: ≤ 30 ms to the first token, ≤ 2 ms a token (medians).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import websockets

from console.supervisor.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = "smollm2-135m-instruct"
SLUG, MEMBER = "acme-bank", "member@acme-bank.example"


@dataclass
class Times:
    """Milliseconds. `gaps` are between tokens as the reader sees them."""

    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def add(self, asked: float, arrivals: list[float]) -> None:
        self.first.append((arrivals[0] - asked) * 1000)
        self.gaps += [(b - a) * 1000 for a, b in pairwise(arrivals)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=12, help="questions each way")
    arguments.add_argument("--tokens", type=int, default=48, help="pieces of text read of each answer")
    options = arguments.parse_args()
    with _running_product() as url:
        times = asyncio.run(_measure(_prepare(url), options.rounds, options.tokens))
    _report(times, options.rounds, options.tokens)


@contextmanager
def _running_product() -> Iterator[str]:
    """Custos as `make run` starts it, in a folder of its own; its address."""
    folder = Path(tempfile.mkdtemp(prefix="custos-bench-"))
    folder.chmod(0o755)  # The database runs as another account when we are root.
    models = REPOSITORY / "var" / "models"
    if models.exists():  # Converting the model takes a while; it is the same one.
        (folder / "models").symlink_to(models)
    port = free_port()
    os.environ.update(CUSTOS_VAR_DIR=str(folder), CUSTOS_PORT=str(port))
    product = subprocess.Popen([sys.executable, "manage.py", "up"], cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, product)
        yield url
    finally:
        product.terminate()
        product.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(url: str, product: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and product.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url + "/readyz", timeout=5, trust_env=False).status_code == 200:
                return
        time.sleep(0.5)
    raise SystemExit("the product did not become ready: run `python manage.py up` to see why")


Way = Callable[[str, int], AsyncIterator[str]]


def _prepare(url: str) -> dict[str, Way]:
    """Credentials of the running product, and the three ways to ask it."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "console.settings"
    import django

    django.setup()
    from django.conf import settings
    from django.test import Client

    from tenants.access import create_api_key
    from tenants.models import User

    key = create_api_key(tenant_slug=SLUG, name="bench")
    browser = Client()
    browser.force_login(User.objects.get(email=MEMBER), backend="django.contrib.auth.backends.ModelBackend")
    cookie = f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}"
    return {
        "direct": _sse(settings.INFERENCE_URL, settings.INFERENCE_TOKEN),
        "api": _sse(url, key),
        "chat": _chat(url, cookie),
    }


def _sse(url: str, token: str) -> Way:
    client = httpx.AsyncClient(
        base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False
    )

    async def ask(question: str, tokens: int) -> AsyncIterator[str]:
        messages = [{"role": "user", "content": question}]
        body = {
            "model": MODEL,
            "messages": messages,
            "max_tokens": tokens,
            "stream": True,
            "ignore_eos": True,
        }
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    for choice in json.loads(line[6:])["choices"]:
                        if text := choice["delta"].get("content"):
                            yield text

    return ask


def _chat(origin: str, cookie: str) -> Way:
    connections: list[Any] = []
    url = f"{origin.replace('http', 'ws', 1)}/ws/t/{SLUG}/chat/"

    async def ask(question: str, tokens: int) -> AsyncIterator[str]:
        if not connections:
            headers = {"Cookie": cookie}
            connections.append(
                await websockets.connect(url, origin=origin, additional_headers=headers, proxy=None)
            )
        (connection,) = connections
        await connection.send(json.dumps({"type": "ask", "client_id": str(uuid.uuid4()), "text": question}))
        left, generation = tokens, ""
        async for raw in connection:
            frame = json.loads(raw)
            if frame["type"] == "accepted":
                generation = frame["generation"]
            elif frame["type"] == "delta" and left:
                left -= 1
                yield frame["text"]
                if not left:
                    await connection.send(json.dumps({"type": "stop", "generation": generation}))
            elif frame["type"] == "done":
                return

    return ask


async def _measure(ways: dict[str, Way], rounds: int, tokens: int) -> dict[str, Times]:
    times = {name: Times() for name in ways}
    for number in range(-1, rounds):  # The first round warms up and does not count.
        for name, ask in ways.items():
            question = (
                f"{uuid.uuid4().hex[:6]}: write a long story about a river and the people who live by it."
            )
            asked, arrivals = time.perf_counter(), []
            async for _text in ask(question, tokens):
                arrivals.append(time.perf_counter())
            if number >= 0:
                times[name].add(asked, arrivals)
    return times


def _report(times: dict[str, Times], rounds: int, tokens: int) -> None:
    print(
        f"{os.cpu_count()} cores, {rounds} questions each way, {tokens} pieces of text each; medians in ms\n"
    )
    print(f"{'':8}{'first token':>14}{'added':>8}{'between':>12}{'added':>8}{'p95':>8}")
    direct = times["direct"]
    first, gap = statistics.median(direct.first), statistics.median(direct.gaps)
    for name, measured in times.items():
        own_first, own_gap = statistics.median(measured.first), statistics.median(measured.gaps)
        slow = statistics.quantiles(measured.gaps, n=20)[-1]
        print(
            f"{name:8}{own_first:14.1f}{own_first - first:8.1f}{own_gap:12.2f}{own_gap - gap:8.2f}{slow:8.1f}"
        )


if __name__ == "__main__":
    main()
