"""The versions that somebody may read and that hold on a day, with the lengths of their chunks: what a search counts.

A base of many small documents has thousands of them, so they come from the database as a few strings of numbers, and are
kept as arrays. Chunks are numbered one after the other over all versions.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from django.db import connection
from django.db.models import Q

from knowledge import access
from knowledge.models import Base, Version
from tenants import clock
from tenants.access import Actor

_AS_STRINGS = """
SELECT base_id, string_agg(uuid_send(id), ''::bytea), string_agg(int4send(octet_length(lengths)), ''::bytea),
       string_agg(lengths, ''::bytea)
FROM ({versions}) AS version GROUP BY base_id
"""


class Place(NamedTuple):
    """A chunk."""

    version_id: UUID
    ordinal: int


class Readable:
    """starts: of each version, the number of its first chunk. lengths: of each chunk, in terms. count: of chunks."""

    def __init__(self, rows: Sequence[tuple[UUID, bytes, bytes, bytes]]) -> None:
        self.base_ids = [base_id for base_id, _ids, _sizes, _lengths in rows]
        self._ids = b"".join(bytes(ids) for _base, ids, _sizes, _lengths in rows)
        sizes = np.frombuffer(b"".join(bytes(each[2]) for each in rows), dtype=">i4").astype(np.int64) // 2
        self.lengths = np.frombuffer(b"".join(bytes(each[3]) for each in rows), dtype="<u2").astype(
            np.float32
        )
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.count = len(self.lengths)
        self._keys = _keys(self._ids)
        self._sorted = np.argsort(self._keys)

    def numbers(self, ids: bytes) -> Any:
        """Of versions by their ids, 16 bytes each, which they are of these; -1 for those that are not among them."""
        asked = _keys(ids)
        if not len(self._keys):
            return np.full(len(asked), -1)
        at = self._sorted[
            np.searchsorted(self._keys, asked, sorter=self._sorted).clip(max=len(self._keys) - 1)
        ]
        return np.where(self._keys[at] == asked, at, -1)

    def place(self, chunk: int) -> Place:
        number = int(np.searchsorted(self.starts, chunk, side="right")) - 1
        version_id = UUID(bytes=self._ids[16 * number : 16 * number + 16])
        return Place(version_id, int(chunk - self.starts[number]))

    @property
    def version_ids(self) -> list[UUID]:
        return [UUID(bytes=self._ids[at : at + 16]) for at in range(0, len(self._ids), 16)]


def readable(actor: Actor, bases: Sequence[Base], at: datetime.date | None = None) -> Readable:
    """Of each document that the actor may read, the version that holds on that day (today) and is indexed.

    Inside the tenant's scope.
    """
    day = at or clock.now().date()
    holds = Q(valid_from=None) | Q(valid_from__lte=day)
    lasts = Q(valid_until=None) | Q(valid_until__gt=day)
    documents = access.visible_documents(actor, [base.pk for base in bases])
    found = Version.objects.filter(holds, lasts, document__in=documents).exclude(lengths=b"")
    found = found.order_by("document_id", "-number").distinct("document_id")
    versions, parameters = found.values("id", "base_id", "lengths").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(_AS_STRINGS.format(versions=versions), parameters)
        return Readable(cursor.fetchall())


def _keys(ids: bytes) -> Any:
    """The random halves of version 7 UUIDs: 62 bits, of which no two of a base are equal."""
    return np.frombuffer(ids, dtype=">u8").reshape(-1, 2)[:, 1].astype(np.uint64)
