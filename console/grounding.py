"""A question that is asked of knowledge bases, by a person or a program: what is recorded and shown of what was found."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from inference.client import Delta, Event, Finished, InferenceClient, Usage
from inference.registry.selectors import Resolved
from knowledge import access as bases
from knowledge import asking
from knowledge.answers.prompt import Prompt, estimate_tokens, prompt_for
from knowledge.answers.support import support_of
from knowledge.retrieval.search import Passage
from tenants.access import Need

NOT_IN_DOCUMENTS = "not_in_documents"


class Notice(InferenceClient):
    """Stands where no model is asked: the answer is these words, recorded and delivered as any other."""

    def __init__(self, words: str) -> None:
        super().__init__("")
        self._words = words

    async def stream_chat(self, request: dict[str, Any], **facts: Any) -> AsyncGenerator[Event, None]:
        yield Delta(self._words)
        yield Finished({0: "stop"}, Usage(0, 0))


@dataclass(frozen=True, slots=True)
class Grounded:
    """A question with what was found for it. prompt: what the model is sent instead of the question; resolved: who answers,
    which is nobody where the documents do not; passages: for the record; sources: as they are shown.
    """

    prompt: Prompt
    resolved: Resolved
    passages: tuple[dict[str, Any], ...]
    sources: dict[str, Any]


def grounded(question: str, found: asking.Found, resolved: Resolved, *, answer_tokens: int) -> Grounded:
    """Passages take three quarters at most of the context that is left beside the answer."""
    room = (resolved.context_tokens - answer_tokens) * 3 // 4
    prompt = prompt_for(question, found.passages, room=room, estimate=estimate_tokens)
    return Grounded(
        prompt=prompt,
        resolved=resolved if found.is_enough else _without_answer(resolved),
        passages=_recorded(found.passages[: prompt.used]),
        sources=_kept(found, prompt.used),
    )


def _without_answer(resolved: Resolved) -> Resolved:
    """Nobody is asked, and the answer says so."""
    words = _(
        "These documents do not seem to hold an answer to this. Look at the nearest passages, or ask without the documents."
    )
    return replace(
        resolved,
        client=Notice(words),
        reason=f"{resolved.reason} {NOT_IN_DOCUMENTS}",
        model="",
        version="",
        deployment="",
        deployment_id=None,
        rollout_id=None,
        arm="",
        others=(),
        shadow=None,
    )


def _recorded(passages: list[Passage]) -> tuple[dict[str, Any], ...]:
    """For the audit record: what was put before the model, word for word, and where it is from."""
    return tuple(
        {
            "document": passage.document,
            "text": passage.text,
            "headings": list(passage.headings),
            "page": passage.page_from,
            "document_id": str(passage.document_id),
            "version_id": str(passage.version_id),
            "version": passage.version,
            "start": passage.start,
            "end": passage.end,
        }
        for passage in passages
    )


def _kept(found: asking.Found, used: int) -> dict[str, Any]:
    """Ready for JSON: the passages as they are shown. used: so many of them the model was given."""
    return {
        "searched": found.searched,
        "at": found.at and found.at.isoformat(),
        "confidence": found.confidence,
        "is_enough": found.is_enough,
        "by_meaning": found.by_meaning,
        "used": used,
        "passages": [_shown(number, passage) for number, passage in enumerate(found.passages, start=1)],
        "support": [],
    }


def supported(sources: dict[str, Any], answer: str) -> dict[str, Any]:
    """The same with what the answer's sentences rest on."""
    if not sources["is_enough"]:
        return sources
    given = sources["passages"][: sources["used"]]
    found = support_of(answer, [passage["text"] for passage in given])
    support = [
        {
            "start": each.start,
            "end": each.end,
            "passages": list(each.passages),
            "spans": [
                span and [given[number - 1]["start"] + span[0], given[number - 1]["start"] + span[1]]
                for number, span in zip(each.passages, each.spans, strict=True)
            ],
        }
        for each in found
    ]
    return {**sources, "support": support}


def _shown(number: int, passage: Passage) -> dict[str, Any]:
    scores = passage.scores
    return {
        "number": number,
        "base": str(passage.base_id),
        "document": str(passage.document_id),
        "name": passage.document,
        "version_id": str(passage.version_id),
        "version": passage.version,
        "is_superseded": passage.is_superseded,
        "start": passage.start,
        "end": passage.end,
        "page": passage.page_from,
        "headings": list(passage.headings),
        "text": passage.text,
        "words_rank": scores.words_rank,
        "vector_rank": scores.vector_rank,
    }


def needs_of(base_ids: tuple[UUID, ...]) -> frozenset[Need]:
    """An answer goes on for as long as the bases may be asked."""
    return frozenset(bases.need(each) for each in base_ids)
