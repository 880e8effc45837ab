"""Connections to Valkey: one pool per event loop, and one for synchronous code."""

from __future__ import annotations

import asyncio
from functools import cache
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

VALKEY_ERRORS = (redis.RedisError, OSError)

# Commands answer in under a millisecond; the longest blocking read is stream.BLOCK_MS.
_TIMEOUT_S = 3.0

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, redis.asyncio.Redis] = WeakKeyDictionary()


def client() -> redis.asyncio.Redis:
    """The running loop's client, made on first use. Answers are bytes; errors are VALKEY_ERRORS."""
    loop = asyncio.get_running_loop()
    found = _clients.get(loop)
    if found is None:
        # One immediate retry repairs a pooled connection that the server closed; more would only
        # make the user wait for the same error.
        found = _clients[loop] = redis.asyncio.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=AsyncRetry(NoBackoff(), 1),
        )
    return found


async def close_client() -> None:
    """Close the running loop's connections; call once when the loop is about to end."""
    found = _clients.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.aclose()


@cache
def sync_client() -> redis.Redis:
    """For views and tests that run in a thread."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),
    )
