"""The only way to a conversation or a generation. What is missing and what is forbidden look the same.

All functions need the actor's tenant scope.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet

from console.chat.models import CONVERSATIONS, Conversation, Message
from tenants import access
from tenants.access import Actor, Level, Need, NotVisible
from tenants.roles import CHAT_USE

VIEW, CHANGE, DELETE = (
    CONVERSATIONS.permission(level) for level in (Level.VIEWER, Level.EDITOR, Level.OWNER)
)


def access_conversation(actor: Actor, conversation_id: UUID, permission: str = VIEW) -> Conversation:
    """The conversation, if the actor may do that with it. Raises NotVisible."""
    access.require(actor, CHAT_USE)
    return access.access_object(actor, _of_tenant(actor), permission, pk=conversation_id)


def visible_conversations(actor: Actor) -> QuerySet[Conversation]:
    """Those the actor may read, newest first. Raises NotVisible without the right to chat."""
    access.require(actor, CHAT_USE)
    return access.visible_objects(actor, _of_tenant(actor), VIEW).order_by("-updated", "-pk")


def access_generation(actor: Actor, generation_id: UUID, permission: str = VIEW) -> Message:
    """The answer that a generation writes, if the actor may reach its conversation. Raises NotVisible."""
    access.require(actor, CHAT_USE)
    answer = Message.objects.filter(tenant_id=actor.tenant_id, generation=generation_id).first()
    if answer is None:
        raise NotVisible(permission)
    access_conversation(actor, answer.conversation_id, permission)
    return answer


def need(conversation_id: UUID, permission: str) -> Need:
    """What reading or writing in a conversation depends on, while it lasts."""
    return Need(Conversation, conversation_id, permission)


def grant_to_owner(conversation: Conversation) -> None:
    """The owner may read, change, delete and share what they started."""
    access.put_grant(conversation, conversation.owner, Level.OWNER)


def _of_tenant(actor: Actor) -> QuerySet[Conversation]:
    return Conversation.objects.filter(tenant_id=actor.tenant_id)
