"""Ways to call the live API: plain HTTP, and the official client."""

from __future__ import annotations

from typing import Any

import httpx
import openai

from tests.chat.stack import Stack

MODEL = "smollm2-135m-instruct"
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
