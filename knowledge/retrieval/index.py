"""The postings of a version: which words stand in which of its chunks. Inside the tenant's scope."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence

from django.db import connection

from knowledge.models import Chunk, Posting, Vector, Version
from knowledge.retrieval.hashing import Hasher
from knowledge.retrieval.terms import terms_of

MOST_CHUNKS = 0xFFFF  # Of one version: ordinals have 16 bits.
_MOST = 0xFFFF

_INSERT = """
INSERT INTO knowledge_posting (base_id, version_id, term, packed)
SELECT %s, %s, term, packed FROM unnest(%s::bigint[], %s::bytea[]) AS given (term, packed)
"""


def add(version: Version, chunks: Sequence[tuple[Chunk, str]]) -> None:
    """Index all chunks of a version, each with the text to be found by, and set `version.lengths`, which the caller saves.

    What was indexed of it before is replaced. Raises ValueError for more than MOST_CHUNKS.
    """
    if len(chunks) > MOST_CHUNKS:
        raise ValueError(f"a version has at most {MOST_CHUNKS} chunks")
    Posting.objects.filter(version=version).delete()
    hashed = Hasher(version.tenant_id, version.base_id)
    lengths = [0] * len(chunks)
    postings: dict[int, bytearray] = defaultdict(bytearray)
    for chunk, text in sorted(chunks, key=lambda each: each[0].ordinal):
        counts = terms_of(text)
        lengths[chunk.ordinal] = min(counts.total(), _MOST)
        for term, count in counts.items():
            postings[hashed(term)] += struct.pack("<HH", chunk.ordinal, min(count, _MOST))
    version.lengths = struct.pack(f"<{len(lengths)}H", *lengths)
    with connection.cursor() as cursor:
        values = [bytes(packed) for packed in postings.values()]
        cursor.execute(_INSERT, [version.base_id, version.pk, list(postings), values])


def remove(version: Version) -> None:
    """Forget what was indexed of it, words and vectors; the caller saves the emptied `lengths`."""
    Posting.objects.filter(version=version).delete()
    Vector.objects.filter(version=version).delete()
    version.lengths = b""
