"""Reading conversations. Every function needs the actor's tenant scope."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from audit import output, record
from audit.models import AuditChunk, AuditCompletion
from audit.output import Kind, Part
from console import route_reasons
from console.chat import access, limits, sealing
from console.chat.models import Conversation, Message
from console.chat.prompt import Turn
from inference.generation.errors import explain
from inference.registry.models import ModelVersion
from inference.registry.selectors import usable_routes
from inference.routing.selectors import classes_by_route
from knowledge.access import visible_bases
from knowledge.sealing import name_of
from tenants.access import Actor
from tenants.ids import day_of
from tenants.quotas.selectors import banner
from tenants.scope import tenant_scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A question and one answer to it, as the browser needs them."""

    conversation_id: UUID
    title: str
    question_id: UUID
    question_text: str
    answer_id: UUID
    generation: UUID
    regenerated: UUID | None
    sources: dict[str, Any] | None = None  # See console.grounding.Grounded.


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the audit record holds of an answer."""

    chunks: list[tuple[int, list[Part]]]  # (sequence number, what it holds)
    outcome: dict[str, Any]  # Of Message.OUTCOME.

    @property
    def parts(self) -> list[Part]:
        return [part for _seq, parts in self.chunks for part in parts]


def asked_before(actor: Actor, client_id: UUID) -> Exchange | None:
    """What this client_id already asked, so that a question repeated after a lost connection is asked once."""
    answer = Message.objects.filter(author_id=actor.user_id, client_id=client_id).first()
    if answer is None:
        return None
    access.access_conversation(actor, answer.conversation_id)
    return exchange_of(answer)


def exchange_for(actor: Actor, answer_id: UUID) -> Exchange:
    """Raises NotVisible."""
    answer = Message.objects.filter(pk=answer_id, generation__isnull=False).first()
    if answer is None:
        raise access.NotVisible(access.VIEW)
    access.access_conversation(actor, answer.conversation_id)
    return exchange_of(answer)


def exchange_of(answer: Message) -> Exchange:
    """An answer with its question, and the answer before it where there is one."""
    question, conversation = answer.question, answer.conversation
    assert question is not None and answer.generation is not None
    earlier = question.answers.filter(pk__lt=answer.pk).order_by("-pk")
    return Exchange(
        conversation_id=conversation.pk,
        title=title_of(conversation),
        question_id=question.pk,
        question_text=text_of(question),
        answer_id=answer.pk,
        generation=answer.generation,
        regenerated=earlier.values_list("pk", flat=True).first(),
        sources=sources_of(answer),
    )


def turns_before(conversation: Conversation, question: Message | None) -> list[Turn]:
    """The answered questions before `question` (or all), each with its newest answer that holds any text."""
    answers: dict[UUID, str] = {}
    questions: list[Message] = []
    for message in conversation.messages.order_by("pk"):
        if message.role == Message.Role.USER:
            questions.append(message)
        elif message.question_id and (text := text_of(message)):
            answers[message.question_id] = text
    if question is not None:
        questions = [earlier for earlier in questions if earlier.pk < question.pk]
    return [Turn(text_of(q), answers[q.pk]) for q in questions if q.pk in answers]


def recorded_answer(answer: Message) -> Recorded:
    """An answer as the audit record has it; "interrupted" when nobody has closed the record yet."""
    assert answer.generation is not None
    handle = record.Handle(answer.tenant_id, answer.generation)
    chunks = AuditChunk.objects.filter(day=handle.day, request_id=handle.request_id).order_by("seq")
    opened = [
        (seq, output.decode(record.open_output(handle, seq=seq, sealed=sealed)))
        for seq, sealed in chunks.values_list("seq", "sealed")
    ]
    completion = AuditCompletion.objects.filter(day=handle.day, request_id=handle.request_id).first()
    if completion is None or completion.status not in Message.Status:
        return Recorded(
            chunks=opened, outcome={"status": Message.Status.INTERRUPTED, "error_code": "interrupted"}
        )
    return Recorded(chunks=opened, outcome={name: getattr(completion, name) for name in Message.OUTCOME})


def page_data(actor: Actor, conversation_id: UUID | None) -> dict[str, Any]:
    """Everything the chat page starts from, ready for JSON. Raises NotVisible."""
    conversation = access.access_conversation(actor, conversation_id) if conversation_id else None
    return {
        "tenant": {"slug": actor.tenant_slug, "name": actor.tenant_name},
        "conversation": conversation and {"id": str(conversation.pk), "title": title_of(conversation)},
        "conversations": conversations_listed(actor),
        "messages": _messages(conversation.messages.order_by("pk")) if conversation else [],
        "routes": _routes(actor),
        "knowledge": _knowledge(actor),
        "limits": {"text_bytes": limits.TEXT_BYTES, "bases": limits.BASES},
        "quota": _quota(actor),
    }


def quota_for(actor: Actor) -> dict[str, Any] | None:
    """That a limit is nearly used up, ready for JSON; None while there is plenty. Opens the tenant's scope."""
    with tenant_scope(actor.tenant_id):
        return _quota(actor)


