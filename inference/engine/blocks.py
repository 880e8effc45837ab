"""Which block of key/value memory holds which tokens: paging, sharing and the prefix cache.

Bookkeeping only: what a block stores is the runner's affair. Imports no torch.

A block holds `block_size` tokens. Every block is in one of three states, and their sum never changes:

- free: holds nothing worth keeping;
- used: one or more sequences refer to it;
- cached: nobody refers to it, but what it holds may serve a later prompt. Cached blocks are handed out,
  least recently used first, when no free ones are left.

Full, computed blocks stand in a tree: a node is "these tokens after that parent", and the salt belongs to
the first key. The dictionaries of the tree compare keys, not hashes alone, and a node is reached through
its parents only: two prompts that merely collide never share keys and values, nor do two salts.

Two sequences may compute the same block at the same time. Both keep their own (`block_ids` only ever grows,
so a runner may mirror it), and the node knows both copies; but as soon as one is in use, another that is
merely cached is freed. So a node has used copies, or exactly one cached copy.

A sequence has a copy of every node from the root to its last full block, and gives them back last block
first. So among cached blocks a child is always older than its parent, and eviction never cuts a branch off.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from itertools import count
from typing import Protocol

from inference.engine.request import Request


class Holder(Protocol):
    """What may hold blocks: a sequence, told apart by identity."""

    token_ids: list[int]
    block_ids: list[int]
    num_computed_tokens: int

    @property
    def request(self) -> Request: ...


class _Node:
    """A full block's place among all prefixes: the tokens in `key` after those of `parent`."""

    __slots__ = ("children", "copies", "depth", "key", "parent")

    def __init__(self, parent: _Node | None, key: Hashable) -> None:
        self.parent = parent
        self.key = key
        self.depth: int = parent.depth + 1 if parent else 0  # Blocks from the start, this one included.
        self.children: dict[Hashable, _Node] = {}
        self.copies: list[int] = []


