"""Database work from asynchronous code.

Channels and asyncio tasks have no request, so Django neither bounds their threads nor renews their connections. Here a
fixed pool of threads does it: each keeps one connection, checked before it is used unless it worked a moment ago.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import local
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

P = ParamSpec("P")
T = TypeVar("T")

POOL_THREADS = 16  # So many answers can be recorded in one transaction (audit.commits).

# A connection that worked this lately is used again unchecked.
TRUSTED_S = 1.0


class _Thread(local):
    last_success = 0.0


_thread = _Thread()
_pool = ThreadPoolExecutor(max_workers=POOL_THREADS, thread_name_prefix="database")


async def in_database(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function`, which opens its own tenant_scope, in a database thread; its result or error comes back.

    A call that has started is always finished, even when the awaiting task is cancelled: a write is never half known.
    """
    call = partial(_with_fresh_connections, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(_pool, call)


def _with_fresh_connections(call: Callable[[], T]) -> T:
    # The check costs a query, and a running answer calls many times a second.
    if time.monotonic() - _thread.last_success > TRUSTED_S:
        close_old_connections()
    try:
        result = call()
    except BaseException:
        _thread.last_success = 0.0
        close_old_connections()
        raise
    _thread.last_success = time.monotonic()
    return result
