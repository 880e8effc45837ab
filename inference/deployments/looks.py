"""Asking instances how they are: one look over the network, never an exception."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from inference.client import InferenceClient, InferenceUnavailable, Software, close_pool

Key = TypeVar("Key")

_RUNNING, _WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"


@dataclass(frozen=True, slots=True)
class Look:
    """How an instance is. state: loading, ready, failed, or away when it does not answer.

    open: requests besides the look itself, also those that wait for their first step or read their last piece.
    capacity: how many requests it takes at once, 0 when it does not say. models, context: what an upstream lists.
    """

    state: str
    detail: str = ""
    running: int = 0
    waiting: int = 0
    open: int = 0
    capacity: int = 0
    software: Software = Software.CUSTOS
    models: tuple[str, ...] = ()
    context: int = 0


def look_at_all(clients: Mapping[Key, InferenceClient]) -> dict[Key, Look]:
    """All at once, each within the few seconds that a client waits for /health."""

    async def together() -> list[Look]:
        try:
            return await asyncio.gather(*map(look_at, clients.values()))
        finally:
            await close_pool()

    return dict(zip(clients, asyncio.run(together()), strict=True)) if clients else {}


async def look_at(client: InferenceClient) -> Look:
    try:
        return await (_own(client) if client.software == Software.CUSTOS else _upstream(client))
    except InferenceUnavailable as error:
        return Look("away", str(error))
    except Exception as error:  # What another's server says must not end whoever looks.
        return Look("away", type(error).__name__)


async def _own(client: InferenceClient) -> Look:
    found = await client.health()
    capacity = found.get("capacity")
    return Look(
        state=str(found.get("state", "away")),
        detail=str(found.get("detail") or ""),
        running=_count(found.get("running")),
        waiting=_count(found.get("waiting")),
        open=max(_count(found.get("open")) - 1, 0),
        capacity=_count(capacity.get("running")) if isinstance(capacity, dict) else 0,
    )


async def _upstream(client: InferenceClient) -> Look:
    """By vLLM's /health and metrics where there are such, else by whether it lists its models."""
    listed = await client.models()
    models = tuple(str(entry["id"]) for entry in listed)
    context = max((_count(entry.get("max_model_len")) for entry in listed), default=0)
    try:
        numbers = _numbers(await client.metrics_text())
    except (InferenceUnavailable, ValueError):
        numbers = {}
    if _RUNNING not in numbers:
        return Look("ready", software=Software.OTHER, models=models, context=context)
    await (
        client.health()
    )  # Which vLLM answers with 503 once its engine is dead, though its models stay listed.
    return Look(
        "ready",
        running=int(numbers[_RUNNING]),
        waiting=int(numbers.get(_WAITING, 0)),
        software=Software.VLLM,
        models=models,
        context=context,
    )


def _numbers(text: str) -> dict[str, float]:
    """The sums of the series that tell the load."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in (_RUNNING, _WAITING):
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0
