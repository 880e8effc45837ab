"""The counters in Valkey. One atomic script a step, so that no two requests can both take the last of a limit.

Keys, all below `custos:{tenant}:quota:`:
    version                            changes with the tenant's limits
    request:{id}                       a request's mark: "reserved", then "settled"
    {limit}:{subject}:minute           what each second was charged
    {limit}:{subject}:{period}         a day's (2026-11-24) or month's (2026-11) seed, additions and reservations
    {limit}:{subject}:{period}:leases  its reservations by when they run out
    {limit}:{subject}:streams          answers being written, by when their leases run out

Valkey persists nothing: a day's or month's counter that is missing is seeded from the database before it is used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from redis.commands.core import AsyncScript, Script

from tenants import valkey
from tenants.quotas.models import Metric
from tenants.quotas.rules import MINUTE, PERIOD, Rule

LEASE_S = 30  # A reservation that nobody renews is given back after this.
MINUTE_COUNTS = timedelta(seconds=61)  # A second is charged until 60 whole ones after it have passed.
_MINUTE_KEPT_MS = 62_000
_PERIOD_KEPT = timedelta(days=1)  # After its end: what began before it may settle after it.
_SETTLED_KEPT_MS = 600_000

RESERVED, OVER, UNSEEDED, STALE = b"reserved", b"over", b"unseeded", b"stale"


@dataclass(frozen=True, slots=True)
class Standing:
    """A limit and where it stands. used: with what is reserved; None: not known.

    retry_after: whole seconds until the request fits; 0: it fits; None: never. resets: when nothing is counted any more.
    """

    rule: Rule
    used: int | None
    retry_after: int | None = 0
    resets: datetime | None = None

    @property
    def remaining(self) -> int:
        return max(self.rule.value - (self.used or 0), 0)

    @property
    def percent(self) -> int | None:
        """Of the limit, rounded down; 100 for a limit of nothing."""
        if self.used is None:
            return None
        return self.used * 100 // self.rule.value if self.rule.value else 100


@dataclass(frozen=True)
class Claim:
    """What one request takes of some rules, from when on. `tokens` is what it reserves of those that count tokens.

    version: of the tenant's limits when the rules were looked up.
    """

    tenant_id: UUID
    request_id: UUID
    at: datetime
    rules: tuple[Rule, ...]
    tokens: int = 0
    version: str = ""

    def cost(self, rule: Rule) -> int:
        return self.tokens if rule.counts_tokens else 1

    @cached_property
    def call(self) -> tuple[list[str], str]:
        """The scripts' keys and rules: the same for each step, so put together once."""
        return _keys(self, self.rules), _encoded(self, self.rules)

    @property
    def leased(self) -> tuple[Rule, ...]:
        """Those rules that something is held of until the request is settled."""
        return tuple(rule for rule in self.rules if rule.metric not in MINUTE)


async def reserve(claim: Claim) -> tuple[bytes, list[Standing]]:
    """RESERVED, OVER, UNSEEDED or STALE, and where the limits stood before. Raises valkey.VALKEY_ERRORS."""
    keys, arguments = _reserve_call(claim, "reserve")
    return _parsed(claim, await _script("reserve")(keys, arguments, client=valkey.quick_client()))


def look(claim: Claim) -> list[Standing]:
    """Where the limits stand; synchronous. Raises valkey.VALKEY_ERRORS."""
    if not claim.rules:
        return []
    keys, arguments = _reserve_call(claim, "look")
    return _parsed(claim, _sync_script("reserve")(keys, arguments, client=valkey.sync_client()))[1]


async def version(tenant_id: UUID) -> str:
    """Of the tenant's limits. Ask before looking them up, or a change between the two goes unnoticed."""
    fresh = uuid4().hex
    known = await valkey.quick_client().set(_version_key(tenant_id), fresh, nx=True, get=True)
    return known.decode() if isinstance(known, bytes) else fresh


def limits_changed(tenant_id: UUID) -> None:
    """Whoever goes by the tenant's limits as they were finds out at once; synchronous. Raises valkey.VALKEY_ERRORS."""
    valkey.sync_client().set(_version_key(tenant_id), uuid4().hex)


async def seed(claim: Claim, amounts: dict[Rule, int]) -> None:
    """What the database knows of these rules' periods; a counter that has a seed keeps it."""
    async with valkey.quick_client().pipeline(transaction=False) as pipe:
        for rule, amount in amounts.items():
            counter = _keys_of(claim, rule)[0]
            pipe.hsetnx(counter, "seed", amount)
            pipe.pexpire(counter, _kept_ms(rule, claim.at))
        await pipe.execute()


