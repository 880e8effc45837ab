"""Writing conversations. Every function opens the actor's tenant scope and has committed when it returns, unless
its caller holds that scope open, as views do.

Asking is in two steps, because the audit record must exist before anything else does: `plan_ask` decides
whether the question may be asked and what the model will be sent, and `store` keeps question and answer once
the intent is recorded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db import IntegrityError
from django.db.models import Q

from audit import output
from audit.output import Part
from console import grounding
from console.chat import access, errors, limits, prompt, sealing, selectors
from console.chat.models import Conversation, Message
from inference.generation import stream
from inference.generation.run import Ending
from inference.registry.selectors import Resolved, RouteNotFound
from inference.routing.ask import ask_of
from inference.routing.choice import resolve
from knowledge import asking
from tenants import clock
from tenants.access import Actor
from tenants.ids import day_of, uuid7
from tenants.scope import tenant_scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A question that may be asked; nothing of it is stored yet."""

    client_id: UUID
    conversation_id: UUID
    new_title: str  # "" for a conversation that exists.
    question_id: UUID
    question_text: str
    regenerated: UUID | None  # The answer that this one stands beside; None for a new question.
    resolved: Resolved
    request: dict[str, Any]  # For the model.
    turns: tuple[prompt.Turn, ...] = ()
    bases: tuple[UUID, ...] = ()  # What it is asked of.
    passages: tuple[dict[str, Any], ...] = ()  # Of them, for the record.
    sources: dict[str, Any] | None = None  # Of them, as the conversation keeps them.


class AlreadyAsked(Exception):
    """Look the earlier exchange up; see `asked_before`."""


def plan_ask(
    *,
    actor: Actor,
    client_id: UUID,
    conversation_id: UUID | None,
    text: str,
    route: str | None,
    route_class: str = "",
    bases: tuple[UUID, ...] = (),
) -> Plan | selectors.Exchange:
    """A new question. An Exchange comes back when this client_id was asked before. Raises ChatError, NotVisible."""
    with tenant_scope(actor.tenant_id):
        asked = selectors.asked_before(actor, client_id)
        if asked is not None:
            return asked
        turns: list[prompt.Turn] = []
        if conversation_id is not None:
            conversation = access.access_conversation(actor, conversation_id, access.CHANGE)
            _require_idle(actor, Q(conversation=conversation))
            turns = selectors.turns_before(conversation, None)
        _require_room(actor)
        asked_in = conversation_id or uuid7()
        resolved = _resolve(actor, route, asked_in, turns, text, route_class)
        return Plan(
            client_id=client_id,
            conversation_id=asked_in,
            new_title="" if conversation_id else title_of(text),
            question_id=uuid7(),
            question_text=text,
            regenerated=None,
            resolved=resolved,
            request=_request(turns, text, resolved),
            turns=tuple(turns),
            bases=bases,
        )


def plan_regenerate(
    *,
    actor: Actor,
    client_id: UUID,
    conversation_id: UUID,
    answer_id: UUID,
    route_class: str = "",
    without_documents: bool = False,
) -> Plan | selectors.Exchange:
    """A further answer to an old question; earlier answers stay. As `plan_ask` otherwise."""
    with tenant_scope(actor.tenant_id):
        asked = selectors.asked_before(actor, client_id)
        if asked is not None:
            return asked
        conversation = access.access_conversation(actor, conversation_id, access.CHANGE)
        answer = (
            Message.objects.filter(pk=answer_id, conversation=conversation, role=Message.Role.ASSISTANT)
            .select_related("question")
            .first()
        )
        if answer is None or answer.question is None:
            raise errors.not_found()
        _require_idle(actor, Q(conversation=conversation))
        _require_room(actor)
        text = selectors.text_of(answer.question)
        turns = selectors.turns_before(conversation, answer.question)
        resolved = _resolve(actor, answer.route, conversation.pk, turns, text, route_class)
        reason = resolved.reason.replace("named", "repeated", 1)
        resolved = replace(resolved, reason=reason)
        return Plan(
            client_id=client_id,
            conversation_id=conversation.pk,
            new_title="",
            question_id=answer.question.pk,
            question_text=text,
            regenerated=answer.pk,
            resolved=resolved,
            request=_request(turns, text, resolved),
            turns=tuple(turns),
            bases=() if without_documents else tuple(answer.question.bases),
        )


def grounded(plan: Plan, found: asking.Found) -> Plan:
    """The same question with what was found for it; nobody is asked when that holds no answer."""
    answer_tokens = _answer_tokens(plan.resolved)
    made = grounding.grounded(plan.question_text, found, plan.resolved, answer_tokens=answer_tokens)
    messages = prompt.messages_for(
        list(plan.turns),
        made.prompt.question,
        context_tokens=plan.resolved.context_tokens - prompt.estimate_tokens(made.prompt.system),
        answer_tokens=answer_tokens,
    )
    system = {"role": "system", "content": made.prompt.system}
    return replace(
        plan,
        resolved=made.resolved,
        request={**plan.request, "messages": [system, *messages]},
        passages=made.passages,
        sources=made.sources,
    )


