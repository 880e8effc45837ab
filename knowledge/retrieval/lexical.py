"""BM25 (Robertson and Zaragoza, 2009) over the postings of what may be read.

Counts are taken of those versions alone, so a document that the asker may not read changes neither which passages are
found nor their scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from django.db import connection

from knowledge.models import Version
from knowledge.retrieval.hashing import Hasher
from knowledge.retrieval.terms import asked_terms

K1, B = 1.2, 0.75
# Of what a word that stands nowhere counts in coverage: in a base about one thing its words are in every passage.
_COUNTS_AT_LEAST = 0.7
MOST_TERMS = 64  # Of a question: the rest of a longer one hardly tells passages apart.

# The postings of each term as three strings of numbers: rows by the million would take longer to fetch than to score.
_POSTINGS = """
SELECT string_agg(int4send(seen.number::int), ''::bytea),
       string_agg(int4send(octet_length(packed)), ''::bytea), string_agg(packed, ''::bytea)
FROM unnest(%s::int[], %s::uuid[], %s::bigint[]) AS asked (number, base_id, term)
JOIN knowledge_posting AS posting ON posting.base_id = asked.base_id AND posting.term = asked.term
JOIN unnest(%s::uuid[]) WITH ORDINALITY AS seen (id, number) ON seen.id = posting.version_id
GROUP BY asked.number
"""

# (version, ordinal) of a chunk.
Place = tuple[UUID, int]


class Hit(NamedTuple):
    """coverage: how much of what the question asks for stands in the chunk, from 0 to 1, rare words counting more."""

    place: Place
    score: float
    coverage: float


def search(tenant_id: UUID, versions: Sequence[Version], query: str, *, most: int) -> list[Hit]:
    """The best chunks of these versions by words, the best first. Inside the tenant's scope."""
    asked = asked_terms(query)[:MOST_TERMS]
    shelf = _Shelf(versions)
    if not asked or not shelf.count:
        return []
    scores, covered = (np.zeros(shelf.count, dtype=np.float32) for _ in range(2))
    postings = _postings(tenant_id, versions, asked)
    rarest = _rarity(0, shelf.count)
    wanted = (len(asked) - len(postings)) * rarest
    for numbers, ordinals, often in postings:
        at = shelf.starts[numbers] + ordinals
        rarity = _rarity(len(at), shelf.count)
        scores[at] += rarity * often * (K1 + 1) / (often + K1 * shelf.burden[at])
        covered[at] += max(rarity, _COUNTS_AT_LEAST * rarest)
        wanted += max(rarity, _COUNTS_AT_LEAST * rarest)
    return [
        Hit(shelf.place(at), float(scores[at]), float(covered[at]) / wanted) for at in _highest(scores, most)
    ]


def _rarity(having: int, count: int) -> float:
    """The weight of a term that so many of all chunks have."""
    return math.log1p((count - having + 0.5) / (having + 0.5))


class _Shelf:
    """All chunks of some versions, numbered one after the other. burden: by how much a chunk's length tells against it."""

    def __init__(self, versions: Sequence[Version]) -> None:
        lengths = [np.frombuffer(bytes(version.lengths), dtype="<u2") for version in versions]
        self._versions = versions
        self.starts = np.cumsum([0, *(len(each) for each in lengths)])
        self.count = int(self.starts[-1])
        of_all = np.concatenate([*lengths, np.zeros(0)]).astype(np.float32)
        self.burden = 1 - B + B * of_all / max(float(of_all.mean()) if self.count else 0.0, 1.0)

    def place(self, at: int) -> Place:
        number = int(np.searchsorted(self.starts, at, side="right")) - 1
        return self._versions[number].pk, int(at - self.starts[number])


def _postings(
    tenant_id: UUID, versions: Sequence[Version], asked: Sequence[str]
) -> list[tuple[Any, Any, Any]]:
    """Of each term that is found: number of the version, ordinal, and how often, of every chunk that has it."""
    numbers: list[int] = []
    bases: list[UUID] = []
    hashes: list[int] = []
    for base_id in sorted({version.base_id for version in versions}):
        hashed = Hasher(tenant_id, base_id)
        numbers += range(len(asked))
        bases += [base_id] * len(asked)
        hashes += [hashed(term) for term in asked]
    with connection.cursor() as cursor:
        cursor.execute(_POSTINGS, [numbers, bases, hashes, [version.pk for version in versions]])
        return [_unpacked(*packed) for packed in cursor.fetchall()]


def _unpacked(seen: bytes, sizes: bytes, packed: bytes) -> tuple[Any, Any, Any]:
    pairs = np.frombuffer(bytes(packed), dtype="<u2").reshape(-1, 2)
    chunks = np.frombuffer(bytes(sizes), dtype=">i4") // 4
    numbers = np.repeat(np.frombuffer(bytes(seen), dtype=">i4") - 1, chunks)
    return numbers, pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.float32)


def _highest(scores: Any, most: int) -> Iterable[int]:
    """The places of the highest scores above zero, the highest first."""
    count = min(most, len(scores))
    best = np.argpartition(scores, -count)[-count:]
    best = best[np.argsort(-scores[best], kind="stable")]
    return [int(at) for at in best if scores[at] > 0]
