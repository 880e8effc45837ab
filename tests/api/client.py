"""Ways to call the live API: plain HTTP, and the official client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai

from tests.chat.stack import Stack

CHAT = "/v1/chat/completions"
MODEL = "smollm2-135m-instruct"
EMBEDDER = "all-minilm-l6-v2"
SHORT = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
LONG = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Write a very long story about a river."}],
    "max_tokens": 1500,
    "ignore_eos": True,
}


def http(stack: Stack, key: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(base_url=stack.web.url, headers=headers, timeout=60, trust_env=False)


@asynccontextmanager
async def streamed(stack: Stack, key: str, **fields: Any) -> AsyncIterator[httpx.Response]:
    """A long streamed answer, as it comes; leaving the context is leaving the answer."""
    body = {**LONG, "stream": True, **fields}
    async with http(stack, key) as client, client.stream("POST", CHAT, json=body) as response:
        yield response


def text_in(events: str) -> str:
    """The text in the complete server-sent events received so far."""
    found = []
    for line in events.split("\n\n")[:-1]:
        if line.startswith("data: {"):
            for choice in json.loads(line[6:]).get("choices", []):
                found.append(choice["delta"].get("content", ""))
    return "".join(found)


def official(stack: Stack, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=stack.web.url + "/v1",
        api_key=key,
        max_retries=0,
        http_client=httpx.AsyncClient(trust_env=False, timeout=60),
    )


def chat(**fields: Any) -> dict[str, Any]:
    """A small valid request."""
    return {"model": MODEL, "messages": SHORT, "max_tokens": 30, **fields}
