"""The tree as it is kept: leaves, and the hashes of complete subtrees of 256, 65,536 and 16,777,216 leaves.

A root or proof over millions of leaves reads a few blocks of at most 256 hashes.
"""

from collections.abc import Iterable
from datetime import date
from uuid import UUID

from django.db import connection
from django.db.models import Max

from audit.tree import merkle
from audit.tree.models import Leaf, Node

LEVELS = (8, 16, 24)
BLOCK = 256
_MOST_BLOCKS = 512  # Remembered at once: about 10 MB.

NewLeaf = tuple[bytes, UUID, date, str]


class Broken(Exception):
    """The stored log lacks hashes that it must have, so nothing can be computed or proven from it."""


def size() -> int:
    """How many leaves the tenant's log has. Inside the tenant's scope, as everything here."""
    newest = Leaf.objects.aggregate(newest=Max("seq"))["newest"]
    return 0 if newest is None else newest + 1


class Stored:
    """The hashes of the tenant's log, remembered while this object is used."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, int], list[bytes]] = {}

    def root(self, size: int) -> bytes:
        """The root of the first `size` leaves. Raises Broken."""
        return self.subtree(0, size)

    def subtree(self, start: int, end: int) -> bytes:
        """The hash of the leaves from `start` to before `end`, where a tree's recursion divides. Raises Broken."""
        count = end - start
        if count == 0:
            return merkle.EMPTY_ROOT
        if count & (count - 1) == 0 and start % count == 0:
            level = max((level for level in LEVELS if 1 << level <= count), default=0)
            return merkle.root(self._hashes(level, start >> level, end >> level))
        middle = start + (1 << ((count - 1).bit_length() - 1))
        return merkle.node_hash(self.subtree(start, middle), self.subtree(middle, end))

    def composed(self, level: int, position: int) -> bytes:
        """The hash of a complete subtree, from what lies below it. Raises Broken."""
        return merkle.root(self._hashes(level - 8, position * BLOCK, (position + 1) * BLOCK))

    def _hashes(self, level: int, start: int, end: int) -> list[bytes]:
        found: list[bytes] = []
        while start < end:
            number, offset = divmod(start, BLOCK)
            until = min(end - number * BLOCK, BLOCK)
            found += self._block(level, number, until)[offset:until]
            start = number * BLOCK + until
        return found

    def _block(self, level: int, number: int, length: int) -> list[bytes]:
        """A block's hashes, at least `length` of them."""
        block = self._blocks.get((level, number), [])
        if len(block) < length:
            block = _read(level, number)
            if len(block) < length:
                raise Broken(f"block {number} of level {level} has {len(block)} hashes instead of {length}")
            if len(self._blocks) >= _MOST_BLOCKS:
                self._blocks.clear()
            self._blocks[level, number] = block
        return block


def append(first: int, leaves: Iterable[NewLeaf], tenant_id: UUID) -> int:
    """Add leaves from sequence `first` on and keep the subtrees they complete; the new size. Under the log's lock."""
    hashes, ids, days, keepings = (list(column) for column in zip(*leaves, strict=True))
    after = first + len(hashes)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_leaf (tenant_id, seq, hash, request_id, day, keeping) SELECT %s, added.* "
            "FROM unnest(%s::bigint[], %s::bytea[], %s::uuid[], %s::date[], %s::text[]) AS added",
            [tenant_id, list(range(first, after)), hashes, ids, days, keepings],
        )
        stored = Stored()
        for level in LEVELS:
            for position in range(first >> level, after >> level):
                cursor.execute(
                    "INSERT INTO audit_node (tenant_id, level, position, hash) VALUES (%s, %s, %s, %s)",
                    [tenant_id, level, position, stored.composed(level, position)],
                )
    return after


def _read(level: int, number: int) -> list[bytes]:
    start = number * BLOCK
    if level:
        nodes = Node.objects.filter(level=level, position__gte=start, position__lt=start + BLOCK)
        rows = nodes.order_by("position").values_list("position", "hash")
    else:
        leaves = Leaf.objects.filter(seq__gte=start, seq__lt=start + BLOCK)
        rows = leaves.order_by("seq").values_list("seq", "hash")
    found = []
    for place, (stored_place, found_hash) in enumerate(rows, start):
        if place != stored_place:
            raise Broken(f"the log has no hash {place} of level {level}")
        found.append(bytes(found_hash))
    return found