def _quota(actor: Actor) -> dict[str, Any] | None:
    found = banner(actor)
    return found.plain() if found else None


def _routes(actor: Actor) -> list[dict[str, Any]]:
    chatting = list(usable_routes(actor).filter(deployment__version__kind=ModelVersion.Kind.TEXT))
    classes = classes_by_route(chatting)
    return [
        {"name": route.name, "label": route.label, "classes": classes.get(route.pk, [])} for route in chatting
    ]


def _knowledge(actor: Actor) -> list[dict[str, str]]:
    """The bases that the actor may ask, by name."""
    found = [
        {"id": str(base.pk), "name": name_of(base)} for base in visible_bases(actor)[: limits.BASES_LISTED]
    ]
    return sorted(found, key=lambda base: base["name"].casefold())


def conversations_listed(actor: Actor) -> list[dict[str, str]]:
    """The actor's conversations, newest first, ready for JSON. Raises NotVisible."""
    listed = access.visible_conversations(actor)[: limits.CONVERSATIONS_LISTED]
    return [{"id": str(c.pk), "title": title_of(c), "updated": c.updated.isoformat()} for c in listed]


def _messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    return [_message(message) for message in messages]


def _message(message: Message) -> dict[str, Any]:
    parts = parts_of(message)
    return {
        "id": str(message.pk),
        "role": message.role,
        "text": output.text_of(parts),
        "reasoning": output.text_of(parts, Kind.REASONING),
        "status": message.status,
        "created": message.created.isoformat(),
        "generation": str(message.generation) if message.generation else None,
        "active": message.is_generating,
        "answers": str(message.question_id) if message.question_id else None,
        "knowledge": [str(base_id) for base_id in message.bases],
        "sources": sources_of(message),
        "error": explain(message.error_code) if message.error_code else "",
        "meta": {
            "model": message.route,
            **answering(message),
            "ttft_ms": message.ttft_ms,
            "tokens_per_s": message.tokens_per_s,
            "prompt_tokens": message.prompt_tokens,
            "completion_tokens": message.completion_tokens,
        },
    }


def text_of(message: Message) -> str:
    """The message's text, without the reasoning before it; "" while it is being written."""
    return output.text_of(parts_of(message))


def parts_of(message: Message) -> list[Part]:
    """All that was written; nothing while it is being written."""
    if not message.sealed_content:
        return []
    return output.decode(_opened(message, "content", message.sealed_content))


def _opened(message: Message, field: str, sealed: bytes | memoryview) -> str:
    return sealing.open_content(
        tenant_id=message.tenant_id,
        conversation_id=message.conversation_id,
        message_id=message.pk,
        day=day_of(message.pk),
        sealed=bytes(sealed),
        field=field,
    )


def sources_of(answer: Message) -> dict[str, Any] | None:
    """What was found in documents for it; None where none were asked. See console.grounding.Grounded."""
    if not answer.sealed_sources:
        return None
    try:
        found: dict[str, Any] = json.loads(_opened(answer, "sources", answer.sealed_sources))
    except ValueError:  # Gone under the retention policy.
        return None
    return found


def answering(answer: Message) -> dict[str, Any]:
    """Who answered, and why they: for the reader, in their language."""
    return {
        "deployment": answer.deployment,
        "reason": route_reasons.in_words(answer.reason),
        "route_class": route_reasons.class_of(answer.reason),
    }


def ended(actor: Actor, generation_id: UUID) -> dict[str, Any]:
    """What is known of an answer once it is written. Opens the tenant's scope; raises NotVisible."""
    with tenant_scope(actor.tenant_id):
        answer = access.access_generation(actor, generation_id)
        return {"sources": sources_of(answer), "answering": answering(answer)}


def title_of(conversation: Conversation) -> str:
    return sealing.open_title(
        tenant_id=conversation.tenant_id,
        conversation_id=conversation.pk,
        day=day_of(conversation.pk),
        sealed=bytes(conversation.sealed_title),
    )
