"""Connections to Valkey: two pools per event loop, and one for synchronous code. Errors are VALKEY_ERRORS."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

VALKEY_ERRORS = (redis.RedisError, OSError)

# Commands answer in under a millisecond; the longest blocking read is inference.generation.stream.BLOCK_MS.
_TIMEOUT_S = 3.0

# Whoever follows an answer holds a connection for as long as it lasts.
_READERS = 4096
# A command that answers at once needs one for a moment: hundreds of requests share these.
_QUICK = 16


@dataclass(frozen=True, slots=True)
class _Clients:
    reading: redis.asyncio.Redis
    quick: redis.asyncio.Redis


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = WeakKeyDictionary()


def client() -> redis.asyncio.Redis:
    """The running loop's client, for reads that wait too. Answers are bytes."""
    return _of_loop().reading


def quick_client() -> redis.asyncio.Redis:
    """The running loop's client for commands that answer at once; requests wait for one another's connections."""
    return _of_loop().quick


async def close_client() -> None:
    """Close the running loop's connections; call once when the loop is about to end."""
    found = _clients.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.reading.aclose()
        await found.quick.aclose()


@cache
def sync_client() -> redis.Redis:
    """For views and tests that run in a thread."""
    return redis.Redis.from_url(settings.REDIS_URL, retry=Retry(NoBackoff(), 1), **_timeouts())


def _of_loop() -> _Clients:
    loop = asyncio.get_running_loop()
    found = _clients.get(loop)
    if found is None:
        # One immediate retry repairs a pooled connection that the server closed; more would only
        # make the user wait for the same error.
        options: dict[str, Any] = {"retry": AsyncRetry(NoBackoff(), 1), **_timeouts()}
        many = redis.asyncio.ConnectionPool.from_url(settings.REDIS_URL, max_connections=_READERS, **options)
        few = redis.asyncio.BlockingConnectionPool.from_url(
            settings.REDIS_URL, max_connections=_QUICK, timeout=_TIMEOUT_S, **options
        )
        found = _clients[loop] = _Clients(
            redis.asyncio.Redis.from_pool(many), redis.asyncio.Redis.from_pool(few)
        )
    return found


def _timeouts() -> dict[str, float]:
    return {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