def store(*, actor: Actor, plan: Plan, generation: UUID) -> selectors.Exchange:
    """Keep the question and the answer that is about to be written. The intent must be recorded already.

    Raises AlreadyAsked when another socket asked with this client_id at the same moment, and ChatError when
    one asked in this conversation.
    """
    try:
        with tenant_scope(actor.tenant_id):
            if plan.new_title:
                title = plan.new_title
                _create_conversation(actor, plan)
            else:
                conversation = access.access_conversation(actor, plan.conversation_id, access.CHANGE)
                title = selectors.title_of(conversation)
                Conversation.objects.filter(pk=plan.conversation_id).update(updated=clock.now())
            if plan.regenerated is None:
                _create_question(actor, plan)
            answer = _create_answer(actor, plan, generation)
            return selectors.Exchange(
                conversation_id=plan.conversation_id,
                title=title,
                question_id=plan.question_id,
                question_text=plan.question_text,
                answer_id=answer.pk,
                generation=generation,
                regenerated=plan.regenerated,
                sources=plan.sources,
            )
    except IntegrityError as error:
        if asked_before(actor=actor, client_id=plan.client_id):
            raise AlreadyAsked from error
        raise errors.conversation_busy() from error


def asked_before(*, actor: Actor, client_id: UUID) -> selectors.Exchange | None:
    """What this client_id asked."""
    with tenant_scope(actor.tenant_id):
        return selectors.asked_before(actor, client_id)


def finish_answer(
    *, tenant_id: UUID, answer_id: UUID, parts: list[Part], ending: Ending, resolved: Resolved
) -> None:
    """Keep what was answered and how it ended. A conversation deleted meanwhile stays deleted."""
    with tenant_scope(tenant_id):
        answer = Message.objects.filter(pk=answer_id).first()
        if answer is None:
            return
        Message.objects.filter(pk=answer_id).update(
            sealed_content=_sealed(answer, parts),
            sealed_sources=_supported(answer, parts),
            deployment=resolved.deployment,
            reason=resolved.reason[:300],
            **outcome_of(ending),
        )


def outcome_of(ending: Ending) -> dict[str, Any]:
    """Message.OUTCOME of an answer that has just ended; JSON-ready."""
    return {
        "status": ending.status,
        "finish_reason": ending.finish_reason,
        "error_code": ending.error_code,
        "ttft_ms": ending.timings.ttft_ms,
        "tokens_per_s": ending.tokens_per_s,
        "prompt_tokens": ending.usage.prompt_tokens,
        "completion_tokens": ending.usage.completion_tokens,
    }


def reconcile(*, actor: Actor, answers: Q) -> None:
    """Settle answers whose process died: their text comes from the audit record. Raises StreamUnavailable."""
    with tenant_scope(actor.tenant_id):
        waiting = list(Message.objects.filter(answers, status=Message.Status.GENERATING))
        alive = stream.alive_among([(actor.tenant_id, answer.generation) for answer in waiting])
        for answer in waiting:
            if (actor.tenant_id, answer.generation) not in alive:
                _settle(answer)


def rename(*, actor: Actor, conversation_id: UUID, title: str) -> str:
    """Give a conversation another title; the cleaned title comes back. Raises NotVisible, ChatError."""
    with tenant_scope(actor.tenant_id):
        conversation = access.access_conversation(actor, conversation_id, access.CHANGE)
        cleaned = " ".join(title.split())[: limits.TITLE_CHARACTERS_MAX].strip()
        if not cleaned or "\x00" in cleaned:
            raise errors.title_empty()
        conversation.sealed_title = _sealed_title(actor.tenant_id, conversation.pk, cleaned)
        conversation.save(update_fields=["sealed_title"])
        return cleaned


def delete(*, actor: Actor, conversation_id: UUID) -> list[UUID]:
    """Delete a conversation and its messages; the audit record stays. Running generations come back, to stop."""
    with tenant_scope(actor.tenant_id):
        conversation = access.access_conversation(actor, conversation_id, access.DELETE)
        running = conversation.messages.filter(status=Message.Status.GENERATING)
        generations = [each for each in running.values_list("generation", flat=True) if each]
        conversation.delete()
        return generations


