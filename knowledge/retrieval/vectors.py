"""Embeddings of chunks through the inference service, and the chunks nearest to a question."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from django.db import connection

from inference.client import InferenceClient, InferenceError, Vectors, close_pool
from inference.deployments.selectors import endpoints_of
from inference.registry.models import ModelVersion, Route
from knowledge.models import Base, Chunk, Version
from knowledge.retrieval.readable import Place, Readable

BATCH = 32
# What these models were not trained on: their vectors of it are noise, which would push out what words find.
_ENGLISH_ALONE = frozenset({"all-minilm-l6-v2"})
# Of dimensions with an index (see the migration); of others every vector is compared.
_INDEXED = frozenset({384, 512, 768, 1024})
_CANDIDATES = 150  # That the index looks at in one go; it goes on while too few of them may be read.

_INSERT = """
INSERT INTO knowledge_vector (base_id, version_id, chunk_id, model, values)
SELECT %s, %s, id, %s, values::halfvec FROM unnest(%s::uuid[], %s::text[]) AS given (id, values)
ON CONFLICT (chunk_id, model) DO NOTHING
"""
_NEAREST = """
SELECT chunk.version_id, chunk.ordinal, 1 - near.distance
FROM (
    SELECT chunk_id, {values} <=> %(asked)s::{type} AS distance FROM knowledge_vector
    WHERE vector_dims(values) = %(size)s AND model = %(model)s AND {among}
    ORDER BY {values} <=> %(asked)s::{type} LIMIT %(most)s
) AS near
JOIN knowledge_chunk AS chunk ON chunk.id = near.chunk_id
ORDER BY near.distance
"""
_SPARE = 3  # So many times as many are taken as are wanted, for what of them may not be read.


class EmbeddingUnavailable(Exception):
    """The model does not answer now. Words find what they find without it; what was to be embedded waits."""


@dataclass(frozen=True, slots=True)
class Model:
    """An embedding model that can be asked. label: of exactly these weights, as `Vector.model` keeps it."""

    label: str
    name: str
    served_id: str
    client: InferenceClient

    def reads(self, language: str) -> bool:
        """Whether its vectors of such text mean anything."""
        return self.name not in _ENGLISH_ALONE or language == "en"


def model_of(base: Base) -> Model | None:
    """The model that the base's route leads to now; None for a base of words alone. Inside the tenant's scope.

    Raises EmbeddingUnavailable where the route or its model is gone.
    """
    if not base.embedding_model:
        return None
    routes = Route.objects.filter(
        name=base.embedding_model,
        deployment__enabled=True,
        deployment__version__kind=ModelVersion.Kind.EMBEDDING,
    )
    route = routes.select_related("deployment__version__model").first()
    endpoints = endpoints_of(route.deployment) if route else []
    if route is None or not endpoints:
        raise EmbeddingUnavailable(base.embedding_model)
    version = route.deployment.version
    return Model(version.label, version.name, route.deployment.served_id, endpoints[0].client)


def embed(tenant_id: UUID, texts: Sequence[str], *, model: Model) -> list[np.ndarray[Any, Any]]:
    """A vector of length 1 for each text, whose end is ignored where the model does not read so far.

    Blocks; not from a thread with an event loop. Raises EmbeddingUnavailable.
    """

    async def ask() -> list[np.ndarray[Any, Any]]:
        try:
            return await aembed(tenant_id, texts, model=model)
        finally:
            await close_pool()

    return asyncio.run(ask())


async def aembed(tenant_id: UUID, texts: Sequence[str], *, model: Model) -> list[np.ndarray[Any, Any]]:
    """As `embed`, from an event loop."""
    found: list[np.ndarray[Any, Any]] = []
    for start in range(0, len(texts), BATCH):
        found += await _batch(tenant_id, texts[start : start + BATCH], model)
    return found


async def _batch(tenant_id: UUID, texts: Sequence[str], model: Model) -> list[np.ndarray[Any, Any]]:
    request = {
        "model": model.served_id,
        "input": [text or " " for text in texts],
        "encoding_format": "base64",
        "truncate_prompt_tokens": -1,
    }
    try:
        async for event in model.client.stream_embeddings(request, tenant=str(tenant_id)):
            if isinstance(event, Vectors):
                return [_unit(entry["embedding"]) for entry in event.data]
    except InferenceError as error:
        raise EmbeddingUnavailable(str(error)) from error
    raise EmbeddingUnavailable("no vectors came")


def store(version: Version, chunks: Sequence[Chunk], vectors: Sequence[Any], *, model: Model) -> None:
    """Keep the vectors of some chunks of a version, one each. Inside the tenant's scope; again, it changes nothing."""
    written = [_written(vector) for vector in vectors]
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT, [version.base_id, version.pk, model.label, [chunk.pk for chunk in chunks], written]
        )


def nearest(
    among: Readable, base_ids: Sequence[UUID], vector: np.ndarray[Any, Any], *, model: Model, most: int
) -> list[tuple[Place, float]]:
    """The chunks of these versions nearest to a vector, with the cosine to it, the nearest first. In the tenant's scope.

    Which is nearest depends on no other chunk, so those that may not be read can be left out afterwards: naming thousands
    of versions to the database takes longer. Where too few remain, they are named after all.
    """
    asked = {"bases": list(base_ids), "most": most * _SPARE}
    taken = _asked(vector, model, "base_id = ANY(%(bases)s)", asked)
    numbers = among.numbers(b"".join(place.version_id.bytes for place, _cosine in taken))
    found = [each for each, number in zip(taken, numbers, strict=True) if number >= 0]
    if len(found) < most and len(taken) == most * _SPARE:
        found = _asked(
            vector, model, "version_id = ANY(%(versions)s)", {"versions": among.version_ids, "most": most}
        )
    return found[:most]


def _asked(
    vector: np.ndarray[Any, Any], model: Model, among: str, more: dict[str, Any]
) -> list[tuple[Place, float]]:
    size = len(vector)
    kind = f"halfvec({size})" if size in _INDEXED else "halfvec"
    values = f"(values::{kind})" if size in _INDEXED else "values"
    asked: dict[str, Any] = {"asked": _written(vector), "size": size, "model": model.label, **more}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'strict_order', true)",
            [str(_CANDIDATES)],
        )
        cursor.execute(_NEAREST.format(values=values, type=kind, among=among), asked)
        return [
            (Place(version_id, ordinal), float(cosine)) for version_id, ordinal, cosine in cursor.fetchall()
        ]


def _unit(embedding: Any) -> np.ndarray[Any, Any]:
    if isinstance(embedding, str):
        vector = np.frombuffer(base64.b64decode(embedding), dtype="<f4").astype(np.float32)
    else:
        vector = np.asarray(embedding, dtype=np.float32)
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _written(vector: Any) -> str:
    return "[" + ",".join(f"{number:.6g}" for number in np.asarray(vector).tolist()) + "]"
