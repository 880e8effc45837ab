"""Asking, following and stopping, from the socket's side: authorise, record, store, start."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db.models import Q

from audit import output, record
from audit.output import Kind, Part
from console import grounding
from console.chat import access, errors, selectors, services
from console.chat.errors import ChatError
from console.chat.frames import Ask, Regenerate
from console.chat.models import Message
from inference.client import Delta
from inference.generation import run, running, stream
from inference.generation.run import Ending, Generation, Order
from knowledge import asking
from tenants.access import Actor, Need, NotVisible
from tenants.database import in_database
from tenants.roles import CHAT_USE
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamSink:
    """Hands an answer to whoever reads its Valkey stream; only sealed text goes there."""

    key: stream.StreamKey

    async def batch(self, *, seq: int, deltas: list[Delta], sealed: bytes) -> None:
        expire_s = settings.GENERATION_TIME_LIMIT_S + stream.KEEP_S
        await stream.publish(self.key, seq=seq, sealed=sealed, expire_s=expire_s)

    async def end(self, *, seq: int, ending: Ending) -> None:
        await stream.publish_end(self.key, seq=seq, end=services.outcome_of(ending))


async def ask(*, actor: Actor, frame: Ask, client_address: str) -> selectors.Exchange:
    """Start answering a new question, or find what this client_id asked before.

    Raises ChatError, NotVisible or a GenerationError; nothing was asked of the model then.
    """
    arrived = time.monotonic()
    plan = await in_database(
        services.plan_ask,
        actor=actor,
        client_id=frame.client_id,
        conversation_id=frame.conversation,
        text=frame.text,
        route=frame.route,
        route_class=frame.route_class or "",
        bases=frame.knowledge,
    )
    return await _carry_out(actor, plan, client_address, arrived)


async def regenerate(*, actor: Actor, frame: Regenerate, client_address: str) -> selectors.Exchange:
    """Start a further answer to an old question. As `ask` otherwise."""
    arrived = time.monotonic()
    plan = await in_database(
        services.plan_regenerate,
        actor=actor,
        client_id=frame.client_id,
        conversation_id=frame.conversation,
        answer_id=frame.answer,
        route_class=frame.route_class or "",
        without_documents=frame.without_documents,
    )
    return await _carry_out(actor, plan, client_address, arrived)


async def _carry_out(
    actor: Actor, plan: services.Plan | selectors.Exchange, client_address: str, arrived: float
) -> selectors.Exchange:
    if isinstance(plan, selectors.Exchange):
        return plan
    if plan.bases:
        said = [turn.question for turn in plan.turns]
        try:
            found = await asking.aask(actor, plan.bases, plan.question_text, earlier=said)
        except NotVisible:
            raise errors.knowledge_not_found() from None
        plan = services.grounded(plan, found)
    order = Order(
        actor=actor,
        channel="chat",
        permission=CHAT_USE,
        kind="chat",
        request=plan.request,
        resolved=plan.resolved,
        conversation_id=plan.conversation_id,
        client_address=client_address,
        needs=frozenset({access.need(plan.conversation_id, access.CHANGE)}) | grounding.needs_of(plan.bases),
        passages=plan.passages,
        arrived=arrived,
    )
    generation = await run.begin(order, StreamSink(order.key))
    try:
        exchange = await in_database(services.store, actor=actor, plan=plan, generation=order.request_id)
    except services.AlreadyAsked:
        await generation.abandon("already_asked")
        earlier = await in_database(services.asked_before, actor=actor, client_id=plan.client_id)
        if earlier is None:
            raise
        return earlier
    except Exception as error:
        await generation.abandon(error.code if isinstance(error, ChatError) else "not_stored")
        raise
    generation.start(on_end=partial(_save, generation, exchange.answer_id))
    return exchange


async def _save(generation: Generation, answer_id: UUID, parts: list[Part], ending: Ending) -> None:
    order = generation.order  # Whoever was asked last, where others failed before.
    await in_database(
        services.finish_answer,
        tenant_id=order.actor.tenant_id,
        answer_id=answer_id,
        parts=parts,
        ending=ending,
        resolved=order.resolved,
    )


async def stop(*, actor: Actor, generation_id: UUID) -> None:
    """Stop an answer, whichever process writes it. Raises NotVisible, StreamUnavailable."""
    await in_database(_require_generation, actor, generation_id, access.CHANGE)
    await stop_everywhere(actor.tenant_id, generation_id)


async def stop_everywhere(tenant_id: UUID, generation_id: UUID) -> None:
    """Stop a generation that the caller may stop. Raises StreamUnavailable."""
    here = running.of_this_loop().get(generation_id)
    if here is not None:
        here.stop("stopped")
    else:
        await stream.request_stop((tenant_id, generation_id))


@dataclass(frozen=True, slots=True)
class Admitted:
    """Somebody who may read an answer, for as long as they may read its conversation; `admit` makes these."""

    actor: Actor
    generation_id: UUID
    need: Need


@dataclass(frozen=True, slots=True)
class Piece:
    """What a follower gets: text or reasoning (or both) with its sequence number, or the end."""

    seq: int
    text: str = ""
    reasoning: str = ""
    end: dict[str, Any] | None = None


async def admit(*, actor: Actor, generation_id: UUID) -> Admitted:
    """Raises NotVisible unless the actor may read the answer."""
    answer = await in_database(_require_generation, actor, generation_id, access.VIEW)
    return Admitted(actor, generation_id, access.need(answer.conversation_id, access.VIEW))


async def follow(admitted: Admitted, *, after: int) -> AsyncIterator[Piece]:
    """An answer's text from sequence number `after` on, live, and its end. Raises NotVisible, StreamUnavailable.

    When the stream is gone (expired, or its process died), text and end come from the audit record.
    """
    actor, generation_id = admitted.actor, admitted.generation_id
    try:
        async for entries in stream.read((actor.tenant_id, generation_id)):
            for piece in await _opened(record.Handle(actor.tenant_id, generation_id), entries, after):
                yield piece
    except stream.StreamGone:
        for piece in await in_database(_settled, actor, generation_id, after):
            yield piece


def _require_generation(actor: Actor, generation_id: UUID, permission: str) -> Message:
    with tenant_scope(actor.tenant_id):
        return access.access_generation(actor, generation_id, permission)


async def _opened(handle: record.Handle, entries: list[stream.Entry], after: int) -> list[Piece]:
    try:
        # The day's key is nearly always at hand, and then no database is needed: this runs for every token.
        return _pieces(handle, entries, after)
    except SynchronousOnlyOperation:
        return await in_database(_pieces, handle, entries, after)


def _pieces(handle: record.Handle, entries: list[stream.Entry], after: int) -> list[Piece]:
    return [
        Piece(entry.seq, end=entry.end)
        if entry.end is not None
        else _piece(entry.seq, output.decode(record.open_output(handle, seq=entry.seq, sealed=entry.sealed)))
        for entry in entries
        if entry.end is not None or entry.seq > after
    ]


def _piece(seq: int, parts: list[Part]) -> Piece:
    return Piece(seq, output.text_of(parts), output.text_of(parts, Kind.REASONING))


def _settled(actor: Actor, generation_id: UUID, after: int) -> list[Piece]:
    """The rest of an answer that nobody writes any more, from the record."""
    services.reconcile(actor=actor, answers=Q(generation=generation_id))
    with tenant_scope(actor.tenant_id):
        answer = Message.objects.filter(generation=generation_id).first()
        if answer is None:
            raise NotVisible(access.VIEW)
        recorded = selectors.recorded_answer(answer)
        pieces = [_piece(seq, parts) for seq, parts in recorded.chunks if seq > after]
        end = {name: getattr(answer, name) for name in Message.OUTCOME}
        last = recorded.chunks[-1][0] if recorded.chunks else 0
        return [*pieces, Piece(last + 1, end=end)]
