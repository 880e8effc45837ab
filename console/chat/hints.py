"""Hints to a person's other tabs that there is something newer. Ids only: content travels by the database."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from console.chat import access, selectors
from tenants.access import Actor
from tenants.scope import tenant_scope
from tenants.valkey import VALKEY_ERRORS

logger = logging.getLogger(__name__)


def group_of(actor: Actor) -> str:
    """All sockets of one person in one tenant."""
    assert actor.user_id is not None
    return f"chat.{actor.tenant_id.hex}.{actor.user_id.hex}"


async def started(layer: Any, actor: Actor, answer_id: UUID, *, origin: str) -> None:
    """An answer began. A hint that is lost costs another tab a reload, nothing more."""
    await _send(layer, actor, {"type": "chat.started", "answer": str(answer_id), "origin": origin})


def renamed(actor: Actor, conversation_id: UUID) -> None:
    """A conversation got another title; from synchronous code."""
    event = {"type": "chat.renamed", "conversation": str(conversation_id)}
    async_to_sync(_send)(get_channel_layer(), actor, event)


async def _send(layer: Any, actor: Actor, event: dict[str, str]) -> None:
    try:
        await layer.group_send(group_of(actor), event)
    except VALKEY_ERRORS:
        logger.warning("a hint to other tabs was lost: Valkey does not answer")


def exchange_for(actor: Actor, answer_id: UUID) -> selectors.Exchange:
    """What a `started` hint is about. Raises NotVisible."""
    with tenant_scope(actor.tenant_id):
        return selectors.exchange_for(actor, answer_id)


def title_for(actor: Actor, conversation_id: UUID) -> str:
    """What a `renamed` hint is about. Raises NotVisible."""
    with tenant_scope(actor.tenant_id):
        return selectors.title_of(access.access_conversation(actor, conversation_id))