class BlockManager:
    """Hands out blocks 0 … `num_blocks` - 1. Not thread-safe.

    `prefix_queries`, `prefix_hits` (tokens) and `evictions` (blocks) only ever grow.
    """

    def __init__(self, num_blocks: int, block_size: int = 16) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ValueError("There must be at least one block of at least one token.")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_queries = 0
        self.prefix_hits = 0
        self.evictions = 0
        self._free = list(range(num_blocks - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()  # Least recently used first.
        self._references = [0] * num_blocks
        self._nodes: list[_Node | None] = [None] * num_blocks
        self._root = _Node(None, None)
        # Of each holder, the node of its last committed block; None: its blocks are not to be shared.
        self._tips: dict[Holder, _Node | None] = {}

    # --- Counts -----------------------------------------------------------------------------------

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_cached(self) -> int:
        return len(self._cached)

    @property
    def num_used(self) -> int:
        return self.num_blocks - len(self._free) - len(self._cached)

    @property
    def num_available(self) -> int:
        """What can be handed out: free and cached blocks."""
        return len(self._free) + len(self._cached)

    def blocks_for(self, num_tokens: int) -> int:
        """How many blocks `num_tokens` tokens fill, the last perhaps in part."""
        return -(-num_tokens // self.block_size)

    def num_unused(self, block_ids: Iterable[int]) -> int:
        """How many of these are cached only, so that taking them lowers `num_available`."""
        return sum(not self._references[block] for block in block_ids)

    def num_released(self, holder: Holder, kept: set[int]) -> int:
        """How many blocks would become available if `holder` released its own and `kept` were then taken."""
        return sum(self._references[block] == 1 and block not in kept for block in holder.block_ids)

    # --- A sequence's life -------------------------------------------------------------------------

    def match(self, token_ids: list[int], salt: str) -> list[int]:
        """The longest known prefix in full blocks, as block ids. Takes nothing yet.

        Never covers the last token: its logits are wanted, so it must be computed.
        """
        found, node, size = [], self._root, self.block_size
        for end in range(size, len(token_ids), size):
            child = node.children.get(self._key(token_ids, end, salt))
            if child is None:
                break
            found.append(child.copies[0])
            node = child
        return found

    def adopt(self, holder: Holder, block_ids: list[int], *, count: bool = True) -> None:
        """Let `holder`, which has no blocks, begin with a match of its tokens: they count as computed.

        `count` says whether this shows in `prefix_queries` and `prefix_hits`.
        """
        for block in block_ids:
            if not self._references[block]:
                del self._cached[block]
            self._references[block] += 1
        self._tips[holder] = self._nodes[block_ids[-1]] if block_ids else self._root
        holder.block_ids = list(block_ids)
        holder.num_computed_tokens = len(block_ids) * self.block_size
        if count:
            self.prefix_queries += len(holder.token_ids)
            self.prefix_hits += holder.num_computed_tokens

    def grow(self, holder: Holder, num_tokens: int) -> bool:
        """Give `holder` blocks for `num_tokens` tokens in all; False, and nothing, if too few are left."""
        missing = self.blocks_for(num_tokens) - len(holder.block_ids)
        if missing > self.num_available:
            return False
        for _ in range(missing):
            holder.block_ids.append(self._take())
        return True

    def commit(self, holder: Holder) -> None:
        """Make known the blocks that became full: every token final, its keys and values computed."""
        tip = self._tips[holder]
        full = holder.num_computed_tokens // self.block_size
        if tip is None or tip.depth == full:
            return
        salt = holder.request.cache_salt
        while tip.depth < full:
            key = self._key(holder.token_ids, (tip.depth + 1) * self.block_size, salt)
            child = tip.children.get(key)
            if child is None:
                child = tip.children[key] = _Node(tip, key)
            elif not self._references[child.copies[0]]:
                spare = child.copies.pop()
                del self._cached[spare]
                self._nodes[spare] = None
                self._free.append(spare)
            block = holder.block_ids[tip.depth]
            child.copies.append(block)
            self._nodes[block] = child
            tip = child
        self._tips[holder] = tip

    def release(self, holder: Holder) -> None:
        """Take all blocks back; no matter if there are none. Committed ones stay cached."""
        if holder not in self._tips:
            return
        del self._tips[holder]
        for block in reversed(holder.block_ids):
            self._references[block] -= 1
            if self._references[block]:
                continue
            node = self._nodes[block]
            if node is not None and len(node.copies) == 1:
                self._cached[block] = None
                continue
            if node is not None:  # Another copy is in use and stays.
                node.copies.remove(block)
                self._nodes[block] = None
            self._free.append(block)
        holder.block_ids = []

    def is_coming(self, token_ids: list[int], matched: list[int], holder: Holder) -> bool:
        """Whether `holder`, of the same salt, computes next the very block that comes after `matched`."""
        start = len(matched) * self.block_size
        end = start + self.block_size
        tip = self._nodes[matched[-1]] if matched else self._root
        return (
            end < len(token_ids)
            and self._tips.get(holder) is tip
            and holder.token_ids[start:end] == token_ids[start:end]
        )

    def reset_prefix_cache(self) -> None:
        """Forget every prefix, as after a change of weights. What is in use stays, unshared from now on."""
        self._free.extend(self._cached)
        self._cached.clear()
        self._nodes = [None] * self.num_blocks
        self._root = _Node(None, None)
        self._tips = dict.fromkeys(self._tips)

    def _key(self, token_ids: list[int], end: int, salt: str) -> Hashable:
        tokens = tuple(token_ids[end - self.block_size : end])
        return tokens if end > self.block_size else (salt, tokens)

    def _take(self) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._cached.popitem(last=False)
            node = self._nodes[block]
            assert node is not None and node.parent is not None  # As of every cached block.
            del node.parent.children[node.key]
            self._nodes[block] = None
            self.evictions += 1
        self._references[block] = 1
        return block

    # --- Proof -------------------------------------------------------------------------------------

    def check(self) -> None:
        """Assert every invariant: for tests, and now and then when idle. Takes time."""
        references = [0] * self.num_blocks
        for holder in self._tips:
            assert len(holder.block_ids) * self.block_size >= holder.num_computed_tokens
            for block in holder.block_ids:
                references[block] += 1
        assert references == self._references, "a reference count is wrong"
        used = {block for block in range(self.num_blocks) if references[block]}
        assert sorted([*self._free, *self._cached, *used]) == list(range(self.num_blocks))
        assert not any(self._nodes[block] for block in self._free), "a free block is known"
        self._check_tree()
        for holder, tip in self._tips.items():
            self._check_path(holder, tip)

    def _check_tree(self) -> None:
        age = dict(zip(self._cached, count(), strict=False))
        stack, seen = [self._root], 0
        while stack:
            node = stack.pop()
            for key, child in node.children.items():
                assert (child.parent, child.key, child.depth) == (node, key, node.depth + 1)
                assert all(self._nodes[block] is child for block in child.copies)
                seen += len(child.copies)
                cached = [block for block in child.copies if block in age]
                assert len(child.copies) == 1 or (child.copies and not cached), "a copy too many"
                parents = [age[block] for block in node.copies if block in age]
                assert not parents or (cached and age[cached[0]] < parents[0]), "a parent goes first"
                stack.append(child)
        assert seen == sum(node is not None for node in self._nodes)
        assert all(self._nodes[block] is not None for block in self._cached)

    def _check_path(self, holder: Holder, tip: _Node | None) -> None:
        if tip is None:
            assert not any(self._nodes[block] for block in holder.block_ids)
            return
        assert tip.depth == holder.num_computed_tokens // self.block_size, "a full block is unknown"
        while tip.parent is not None:
            end = tip.depth * self.block_size
            assert holder.block_ids[tip.depth - 1] in tip.copies
            assert tip.key == self._key(holder.token_ids, end, holder.request.cache_salt)
            tip = tip.parent
        assert tip is self._root
