"""From a person's question to the passages that answer it: the one way in for the chat and for programs.

`aask` is for an event loop. Permission, the search and the opening of passages are one transaction; the question's vectors
are asked for between two, and without them words alone are searched.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from knowledge import access
from knowledge.answers import question as questions
from knowledge.answers.confidence import confidence_of
from knowledge.models import Base
from knowledge.parsing.language import language_of
from knowledge.retrieval import vectors
from knowledge.retrieval.options import Options, options_of
from knowledge.retrieval.search import Asked, Passage, search
from tenants.access import Actor, NotVisible
from tenants.database import in_database
from tenants.scope import tenant_scope

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """passages: the best first. searched: the words that were searched for. at: the day whose versions were asked, if one
    was named. by_meaning: whether vectors took part. is_enough: whether the passages seem to hold an answer.
    """

    passages: list[Passage]
    searched: str
    at: datetime.date | None
    confidence: float
    is_enough: bool
    by_meaning: bool


async def aask(
    actor: Actor,
    base_ids: Sequence[UUID],
    text: str,
    *,
    earlier: Sequence[str] = (),
    options: Options | None = None,
) -> Found:
    """The passages for a question. earlier: the questions before it in the conversation. options: instead of the base's.

    Raises NotVisible.
    """
    searched, at = questions.to_search(text, earlier), questions.as_of(text)
    language = language_of(searched)
    plan = await in_database(_plan, actor, base_ids, language)
    if options is not None:
        plan = replace(plan, options=options)
    found: dict[str, Any] = {}
    for model in plan.asked_models:
        try:
            (found[model.label],) = await vectors.aembed(actor.tenant_id, [searched], model=model)
        except vectors.EmbeddingUnavailable:
            logger.warning("a base is searched by words alone: its embedding model does not answer")
    return await in_database(_search, actor, base_ids, plan, Asked(searched, found, at), language)


@dataclass(frozen=True, slots=True)
class _Plan:
    models: dict[UUID, vectors.Model]  # By base, of those whose model reads the question's language.
    options: Options

    @property
    def asked_models(self) -> list[vectors.Model]:
        return list({model.label: model for model in self.models.values()}.values())


def _plan(actor: Actor, base_ids: Sequence[UUID], language: str) -> _Plan:
    with tenant_scope(actor.tenant_id):
        bases = _bases(actor, base_ids)
        models = {}
        for base in bases:
            try:
                model = vectors.model_of(base)
            except vectors.EmbeddingUnavailable:
                logger.warning("a base is searched by words alone: the route of its embedding model is gone")
                continue
            if model is not None and model.reads(language):
                models[base.pk] = model
        # Several bases are asked as the first of them is.
        return _Plan(models, options_of(bases[0].options))


def _search(actor: Actor, base_ids: Sequence[UUID], plan: _Plan, asked: Asked, language: str) -> Found:
    with tenant_scope(actor.tenant_id):
        bases = _bases(actor, base_ids)
        passages = search(actor, bases, asked, models=plan.models, options=plan.options)
    confidence = confidence_of([passage.scores for passage in passages], language)
    return Found(
        passages=passages,
        searched=asked.text,
        at=asked.at,
        confidence=round(confidence, 3),
        is_enough=confidence >= plan.options.enough,
        by_meaning=bool(asked.vectors),
    )


def _bases(actor: Actor, base_ids: Sequence[UUID]) -> list[Base]:
    found = {base.pk: base for base in access.visible_bases(actor).filter(pk__in=base_ids)}
    if not base_ids or len(found) != len(set(base_ids)):
        raise NotVisible(access.VIEW)
    return [found[base_id] for base_id in dict.fromkeys(base_ids)]