async def settle(claim: Claim, tokens: int) -> None:
    """Give the reservation back and count `tokens`. Raises valkey.VALKEY_ERRORS."""
    keys, rules = claim.call
    arguments: list[Any] = [str(claim.request_id), tokens, _SETTLED_KEPT_MS, rules]
    await _script("settle")(keys, arguments, client=valkey.quick_client())


async def renew(claims: Sequence[Claim], now: datetime) -> None:
    """Keep the leases of these for LEASE_S more. Raises valkey.VALKEY_ERRORS."""
    for claim in claims:
        if leased := claim.leased:
            arguments: list[Any] = [_ms(now), LEASE_S * 1000, str(claim.request_id), _encoded(claim, leased)]
            await _script("renew")(_keys(claim, leased), arguments, client=valkey.quick_client())


def period_of(metric: Metric, at: datetime) -> tuple[datetime, datetime]:
    """The UTC day or month around `at`: its beginning, and the next one's."""
    return _period(metric, at.astimezone(UTC).date())


@lru_cache(maxsize=64)
def _period(metric: Metric, day: date) -> tuple[datetime, datetime]:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if metric == Metric.TOKENS_PER_DAY:
        return midnight, midnight + timedelta(days=1)
    first = midnight.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


# --- The scripts' calls ----------------------------------------------------------------------------


def _reserve_call(claim: Claim, mode: str) -> tuple[list[str], list[Any]]:
    keys, rules = claim.call
    return keys, [_ms(claim.at), LEASE_S * 1000, str(claim.request_id), rules, mode, claim.version]


def _keys(claim: Claim, rules: Sequence[Rule]) -> list[str]:
    mark = f"custos:{claim.tenant_id}:quota:request:{claim.request_id}"
    return [mark, _version_key(claim.tenant_id), *(key for rule in rules for key in _keys_of(claim, rule))]


def _version_key(tenant_id: UUID) -> str:
    return f"custos:{tenant_id}:quota:version"


def _keys_of(claim: Claim, rule: Rule) -> tuple[str, str]:
    """A rule's counter and its leases."""
    stem = f"custos:{claim.tenant_id}:quota:{rule.limit_id.hex}:{rule.subject.hex if rule.subject else 'all'}"
    if rule.metric in MINUTE:
        return f"{stem}:minute", f"{stem}:minute"
    if rule.metric in PERIOD:
        day = period_of(rule.metric, claim.at)[0].date().isoformat()
        period = day if rule.metric == Metric.TOKENS_PER_DAY else day[:7]
        return f"{stem}:{period}", f"{stem}:{period}:leases"
    return f"{stem}:streams", f"{stem}:streams"


def _encoded(claim: Claim, rules: Sequence[Rule]) -> str:
    return json.dumps([_plain(claim, rule) for rule in rules])


def _plain(claim: Claim, rule: Rule) -> dict[str, Any]:
    of_period = rule.metric in PERIOD
    return {
        "kind": "minute" if rule.metric in MINUTE else "period" if of_period else "streams",
        "limit": rule.value,
        "cost": claim.cost(rule),
        "counts": rule.counts_tokens,
        "at": _ms(claim.at) // 1000,
        "keep": _kept_ms(rule, claim.at),
        "reset": _ms(period_of(rule.metric, claim.at)[1]) - _ms(claim.at) if of_period else 0,
    }


def _kept_ms(rule: Rule, at: datetime) -> int:
    if rule.metric not in PERIOD:
        return _MINUTE_KEPT_MS
    return _ms(period_of(rule.metric, at)[1] + _PERIOD_KEPT) - _ms(at)


def _parsed(claim: Claim, answer: list[Any]) -> tuple[bytes, list[Standing]]:
    outcome, *figures = answer
    if outcome == STALE:
        return outcome, []
    standings = []
    for index, rule in enumerate(claim.rules):
        used, wait_ms, reset_ms = figures[3 * index : 3 * index + 3]
        standings.append(
            Standing(
                rule,
                used if used >= 0 else None,
                retry_after=None if wait_ms < 0 else math.ceil(wait_ms / 1000),
                resets=claim.at + timedelta(milliseconds=reset_ms) if reset_ms else None,
            )
        )
    return outcome, standings


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _text(name: str) -> str:
    return (Path(__file__).parent / "scripts" / f"{name}.lua").read_text(encoding="utf-8")


@cache
def _script(name: str) -> AsyncScript:
    return valkey.quick_client().register_script(_text(name))


@cache
def _sync_script(name: str) -> Script:
    return valkey.sync_client().register_script(_text(name))