def title_of(text: str) -> str:
    """A title from a question: its first words."""
    line = " ".join(text.replace("\x00", "").split())
    if len(line) <= limits.TITLE_CHARACTERS:
        return line
    cut = line[: limits.TITLE_CHARACTERS]
    # Break at a word's end where the language has spaces.
    head = cut.rsplit(" ", 1)[0]
    return (head if len(head) > limits.TITLE_CHARACTERS // 2 else cut) + "…"


# --- Parts -----------------------------------------------------------------------------------------


def _resolve(
    actor: Actor,
    route: str | None,
    conversation_id: UUID,
    turns: list[prompt.Turn],
    question: str,
    wanted: str,
) -> Resolved:
    said = [text for turn in turns for text in (turn.question, turn.answer) if text]
    request = {"messages": [{"content": text} for text in (*said, question)]}
    ask = ask_of("chat", request, wanted=wanted, conversation=str(conversation_id))
    try:
        return resolve(actor, route, ask=ask, unit=str(conversation_id))
    except RouteNotFound as error:
        raise errors.route_not_found() from error


def _request(turns: list[prompt.Turn], question: str, resolved: Resolved) -> dict[str, Any]:
    answer_tokens = _answer_tokens(resolved)
    messages = prompt.messages_for(
        turns, question, context_tokens=resolved.context_tokens, answer_tokens=answer_tokens
    )
    return {"messages": messages, "max_tokens": answer_tokens, **limits.PARAMETERS}


def _answer_tokens(resolved: Resolved) -> int:
    """At least half the context stays for what was said."""
    return min(limits.ANSWER_TOKENS, resolved.context_tokens // 2)


def _require_idle(actor: Actor, answers: Q) -> None:
    """Answers left over by a dead process do not count: they are settled first."""
    generating = Message.objects.filter(answers, status=Message.Status.GENERATING)
    if generating.exists():
        reconcile(actor=actor, answers=answers)
        if generating.exists():
            raise errors.conversation_busy()


def _require_room(actor: Actor) -> None:
    own = Q(author_id=actor.user_id)
    generating = Message.objects.filter(own, status=Message.Status.GENERATING)
    if generating.count() >= limits.RUNNING_PER_USER:
        reconcile(actor=actor, answers=own)
        if generating.count() >= limits.RUNNING_PER_USER:
            raise errors.too_many_answers()


def _create_conversation(actor: Actor, plan: Plan) -> None:
    conversation = Conversation.objects.create(
        pk=plan.conversation_id,
        owner_id=actor.user_id,
        sealed_title=_sealed_title(actor.tenant_id, plan.conversation_id, plan.new_title),
    )
    access.grant_to_owner(conversation)


def _create_question(actor: Actor, plan: Plan) -> None:
    assert actor.user_id is not None  # programs have no conversations
    question = Message(
        pk=plan.question_id,
        tenant_id=actor.tenant_id,
        conversation_id=plan.conversation_id,
        author_id=actor.user_id,
        role=Message.Role.USER,
        bases=list(plan.bases),
    )
    question.sealed_content = _sealed(question, [Part(plan.question_text)])
    question.save(force_insert=True)


def _create_answer(actor: Actor, plan: Plan, generation: UUID) -> Message:
    assert actor.user_id is not None  # programs have no conversations
    answer = Message(
        tenant_id=actor.tenant_id,
        conversation_id=plan.conversation_id,
        author_id=actor.user_id,
        role=Message.Role.ASSISTANT,
        question_id=plan.question_id,
        sealed_content=b"",
        status=Message.Status.GENERATING,
        client_id=plan.client_id,
        generation=generation,
        route=plan.resolved.route,
        model=plan.resolved.model,
        deployment=plan.resolved.deployment,
        reason=plan.resolved.reason[:300],
    )
    if plan.sources is not None:
        answer.sealed_sources = _sealed_sources(answer, plan.sources)
    answer.save(force_insert=True)
    return answer


def _settle(answer: Message) -> None:
    recorded = selectors.recorded_answer(answer)
    # Conditional, because a slow process may be saving the same answer at this moment.
    Message.objects.filter(pk=answer.pk, status=Message.Status.GENERATING).update(
        sealed_content=_sealed(answer, recorded.parts),
        sealed_sources=_supported(answer, recorded.parts),
        **recorded.outcome,
    )


def _supported(answer: Message, parts: list[Part]) -> bytes:
    """Its sources, with what its sentences rest on now that they are written."""
    sources = selectors.sources_of(answer)
    if sources is None:
        return b""
    return _sealed_sources(answer, grounding.supported(sources, output.text_of(parts)))


def _sealed_sources(message: Message, sources: dict[str, Any]) -> bytes:
    return _sealed_text(message, "sources", json.dumps(sources, ensure_ascii=False))


def _sealed(message: Message, parts: list[Part]) -> bytes:
    return _sealed_text(message, "content", output.encode(parts))


def _sealed_text(message: Message, field: str, text: str) -> bytes:
    return sealing.seal_content(
        tenant_id=message.tenant_id,
        conversation_id=message.conversation_id,
        message_id=message.pk,
        day=day_of(message.pk),
        text=text,
        field=field,
    )


def _sealed_title(tenant_id: UUID, conversation_id: UUID, title: str) -> bytes:
    return sealing.seal_title(
        tenant_id=tenant_id, conversation_id=conversation_id, day=day_of(conversation_id), title=title
    )
