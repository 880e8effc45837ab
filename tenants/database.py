"""Database work from asynchronous code.

Channels and asyncio tasks have no request, so Django neither bounds their threads nor renews their connections. Here a
fixed pool of threads does it: each keeps one connection, checked before and after every call.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

P = ParamSpec("P")
T = TypeVar("T")

POOL_THREADS = 8

_pool = ThreadPoolExecutor(max_workers=POOL_THREADS, thread_name_prefix="database")


async def in_database(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function`, which opens its own tenant_scope, in a database thread; its result or error comes back.

    A call that has started is always finished, even when the awaiting task is cancelled: a write is never half known.
    """
    call = partial(_with_fresh_connections, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(_pool, call)


def _with_fresh_connections(call: Callable[[], T]) -> T:
    close_old_connections()
    try:
        return call()
    finally:
        close_old_connections()
