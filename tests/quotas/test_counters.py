"""The counters by themselves, over a real Valkey: nothing is ever overspent, and what is lost is given back."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tenants import valkey
from tenants.ids import uuid7
from tenants.quotas import counters
from tenants.quotas.counters import OVER, RESERVED, UNSEEDED, Claim
from tenants.quotas.models import Metric, SubjectKind
from tenants.quotas.rules import Rule

NOON = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
LEASE = timedelta(seconds=counters.LEASE_S)


def a_rule(metric: Metric, value: int, **fields: Any) -> Rule:
    return Rule(uuid7(), metric, SubjectKind.TENANT, None, value, **fields)


def a_claim(*rules: Rule, tokens: int = 0, at: datetime = NOON) -> Claim:
    """Of a tenant of its own; see `again`."""
    return Claim(uuid7(), uuid7(), at, rules, tokens)


def again(claim: Claim, *, tokens: int | None = None, after: float = 0) -> Claim:
    """Another request of the same tenant."""
    at = claim.at + timedelta(seconds=after)
    return replace(claim, request_id=uuid7(), at=at, tokens=claim.tokens if tokens is None else tokens)


async def reserved(claim: Claim) -> bool:
    claim = await current(claim)
    outcome, standings = await counters.reserve(claim)
    if outcome == UNSEEDED:
        await counters.seed(claim, {standing.rule: 0 for standing in standings if standing.used is None})
        outcome, _standings = await counters.reserve(claim)
    assert outcome in (RESERVED, OVER)
    return outcome == RESERVED


async def current(claim: Claim) -> Claim:
    """With the version that its tenant's limits have."""
    return replace(claim, version=await counters.version(claim.tenant_id))


async def used(claim: Claim) -> int | None:
    outcome, (standing, *_others) = await counters.reserve(await current(again(claim, tokens=10**12)))
    assert outcome in (OVER, UNSEEDED)
    return standing.used


def alone(work: Coroutine[Any, Any, Any]) -> Any:
    """Run in an event loop of its own, with connections of its own."""

    async def run() -> Any:
        try:
            return await work
        finally:
            await valkey.close_client()

    return asyncio.run(run())


@pytest.mark.parametrize("metric", [Metric.TOKENS_PER_MINUTE, Metric.TOKENS_PER_DAY, Metric.TOKENS_PER_MONTH])
async def test_200_requests_at_once_share_the_last_1000_tokens(metric: Metric) -> None:
    first = a_claim(a_rule(metric, 1_000), tokens=30)
    assert await reserved(replace(first, tokens=0))
    claims = [again(first) for _ in range(200)]
    outcomes = await asyncio.gather(*(reserved(claim) for claim in claims))
    assert sum(outcomes) == 33
    assert await used(first) == 990


def test_threads_with_connections_of_their_own_share_them_too() -> None:
    first = a_claim(a_rule(Metric.TOKENS_PER_DAY, 1_000), tokens=50)

    async def many() -> int:
        return sum(await asyncio.gather(*(reserved(again(first)) for _ in range(50))))

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(lambda _number: alone(many()), range(4))) == 20


async def test_all_limits_have_room_or_none_is_touched() -> None:
    wide, narrow = a_rule(Metric.TOKENS_PER_DAY, 1_000), a_rule(Metric.TOKENS_PER_MONTH, 100)
    claim = a_claim(wide, narrow, a_rule(Metric.CONCURRENT_STREAMS, 5), tokens=150)
    assert not await reserved(claim)
    _outcome, standings = await counters.reserve(await current(again(claim)))
    assert [standing.used for standing in standings] == [0, 0, 0]
    assert [standing.retry_after for standing in standings] == [0, None, 0]


async def test_settling_gives_back_what_was_not_used() -> None:
    claim = a_claim(a_rule(Metric.TOKENS_PER_DAY, 1_000), a_rule(Metric.TOKENS_PER_MINUTE, 1_000), tokens=900)
    assert await reserved(claim)
    assert not await reserved(again(claim))
    await counters.settle(claim, 100)
    _outcome, standings = await counters.reserve(await current(again(claim, tokens=1)))
    assert [standing.used for standing in standings] == [100, 100]


async def test_every_step_may_be_repeated() -> None:
    """As the client does when a connection breaks between the command and its answer."""
    claim = a_claim(a_rule(Metric.TOKENS_PER_DAY, 1_000), a_rule(Metric.REQUESTS_PER_MINUTE, 10), tokens=400)
    assert await reserved(claim)
    assert await reserved(claim)
    assert await used(claim) == 400
    for _time in range(2):
        await counters.settle(claim, 70)
    assert await used(claim) == 70
    # A heartbeat that was on its way takes nothing back.
    await counters.renew([claim], claim.at)
    assert await used(claim) == 70


async def test_no_60_seconds_hold_more_than_a_minutes_limit() -> None:
    last = a_claim(a_rule(Metric.REQUESTS_PER_MINUTE, 2), at=NOON + timedelta(seconds=0.9))
    assert await reserved(last)
    assert await reserved(again(last, after=30))
    for after in (59, 60.05):  # 60.05 s later is within the second in which 60 s have passed.
        outcome, (standing,) = await counters.reserve(await current(again(last, after=after)))
        assert outcome == OVER
        assert standing.retry_after == (2 if after < 60 else 1)
    assert await reserved(again(last, after=60.1))


