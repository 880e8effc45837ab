"""Between a generation and the quotas: what it may need at most, and what it used in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from inference.generation.errors import OverQuota, QuotaNotCounted
from inference.registry.selectors import Resolved
from tenants import clock
from tenants.actors import Actor
from tenants.ids import uuid7
from tenants.quotas import reservations
from tenants.quotas.counters import Claim
from tenants.quotas.errors import QuotaExceeded, QuotaUnavailable
from tenants.quotas.estimates import likely_prompt_tokens, most_tokens
from tenants.quotas.reservations import Reservation
from tenants.quotas.usage import Consumer

if TYPE_CHECKING:
    from inference.generation.run import Counts, Order


async def reserve(order: Order) -> Reservation:
    """Hold all that the order can need. Raises OverQuota or QuotaNotCounted; nothing is held then."""
    tokens = most_tokens(order.request, context_tokens=order.resolved.context_tokens)
    return await _reserve(order.actor, order.request_id, order.resolved, tokens, answers=True)


async def count_request(actor: Actor, resolved: Resolved) -> Reservation:
    """Count a request that no model reads. Raises OverQuota or QuotaNotCounted."""
    reservation = await _reserve(actor, uuid7(), resolved, 0, answers=False)
    await reservations.settle(reservation, prompt_tokens=0, completion_tokens=0)
    return reservation


def nothing(order: Order) -> Reservation:
    """What a copy of a request holds: no limit binds it, and nobody's usage grows by it."""
    at, resolved = clock.now(), order.resolved
    consumer = Consumer(
        tenant_id=order.actor.tenant_id,
        day=at.date(),
        user_id=None,
        key_id=None,
        route=resolved.route,
        model=resolved.model,
    )
    return Reservation(Claim(order.actor.tenant_id, order.request_id, at, ()), consumer, [])


async def settle(reservation: Reservation, order: Order, usage: Counts) -> None:
    """Count what was used; of an answer that was cut off before the model told, what was likely read."""
    if order.is_shadow:
        return
    prompt_tokens = usage.prompt_tokens
    if prompt_tokens is None and usage.completion_tokens:
        prompt_tokens = likely_prompt_tokens(order.request, context_tokens=order.resolved.context_tokens)
    await reservations.settle(
        reservation,
        prompt_tokens=prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        cached_tokens=usage.cached_tokens or 0,
    )


async def _reserve(
    actor: Actor, request_id: UUID, resolved: Resolved, tokens: int, *, answers: bool
) -> Reservation:
    try:
        return await reservations.reserve(
            actor=actor,
            request_id=request_id,
            route=resolved.route,
            model=resolved.model,
            tokens=tokens,
            answers=answers,
        )
    except QuotaExceeded as error:
        raise OverQuota(error) from error
    except QuotaUnavailable as error:
        raise QuotaNotCounted from error
