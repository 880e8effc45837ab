"""A deployment that is loaded when somebody asks for it: the first request waits until it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

from inference.client import Event, InferenceClient, InferenceUnavailable
from inference.deployments.clients import client_to, is_fresh, live
from inference.deployments.models import Condition, Instance
from inference.registry.models import Deployment
from tenants import clock
from tenants.database import in_database

# Longer than most models take to load, shorter than people wait.
PATIENCE_S = 120.0
POLL_S = 0.5


def asked_for(deployment_id: UUID) -> InferenceClient | None:
    """Whoever answers for it, if there is one by now; that somebody waits is noted."""
    deployment = Deployment.objects.select_related("version").get(pk=deployment_id)
    if deployment.wanted != Deployment.Wanted.RUNNING:
        raise InferenceUnavailable("The deployment was stopped.")
    Condition.objects.update_or_create(deployment=deployment, defaults={"asked": clock.now()})
    for row in live(deployment).filter(state=Instance.State.READY):
        if is_fresh(row):
            return client_to(deployment, row)
    return None


class Waking(InferenceClient):
    """Stands for whichever instance answers once there is one. Raises InferenceUnavailable when there is none in time."""

    def __init__(self, deployment_id: UUID) -> None:
        super().__init__("")
        self._deployment_id = deployment_id

    async def stream_chat(self, request: dict[str, Any], **facts: Any) -> AsyncGenerator[Event, None]:
        client = await self._awake()
        async with aclosing(client.stream_chat(request, **facts)) as items:
            async for item in items:
                yield item

    async def stream_completion(self, request: dict[str, Any], **facts: Any) -> AsyncGenerator[Event, None]:
        client = await self._awake()
        async with aclosing(client.stream_completion(request, **facts)) as items:
            async for item in items:
                yield item

    async def tokenize(self, request: dict[str, Any], *, tenant: str = "") -> dict[str, Any]:
        return await (await self._awake()).tokenize(request, tenant=tenant)

    async def detokenize(self, request: dict[str, Any], *, tenant: str = "") -> dict[str, Any]:
        return await (await self._awake()).detokenize(request, tenant=tenant)

    async def _awake(self) -> InferenceClient:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = await in_database(asked_for, self._deployment_id)
            if found is not None:
                return found
            await asyncio.sleep(POLL_S)
        raise InferenceUnavailable("The model is not loaded yet. Try again in a minute.")
