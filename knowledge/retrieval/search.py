"""The passages of a question: found by words and by meaning, and both scores added up.

Each score is taken relative to the others of its stage, and the two are weighted (a convex combination, which Bruch and
others, 2022, found better than ranks alone, and so did we: docs/benchmarks.md).

What the asker may not read is left out before anything is ranked or counted. A document answers with the version that
holds on the day that is asked about: today, unless the question names another.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from django.db.models import Q

from knowledge import sealing
from knowledge.models import Base, Chunk
from knowledge.retrieval import lexical, vectors
from knowledge.retrieval.options import Options
from knowledge.retrieval.readable import Place, Readable, readable
from tenants import clock
from tenants.access import Actor

CANDIDATES = 50  # Of each stage.


@dataclass(frozen=True, slots=True)
class Scores:
    """How a passage was found. Ranks count from 1; None: this stage did not find it. cosine: with the question.

    coverage: how much of what the question asks for stands in the passage, from 0 to 1.
    """

    fused: float
    words: float | None = None
    words_rank: int | None = None
    coverage: float = 0.0
    cosine: float | None = None
    vector_rank: int | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk as it is shown and cited; `start` and `end` are characters of the version's text."""

    base_id: UUID
    document_id: UUID
    document: str
    version_id: UUID
    version: int
    ordinal: int
    start: int
    end: int
    page_from: int | None
    page_to: int | None
    language: str
    headings: tuple[str, ...]
    text: str
    scores: Scores
    is_superseded: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A question in the forms in which the stages need it. vectors: by the label of the model that made them."""

    text: str
    vectors: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict, repr=False)
    at: datetime.date | None = None


def search(
    actor: Actor,
    bases: Sequence[Base],
    asked: Asked,
    *,
    models: dict[UUID, vectors.Model] | None = None,
    options: Options | None = None,
) -> list[Passage]:
    """The best passages for a question, the best first. Inside the tenant's scope; the bases are the actor's to ask.

    models: by base, what its chunks were embedded by; without a vector of it in `asked`, that base is searched by words.
    """
    wanted = options or Options()
    among = readable(actor, bases, asked.at)
    by_meaning = _by_meaning(among, asked, models or {}) if wanted.meaning > 0 else []
    share = wanted.meaning if by_meaning else 0.0
    by_words = lexical.search(actor.tenant_id, among, asked.text, most=CANDIDATES) if share < 1 else []
    fused = _fused(by_words, by_meaning, share)
    best = sorted(fused.items(), key=lambda item: -item[1].fused)[: wanted.passages]
    return _passages(best)


def _by_meaning(
    among: Readable, asked: Asked, models: dict[UUID, vectors.Model]
) -> list[tuple[Place, float]]:
    found: list[tuple[Place, float]] = []
    for model in {model.label: model for model in models.values()}.values():
        vector = asked.vectors.get(model.label)
        if vector is None:
            continue
        bases = [base_id for base_id, of in models.items() if of.label == model.label]
        found += vectors.nearest(among, bases, vector, model=model, most=CANDIDATES)
    return sorted(found, key=lambda item: -item[1])[:CANDIDATES]


def _fused(
    by_words: Sequence[lexical.Hit], by_meaning: Sequence[tuple[Place, float]], share: float
) -> dict[Place, Scores]:
    best = by_words[0].score if by_words else 1.0
    farthest, nearest = (by_meaning[-1][1], by_meaning[0][1]) if by_meaning else (0.0, 1.0)
    spread = max(nearest - farthest, 1e-6)
    words = {hit.place: (rank, hit) for rank, hit in enumerate(by_words, start=1)}
    meaning = {place: (rank, score) for rank, (place, score) in enumerate(by_meaning, start=1)}
    found = {}
    for place in {**words, **meaning}:
        words_rank, hit = words.get(place, (None, None))
        vector_rank, cosine = meaning.get(place, (None, None))
        by_word = hit.score / best if hit else 0.0
        by_vector = (cosine - farthest) / spread if cosine is not None else 0.0
        found[place] = Scores(
            fused=(1 - share) * by_word + share * by_vector,
            words=hit and hit.score,
            words_rank=words_rank,
            coverage=hit.coverage if hit else 0.0,
            cosine=cosine,
            vector_rank=vector_rank,
        )
    return found


def _passages(best: Sequence[tuple[Place, Scores]]) -> list[Passage]:
    if not best:
        return []
    places = Q()
    for (version_id, ordinal), _scores in best:
        places |= Q(version_id=version_id, ordinal=ordinal)
    chunks = {
        (chunk.version_id, chunk.ordinal): chunk
        for chunk in Chunk.objects.filter(places)
        .select_related("version__document")
        .defer("version__sealed_text", "version__sealed_layout")
    }
    return [_passage(chunks[place], scores) for place, scores in best if place in chunks]


def _passage(chunk: Chunk, scores: Scores) -> Passage:
    version, document = chunk.version, chunk.version.document
    place: dict[str, Any] = {"tenant_id": chunk.tenant_id, "base_id": version.base_id}
    content = sealing.unseal(chunk.sealed, row=chunk.pk, field="chunk", **place)
    return Passage(
        base_id=version.base_id,
        document_id=document.pk,
        document=sealing.unseal(document.sealed_name, row=document.pk, field="name", **place),
        version_id=version.pk,
        version=version.number,
        ordinal=chunk.ordinal,
        start=chunk.start,
        end=chunk.end,
        page_from=chunk.page_from,
        page_to=chunk.page_to,
        language=chunk.language,
        headings=tuple(content["headings"]),
        text=content["text"],
        scores=scores,
        is_superseded=version.valid_until is not None and version.valid_until <= clock.now().date(),
    )
