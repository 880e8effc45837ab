"""Reserve before a model is asked, settle after it has answered. Asynchronous: generations call this.

    reservation = await reserve(actor=…, request_id=…, route=…, model=…, tokens=upper bound)
    … the answer; meanwhile every few seconds: await renew([reservation]) …
    await settle(reservation, prompt_tokens=…, completion_tokens=…)      or: await release(reservation)

All of a request is charged to the day in which it was reserved.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

from django import db

from tenants import clock, valkey
from tenants.actors import Actor
from tenants.database import in_database
from tenants.quotas import counters, metrics, rules, usage
from tenants.quotas.counters import Claim, Standing
from tenants.quotas.errors import QuotaExceeded, QuotaUnavailable
from tenants.quotas.models import Metric
from tenants.quotas.rules import MINUTE, Known, Rule
from tenants.quotas.usage import Consumer, Use

logger = logging.getLogger(__name__)

_ATTEMPTS = 5
_COUNTED_WITHOUT_ANSWER = frozenset({Metric.REQUESTS_PER_MINUTE})


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is held for one request. standings: where its limits stand with it."""

    claim: Claim
    consumer: Consumer
    standings: list[Standing]


async def reserve(
    *, actor: Actor, request_id: UUID, route: str, model: str, tokens: int, answers: bool = True
) -> Reservation:
    """Hold room for a request in every limit that binds the actor, or in none.

    tokens: the most that it can use. answers: False for what no model reads or writes, which counts as a request only.
    Raises QuotaExceeded and QuotaUnavailable; nothing is held then.
    """
    with metrics.seconds.labels("reserve").time():
        at = clock.now()
        consumer = Consumer(
            tenant_id=actor.tenant_id,
            day=at.date(),
            user_id=actor.user_id,
            key_id=actor.api_key_id,
            route=route,
            model=model,
        )
        try:
            claim = Claim(actor.tenant_id, request_id, at, (), tokens)
            claim, outcome, standings = await _reserved(actor, claim, answers=answers)
        except (*valkey.VALKEY_ERRORS, db.Error) as error:
            metrics.unavailable.inc()
            raise QuotaUnavailable(str(error)) from error
    if outcome == counters.RESERVED:
        return Reservation(claim, consumer, [_with(claim, standing) for standing in standings])
    await _refused(consumer)
    refusal = QuotaExceeded(_slowest(standings), standings)
    metrics.refusals.labels(refusal.metric, refusal.standing.rule.kind).inc()
    raise refusal


async def settle(
    reservation: Reservation, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0
) -> None:
    """Count what was used and give the rest back. Never raises: what cannot be given back runs out by itself."""
    use = Use(
        requests=1,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=cached_tokens,
    )
    with metrics.seconds.labels("settle").time():
        # The database first: a counter that is seeded just then may count this twice, but never not at all.
        await _add(reservation.consumer, use)
        await _give_back(reservation.claim, use.tokens)


async def release(reservation: Reservation) -> None:
    """Give everything back: the model was not asked. Never raises."""
    await _give_back(reservation.claim, 0)


async def renew(reservations: Iterable[Reservation]) -> None:
    """Hold these for counters.LEASE_S more, and again where Valkey forgot them. Raises QuotaUnavailable."""
    try:
        await counters.renew([each.claim for each in reservations], clock.now())
    except valkey.VALKEY_ERRORS as error:
        raise QuotaUnavailable(str(error)) from error


async def _reserved(actor: Actor, claim: Claim, *, answers: bool) -> tuple[Claim, bytes, list[Standing]]:
    """The claim with the rules that bind it now, and what became of it."""
    found = rules.known(actor) or await _looked_up(actor)
    for _attempt in range(_ATTEMPTS):
        claim = replace(claim, rules=_counted(found.rules, answers=answers), version=found.version)
        outcome, standings = await counters.reserve(claim)
        if outcome == counters.STALE:
            found = await _looked_up(actor)
        elif outcome == counters.UNSEEDED:
            unseeded = [standing.rule for standing in standings if standing.used is None]
            await counters.seed(claim, await in_database(usage.spent, claim.tenant_id, unseeded, claim.at))
        else:
            return claim, outcome, standings
    raise ConnectionError("limits change, or counters vanish, as soon as they are looked up")


async def _looked_up(actor: Actor) -> Known:
    version = await counters.version(actor.tenant_id)
    found = Known(await in_database(rules.rules_for, actor), version)
    rules.remember(actor, found)
    return found


def _counted(found: tuple[Rule, ...], *, answers: bool) -> tuple[Rule, ...]:
    if not answers:
        return tuple(rule for rule in found if rule.metric in _COUNTED_WITHOUT_ANSWER)
    return tuple(rule for rule in found if rule.metric != Metric.STORAGE_BYTES)


async def _give_back(claim: Claim, tokens: int) -> None:
    if not claim.rules:
        return
    try:
        await counters.settle(claim, tokens)
    except valkey.VALKEY_ERRORS:
        logger.warning("request %s: what it reserved runs out by itself", claim.request_id)


async def _refused(consumer: Consumer) -> None:
    await _add(consumer, Use(refused=1))


async def _add(consumer: Consumer, use: Use) -> None:
    try:
        await in_database(usage.add, consumer, use)
    except db.Error:
        logger.exception("usage could not be added to its day")


def _with(claim: Claim, standing: Standing) -> Standing:
    """Where a limit stands once the claim is in it."""
    rule = standing.rule
    resets = claim.at + counters.MINUTE_COUNTS if rule.metric in MINUTE else standing.resets
    return Standing(rule, (standing.used or 0) + claim.cost(rule), resets=resets)


def _slowest(standings: list[Standing]) -> Standing:
    """The limit that takes longest to have room again; first of all one that never will."""
    over = [standing for standing in standings if standing.retry_after != 0]
    return max(over, key=lambda each: (each.retry_after is None, each.retry_after or 0))
