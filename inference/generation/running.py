"""All generations of this process: they are watched while they run, and an orderly shutdown ends them.

Every 150 ms it is looked up whether another process asked to stop one (a single MGET), three times a second whether the
people and keys they run for still have access, at once when a change of their tenant is heard of, and every 4 seconds their heartbeats and what they reserved of quotas
are renewed. Each is a task of its own: a database that hangs must not let heartbeats run out, nor Valkey's absence
spare a withdrawn key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID
from weakref import WeakKeyDictionary

from inference.generation import stream
from inference.generation.errors import StreamUnavailable
from inference.generation.revocation import withdrawn
from tenants import hints, valkey
from tenants.database import in_database
from tenants.quotas import reservations
from tenants.quotas.errors import QuotaUnavailable

if TYPE_CHECKING:
    from inference.generation.run import Generation

logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[None]]

STOP_EVERY_S = 0.15
HINTS_EVERY_S = 0.1
ACCESS_EVERY_S = 0.3  # With the time that the question and a last commit take: within a second.
ALIVE_EVERY_S = 4.0


class Running:
    """The generations of one event loop, by request id."""

    def __init__(self) -> None:
        self.closed = False
        self._generations: dict[UUID, Generation] = {}
        self._checks = {
            self._stop_requested: STOP_EVERY_S,
            self._heed_changes: HINTS_EVERY_S,
            self._stop_revoked: ACCESS_EVERY_S,
            self._renew_heartbeats: ALIVE_EVERY_S,
            self._renew_reservations: ALIVE_EVERY_S,
        }
        self._watchers: dict[Check, asyncio.Task[None]] = {}
        self._changes: dict[
            UUID, bytes | str | None
        ] = {}  # Of the tenants with a generation, as last heard of.

    def add(self, generation: Generation) -> None:
        """Watch it until it is discarded; one that was begun before `close` and starts after it ends at once."""
        self._generations[generation.order.request_id] = generation
        for check, every_s in self._checks.items():
            watcher = self._watchers.get(check)
            if watcher is None or watcher.done():
                self._watchers[check] = asyncio.create_task(self._repeat(check, every_s), name=check.__name__)
        if self.closed:
            generation.stop("interrupted", "shutting_down")

    def discard(self, generation: Generation) -> None:
        self._generations.pop(generation.order.request_id, None)

    def get(self, request_id: UUID) -> Generation | None:
        """The generation when this process runs it; None says nothing about other processes."""
        return self._generations.get(request_id)

    @property
    def waited_for(self) -> int:
        """How many there are that somebody waits for."""
        return sum(not generation.order.is_shadow for generation in self._generations.values())

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

    async def _repeat(self, check: Check, every_s: float) -> None:
        """Runs while there is something to watch; survives the failure of what the check asks."""
        while self._generations:
            await asyncio.sleep(every_s)
            try:
                await check()
            except (StreamUnavailable, QuotaUnavailable):
                logger.warning("Valkey does not answer: neither stop requests nor heartbeats get through")
            except Exception:
                logger.exception("watching generations failed once and goes on")

    async def _stop_requested(self) -> None:
        generations = {g.order.key: g for g in self._generations.values()}
        if generations:
            for key in await stream.stops_among(list(generations)):
                generations[key].stop("stopped")

    async def _heed_changes(self) -> None:
        """A look at those of the tenants alone of which something has changed: quicker than one at all of them."""
        tenants = {g.order.actor.tenant_id for g in self._generations.values()}
        if not tenants:
            return
        before = self._changes
        try:
            self._changes = await hints.counts(tenants)
        except valkey.VALKEY_ERRORS as error:
            raise StreamUnavailable(str(error)) from error
        if changed := {each for each in tenants if each in before and before[each] != self._changes[each]}:
            await self._stop_those_revoked(changed)

    async def _stop_revoked(self) -> None:
        await self._stop_those_revoked({g.order.actor.tenant_id for g in self._generations.values()})

    async def _stop_those_revoked(self, tenants: set[UUID]) -> None:
        generations = [g for g in self._generations.values() if g.order.actor.tenant_id in tenants]
        gone = await in_database(withdrawn, {g.order.claim for g in generations})
        for generation in generations:
            if generation.order.claim in gone:
                generation.stop("stopped", "access_revoked")

    async def _renew_heartbeats(self) -> None:
        await stream.set_alive([g.order.key for g in self._generations.values()])

    async def _renew_reservations(self) -> None:
        await reservations.renew([g.reservation for g in self._generations.values()])


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Running] = WeakKeyDictionary()


def of_this_loop() -> Running:
    """The running event loop's generations; a server process has one loop."""
    loop = asyncio.get_running_loop()
    if loop not in _of_loop:
        _of_loop[loop] = Running()
    return _of_loop[loop]
