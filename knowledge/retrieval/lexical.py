"""BM25 (Robertson and Zaragoza, 2009) over the postings of what may be read.

Counts are taken of those versions alone, so a document that the asker may not read changes neither which passages are
found nor their scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from django.db import connection

from knowledge.retrieval.hashing import Hasher
from knowledge.retrieval.readable import Place, Readable
from knowledge.retrieval.terms import asked_terms

K1, B = 1.2, 0.75
# Of what a word that stands nowhere counts in coverage: in a base about one thing its words are in every passage.
_COUNTS_AT_LEAST = 0.7
MOST_TERMS = 64  # Of a question: the rest of a longer one hardly tells passages apart.

# The postings of each term as three strings of numbers: rows by the thousand would take longer to fetch than to score.
_POSTINGS = """
SELECT string_agg(uuid_send(version_id), ''::bytea), string_agg(int4send(octet_length(packed)), ''::bytea),
       string_agg(packed, ''::bytea)
FROM unnest(%s::int[], %s::uuid[], %s::bigint[]) AS asked (number, base_id, term)
JOIN knowledge_posting AS posting ON posting.base_id = asked.base_id AND posting.term = asked.term
GROUP BY asked.number
"""


class Hit(NamedTuple):
    """coverage: how much of what the question asks for stands in the chunk, from 0 to 1, rare words counting more."""

    place: Place
    score: float
    coverage: float


def search(tenant_id: UUID, among: Readable, query: str, *, most: int) -> list[Hit]:
    """The best chunks of these versions by words, the best first. Inside the tenant's scope."""
    asked = asked_terms(query)[:MOST_TERMS]
    if not asked or not among.count:
        return []
    burden = 1 - B + B * among.lengths / max(float(among.lengths.mean()), 1.0)
    scores, covered = (np.zeros(among.count, dtype=np.float32) for _ in range(2))
    rarest, wanted, seen = _rarity(0, among.count), 0.0, 0
    for chunks, often in _postings(tenant_id, among, asked):
        rarity = _rarity(len(chunks), among.count)
        scores[chunks] += rarity * often * (K1 + 1) / (often + K1 * burden[chunks])
        covered[chunks] += max(rarity, _COUNTS_AT_LEAST * rarest)
        wanted += max(rarity, _COUNTS_AT_LEAST * rarest)
        seen += 1
    wanted += (len(asked) - seen) * rarest
    return [
        Hit(among.place(chunk), float(scores[chunk]), float(covered[chunk]) / wanted)
        for chunk in _highest(scores, most)
    ]


def _rarity(having: int, count: int) -> float:
    """The weight of a term that so many of all chunks have."""
    return math.log1p((count - having + 0.5) / (having + 0.5))


def _postings(tenant_id: UUID, among: Readable, asked: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """Of each term that is found: the chunks that have it, and how often."""
    numbers: list[int] = []
    bases: list[UUID] = []
    hashes: list[int] = []
    for base_id in among.base_ids:
        hashed = Hasher(tenant_id, base_id)
        numbers += range(len(asked))
        bases += [base_id] * len(asked)
        hashes += [hashed(term) for term in asked]
    with connection.cursor() as cursor:
        cursor.execute(_POSTINGS, [numbers, bases, hashes])
        rows = cursor.fetchall()
    for ids, sizes, packed in rows:
        chunks, often = _unpacked(among, bytes(ids), bytes(sizes), bytes(packed))
        if len(chunks):
            yield chunks, often


def _unpacked(among: Readable, ids: bytes, sizes: bytes, packed: bytes) -> tuple[Any, Any]:
    pairs = np.frombuffer(packed, dtype="<u2").reshape(-1, 2)
    versions = np.repeat(among.numbers(ids), np.frombuffer(sizes, dtype=">i4") // 4)
    kept = versions >= 0  # Of the others, what may not be read or does not hold.
    return among.starts[versions[kept]] + pairs[kept, 0], pairs[kept, 1].astype(np.float32)


def _highest(scores: Any, most: int) -> Iterable[int]:
    """The places of the highest scores above zero, the highest first."""
    count = min(most, len(scores))
    best = np.argpartition(scores, -count)[-count:]
    best = best[np.argsort(-scores[best], kind="stable")]
    return [int(at) for at in best if scores[at] > 0]
