"""All generations of this process: one task watches them, and an orderly shutdown ends them.

Every 150 ms it looks whether another process asked to stop one (a single MGET), every second whether the
people and keys they run for still have access, and every 4 seconds it renews their heartbeats.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING
from uuid import UUID
from weakref import WeakKeyDictionary

from inference.generation import stream
from inference.generation.errors import StreamUnavailable
from inference.generation.revocation import withdrawn
from tenants.database import in_database

if TYPE_CHECKING:
    from inference.generation.run import Generation

logger = logging.getLogger(__name__)

STOP_EVERY_S = 0.15
ACCESS_EVERY_S = 1.0
ALIVE_EVERY_S = 4.0


class Running:
    """The generations of one event loop, by request id."""

    def __init__(self) -> None:
        self.closed = False
        self._generations: dict[UUID, Generation] = {}
        self._watcher: asyncio.Task[None] | None = None

    def add(self, generation: Generation) -> None:
        self._generations[generation.order.request_id] = generation
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(), name="generation watcher")

    def discard(self, generation: Generation) -> None:
        self._generations.pop(generation.order.request_id, None)

    def get(self, request_id: UUID) -> Generation | None:
        """The generation when this process runs it; None says nothing about other processes."""
        return self._generations.get(request_id)

    def close(self) -> None:
        """Start nothing new; end what runs as interrupted."""
        self.closed = True
        for generation in list(self._generations.values()):
            generation.stop("interrupted", "shutting_down")

    async def shut_down(self) -> None:
        """Close, and wait until every record is closed."""
        self.close()
        generations = list(self._generations.values())
        await asyncio.gather(*(g.wait() for g in generations), return_exceptions=True)

    async def _watch(self) -> None:
        """Runs while there is something to watch; each check survives the failure of what it asks."""
        next_access = time.monotonic() + ACCESS_EVERY_S
        next_alive = time.monotonic() + ALIVE_EVERY_S
        while self._generations:
            await asyncio.sleep(STOP_EVERY_S)
            now = time.monotonic()
            try:
                await self._stop_requested()
                if now >= next_alive:
                    next_alive = now + ALIVE_EVERY_S
                    await stream.set_alive([g.order.key for g in self._generations.values()])
                if now >= next_access:
                    next_access = now + ACCESS_EVERY_S
                    await self._stop_revoked()
            except StreamUnavailable:
                # Delivery fails as well then, and ends each generation with a clear error.
                logger.warning("Valkey does not answer: stop requests cannot be read")
            except Exception:
                logger.exception("the generation watcher failed once and goes on")

    async def _stop_requested(self) -> None:
        generations = {g.order.key: g for g in self._generations.values()}
        if generations:
            for key in await stream.stops_among(list(generations)):
                generations[key].stop("stopped")

    async def _stop_revoked(self) -> None:
        generations = list(self._generations.values())
        gone = await in_database(withdrawn, {(g.order.actor, g.order.permission) for g in generations})
        for generation in generations:
            if (generation.order.actor, generation.order.permission) in gone:
                generation.stop("stopped", "access_revoked")


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Running] = WeakKeyDictionary()


def of_this_loop() -> Running:
    """The running event loop's generations; a server process has one loop."""
    loop = asyncio.get_running_loop()
    if loop not in _of_loop:
        _of_loop[loop] = Running()
    return _of_loop[loop]