async def test_a_day_ends_at_midnight_and_a_month_with_its_last_day() -> None:
    eve = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
    rules = a_rule(Metric.TOKENS_PER_DAY, 100), a_rule(Metric.TOKENS_PER_MONTH, 100)
    claim = a_claim(*rules, tokens=100, at=eve)
    assert await reserved(claim)
    outcome, standings = await counters.reserve(await current(again(claim, after=0.5)))
    assert (outcome, [each.retry_after for each in standings]) == (OVER, [1, 1])
    assert await reserved(again(claim, after=1))
    # What began on the eve is charged to it, whenever it ends.
    await counters.settle(claim, 60)
    _outcome, standings = await counters.reserve(await current(again(claim, after=1)))
    assert [standing.used for standing in standings] == [100, 100]


async def test_a_dead_processs_reservation_runs_out() -> None:
    claim = a_claim(a_rule(Metric.TOKENS_PER_DAY, 100), a_rule(Metric.CONCURRENT_STREAMS, 1), tokens=80)
    assert await reserved(claim)
    assert not await reserved(again(claim, after=counters.LEASE_S - 0.1))
    assert await reserved(again(claim, after=counters.LEASE_S))


async def test_a_heartbeat_keeps_a_reservation() -> None:
    claim = a_claim(a_rule(Metric.TOKENS_PER_DAY, 100), a_rule(Metric.CONCURRENT_STREAMS, 1), tokens=80)
    assert await reserved(claim)
    await counters.renew([claim], claim.at + LEASE / 2)
    assert not await reserved(again(claim, after=counters.LEASE_S + 1))


async def test_what_runs_is_reserved_again_after_valkey_forgot_everything() -> None:
    claim = a_claim(a_rule(Metric.TOKENS_PER_DAY, 100), tokens=80)
    assert await reserved(claim)
    await valkey.client().flushall()
    assert await used(claim) is None  # to be seeded, not taken for nothing
    await counters.renew([claim], claim.at)
    await counters.seed(claim, {claim.rules[0]: 7})
    assert await used(claim) == 87
    await counters.seed(claim, {claim.rules[0]: 5})
    assert await used(claim) == 87


async def test_what_is_settled_while_a_counter_is_being_seeded_is_not_lost() -> None:
    claim = a_claim(a_rule(Metric.TOKENS_PER_DAY, 100), tokens=80)
    assert await reserved(claim)
    await valkey.client().flushall()
    assert await used(claim) is None  # Whoever asks the database now may not be told of the following.
    await counters.settle(claim, 50)
    await counters.seed(claim, {claim.rules[0]: 0})
    assert await used(claim) == 50


async def test_a_large_limit_is_counted_exactly() -> None:
    claim = a_claim(a_rule(Metric.TOKENS_PER_MONTH, 2**53 - 1), tokens=1)
    await counters.seed(claim, {claim.rules[0]: 2**53 - 3})
    assert [await reserved(again(claim)) for _ in range(3)] == [True, True, False]


# --- Whatever the order ----------------------------------------------------------------------------

LIMIT = 1_000

Step = tuple[str, int, int]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 600), st.just(0)),
        st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 100)),
        st.tuples(st.just("renew"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("die"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 40), st.just(0)),
    ),
    max_size=40,
)


class Oracle:
    """What should be counted, kept as plainly as can be."""

    def __init__(self) -> None:
        self.now = NOON
        self.first = a_claim(a_rule(Metric.TOKENS_PER_DAY, LIMIT), a_rule(Metric.TOKENS_PER_MINUTE, LIMIT))
        self.leases: dict[Claim, datetime] = {}  # until when
        self.dead: set[Claim] = set()
        self.spent = 0
        self.charged: list[tuple[datetime, Claim, int]] = []

    def running(self, number: int) -> Claim | None:
        """One of those that somebody still looks after; a process that lives renews in time."""
        alive = [claim for claim in self.leases if claim not in self.dead and self.leases[claim] > self.now]
        return alive[number % len(alive)] if alive else None

    @property
    def held(self) -> int:
        return sum(claim.tokens for claim, until in self.leases.items() if until > self.now)

    def in_the_last_minute(self) -> int:
        return sum(amount for at, _claim, amount in self.charged if at > self.now - timedelta(seconds=60))

    async def take(self, step: Step) -> None:
        what, number, percent = step
        if what == "wait":
            self.now += timedelta(seconds=number)
            for claim, until in list(self.leases.items()):
                if until <= self.now and claim not in self.dead:
                    self.dead.add(claim)
        elif what == "reserve":
            claim = replace(self.first, request_id=uuid7(), at=self.now, tokens=number)
            if await reserved(claim):
                self.leases[claim] = self.now + LEASE
                self.charged.append((self.now, claim, number))
        elif claim := self.running(number):
            await self.work_on(what, claim, percent)

    async def work_on(self, what: str, claim: Claim, percent: int) -> None:
        if what == "die":
            self.dead.add(claim)
        elif what == "renew":
            await counters.renew([claim], self.now)
            self.leases[claim] = self.now + LEASE
        else:
            tokens = claim.tokens * percent // 100
            await counters.settle(claim, tokens)
            del self.leases[claim]
            self.spent += tokens
            self.charged = [(at, c, tokens if c is claim else n) for at, c, n in self.charged]


@example([("reserve", 0, 0), ("wait", 40, 0), ("reserve", 1_000, 0)])
@settings(max_examples=60, deadline=None)
@given(steps)
def test_spent_and_reserved_never_exceed_the_limit(taken: list[Step]) -> None:
    async def run() -> None:
        oracle = Oracle()
        for step in taken:
            await oracle.take(step)
            assert oracle.spent + oracle.held <= LIMIT
            assert oracle.in_the_last_minute() <= LIMIT
            counted = await used(replace(oracle.first, at=oracle.now))
            assert counted in (None, oracle.spent + oracle.held)

    alone(run())
