"""The two ways to put load on a server: as many streams as given, or requests at given times whatever the server does."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from benchmarks.serving.exchange import Address, Answer, Reads, exchange
from benchmarks.serving.figures import Run

Body = dict[str, Any]


async def closed_loop(address: Address, streams: Sequence[Sequence[Body]]) -> Run:
    """Each stream asks its requests one after the other; the streams run beside each other."""

    async def ask_all(bodies: Sequence[Body]) -> list[Reads]:
        return [await exchange(address, body) for body in bodies]

    async def everything() -> list[Reads]:
        answers = await asyncio.gather(*(ask_all(bodies) for bodies in streams))
        return [reads for stream in answers for reads in stream]

    return await measured(everything)


async def until_done(
    address: Address, streams: Sequence[Iterator[Body]], other: Awaitable[Run]
) -> tuple[Run, Run]:
    """Each stream asks request after request, starting none once `other` is done; returns both runs, ours first."""
    over = asyncio.Event()

    async def ask_on(bodies: Iterator[Body]) -> list[Reads]:
        answers = []
        while not over.is_set():
            answers.append(await exchange(address, next(bodies)))
        return answers

    async def everything() -> list[Reads]:
        answers = await asyncio.gather(*(ask_on(bodies) for bodies in streams))
        return [reads for stream in answers for reads in stream]

    async def wait() -> Run:
        try:
            return await other
        finally:
            over.set()

    ours, others = await asyncio.gather(measured(everything), wait())
    return ours, others


async def open_loop(address: Address, schedule: Sequence[tuple[float, Body]]) -> Run:
    """Each request is sent at its time, in seconds from now, however many are still being answered."""

    async def ask_at(when: float, body: Body) -> Reads:
        await asyncio.sleep(when - time.perf_counter())
        return await exchange(address, body)

    async def everything() -> list[Reads]:
        began = time.perf_counter()
        return list(await asyncio.gather(*(ask_at(began + after, body) for after, body in schedule)))

    return await measured(everything)


async def measured(load: Callable[[], Awaitable[list[Reads]]]) -> Run:
    """Run it, note the processor time it took us, and only then take the answers apart."""
    before, cpu_before = time.perf_counter(), time.process_time()
    everything = await load()
    cpu, wall = time.process_time() - cpu_before, time.perf_counter() - before
    return Run([Answer.of(reads) for reads in everything], cpu / wall)


def poisson_arrivals(*, rate: float, count: int, seed: int) -> list[float]:
    """`count` arrival times in seconds, exponential gaps of mean 1 / `rate`; the first request comes at 0."""
    source = random.Random(seed)
    return [0.0, *accumulate(source.expovariate(rate) for _ in range(count - 1))]
