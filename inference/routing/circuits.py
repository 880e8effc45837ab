"""Deployments that keep failing are left alone for a while, by all processes: Valkey holds their circuits.

Five failures in a row within half a minute open one for five seconds, and for twice as long each time the one request
that is let through then fails too, up to five minutes. Whatever answers closes it. Without Valkey all are closed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from enum import StrEnum
from uuid import UUID

from tenants import valkey

logger = logging.getLogger(__name__)

FAILURES = 5
WINDOW_S = 30
PAUSE_S, PAUSE_MOST_S = 5, 300
PROBE_S = 10  # So long one request may be out to see whether it answers again.
REMEMBERED_S = 900  # How often it has been open, without another failure.


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_FAILED = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local failures = redis.call('INCR', KEYS[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
local times = tonumber(redis.call('GET', KEYS[3]) or '0')
if times == 0 and failures < tonumber(ARGV[1]) then return 0 end
local pause = math.min(tonumber(ARGV[3]) * 2 ^ times, tonumber(ARGV[4]))
redis.call('SET', KEYS[1], '1', 'EX', math.floor(pause))
redis.call('SET', KEYS[3], tostring(times + 1), 'EX', ARGV[5])
redis.call('DEL', KEYS[2], KEYS[4])
return 1
"""
# What was asked before it opened may still answer; that it is open stays true for its time.
_ANSWERED = """
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2], KEYS[3], KEYS[4]) end
return 0
"""


def states_of(deployments: Collection[UUID]) -> dict[UUID, State]:
    """Of each of them."""
    wanted = list(deployments)
    names = [name for each in wanted for name in (_keys(each)[0], _keys(each)[2])]
    try:
        found = valkey.sync_client().mget(names) if names else []
    except valkey.VALKEY_ERRORS:
        return dict.fromkeys(wanted, State.CLOSED)
    return {
        each: State.OPEN if is_open else State.HALF_OPEN if times else State.CLOSED
        for each, is_open, times in zip(wanted, found[::2], found[1::2], strict=True)
    }


def take_probe(deployment: UUID) -> bool:
    """Whether this request is the one that may try a half-open one."""
    try:
        return bool(valkey.sync_client().set(_keys(deployment)[3], "1", nx=True, ex=PROBE_S))
    except valkey.VALKEY_ERRORS:
        return True


async def note(deployment: UUID, *, failed: bool) -> None:
    """How an attempt ended: it failed before it answered or in the middle, or it answered."""
    keys = _keys(deployment)
    limits = (FAILURES, WINDOW_S, PAUSE_S, PAUSE_MOST_S, REMEMBERED_S)
    try:
        client = valkey.quick_client()
        if not failed:
            await client.eval(_ANSWERED, len(keys), *keys)
        elif await client.eval(_FAILED, len(keys), *keys, *map(str, limits)):
            logger.warning("deployment %s keeps failing: it is left alone for a while", deployment)
    except valkey.VALKEY_ERRORS:
        logger.info("how deployment %s does cannot be noted: Valkey does not answer", deployment)


def _keys(deployment: UUID) -> list[str]:
    return [f"custos:circuit:{deployment}:{name}" for name in ("open", "failures", "times", "probe")]
