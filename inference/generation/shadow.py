"""A copy of a request to another deployment, whose answer is recorded and shown to nobody.

It is begun once the answer that somebody waited for has ended, goes behind everything else in the other's line, and gives
way: beyond a few copies at once, and while people and programs are being answered, it is dropped rather than kept waiting,
and one that runs is stopped. Nothing of it reaches whoever asked: neither its failures nor what it uses of their limits.
It is in the audit as a record of its own, in the name of whoever asked, whose `route_reason` names the record it copies.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from inference.client import Delta
from inference.generation import metrics, quota, run, running
from inference.generation.errors import GenerationError
from tenants.ids import uuid7

if TYPE_CHECKING:
    from inference.generation.run import Ending, Generation, OnEnd, Order
    from inference.registry.selectors import Resolved

logger = logging.getLogger(__name__)

MOST = 2  # Copies at once in a process.
BUSY = 4  # Answers that somebody waits for, from which on there are no copies.
LOOK_EVERY_S = 0.2
LAST = 2**31 - 1  # Behind every other request of the tenant.


class Nowhere:
    """A sink that lets go of what it is given."""

    async def batch(self, *, seq: int, deltas: list[Delta], sealed: bytes) -> None: ...

    async def end(self, *, seq: int, ending: Ending) -> None: ...


def start(order: Order, resolved: Resolved, reason: str, on_end: OnEnd | None = None) -> bool:
    """Ask `resolved` what `order` asked. Whether it is done; never waits and never raises.

    reason: a word for the record's `route_reason`, before the copied record's id. on_end: as of `Generation.start`; a copy
    that was stopped to give way ends as "stopped".
    """
    if order.is_shadow or len(_tasks) >= MOST or _is_busy():
        metrics.shadows.labels("dropped").inc()
        return False
    copy = replace(
        order,
        resolved=replace(resolved, reason=f"{reason}:{order.request_id}"),
        request_id=uuid7(),
        arrived=time.monotonic(),
        is_shadow=True,
    )
    task = asyncio.create_task(_carry_out(copy, on_end), name=f"shadow of {order.request_id}")
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return True


async def _carry_out(order: Order, on_end: OnEnd | None) -> None:
    try:
        handle = await run.intent(order)
    except GenerationError:
        metrics.shadows.labels("dropped").inc()
        return
    except Exception:
        logger.exception("the copy %s could not be begun", order.request_id)
        return
    generation = run.Generation(order=order, handle=handle, reservation=quota.nothing(order), sink=Nowhere())
    generation.start(on_end)
    await _ended(generation)


async def _ended(generation: Generation) -> None:
    ending = asyncio.create_task(generation.wait())
    while not ending.done():
        await asyncio.wait([ending], timeout=LOOK_EVERY_S)
        if not ending.done() and _is_busy():
            generation.stop("stopped")
            await ending


def _is_busy() -> bool:
    here = running.of_this_loop()
    return here.closed or here.waited_for >= BUSY


_tasks: set[asyncio.Task[Any]] = set()
