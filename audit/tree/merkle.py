"""Hash trees as in RFC 6962 and RFC 9162: roots, inclusion and consistency proofs, and their verification.

Knows only hashes of leaves. A `Subtree` gives the hash of the leaves from `start` to before `end`, by whatever means:
proofs ask for few of them, so they read little where hashes of complete subtrees are kept. Imports nothing of Custos.
"""

import hashlib
from collections.abc import Callable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Subtree = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf with these bytes."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """The root over leaves, or over complete subtrees of one size, given by their hashes."""
    if not hashes:
        return EMPTY_ROOT
    level = list(hashes)
    # Pairing up neighbours and carrying the last odd one gives the tree of the RFC, and is quicker than its recursion.
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        level = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)] + odd
    return level[0]


def over(hashes: Sequence[bytes]) -> Subtree:
    """The subtrees of a tree whose leaves are all at hand."""
    return lambda start, end: root(hashes[start:end])


def inclusion_proof(subtree: Subtree, index: int, size: int) -> list[bytes]:
    """The hashes that lead from leaf `index` to the root of the first `size` leaves, from the leaf upwards."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start = middle
    return path[::-1]


def consistency_proof(subtree: Subtree, old: int, new: int) -> list[bytes]:
    """The hashes that show that the first `old` of `new` leaves are those of the older tree; none for old 0 or new."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} is not one of {old} that has grown")
    if old in (0, new):
        return []
    path, start, end = [], 0, new
    is_whole = True  # The old tree is a complete subtree on the way, whose hash the verifier knows.
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start = middle
            is_whole = False
    if not is_whole:
        path.append(subtree(start, end))
    return path[::-1]


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root to which a proof leads from a leaf's hash; None when it is no proof for that place (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return None
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return found if last == 0 else None


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> bool:
    """Whether the leaf with this hash stands at `index` of the tree of `size` leaves whose root is `expected`."""
    return root_from_inclusion(leaf, index, size, proof) == expected


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of `new` leaves begins with the one of `old` leaves (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new:
        return False
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    if old == new:
        return not proof and old_root == new_root
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root


class Growing:
    """A root that follows leaves one by one, keeping only the hashes of the complete subtrees: log2 of their number."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[
            bytes
        ] = []  # From the largest subtree to the smallest: the ones of `size` in binary.

    def add(self, leaf: bytes) -> None:
        found, place = leaf, self.size
        while place & 1:
            found = node_hash(self._peaks.pop(), found)
            place >>= 1
        self._peaks.append(found)
        self.size += 1

    def root(self) -> bytes:
        if not self._peaks:
            return EMPTY_ROOT
        found = self._peaks[-1]
        for peak in self._peaks[-2::-1]:
            found = node_hash(peak, found)
        return found


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)
