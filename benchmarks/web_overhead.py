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
import json
import os
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
import websockets

from benchmarks import product

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
    with product.folder() as state, product.running(state) as url:
        times = asyncio.run(_measure(_prepare(url), options.rounds, options.tokens))
    _report(times, options.rounds, options.tokens)


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
