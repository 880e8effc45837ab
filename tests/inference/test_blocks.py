"""Blocks of keys and values: who holds them, what is shared, what is forgotten first."""

from __future__ import annotations

import pytest

from inference.engine.blocks import BlockManager
from inference.engine.request import Request, SamplingParameters


class Holder:
    """The least that can hold blocks."""

    def __init__(self, token_ids: list[int], salt: str = "") -> None:
        self.request = Request("test", tuple(token_ids), SamplingParameters(max_tokens=1), cache_salt=salt)
        self.token_ids = list(token_ids)
        self.block_ids: list[int] = []
        self.num_computed_tokens = 0


class Colliding(int):
    """A token whose hash is that of every other."""

    def __hash__(self) -> int:
        return 0


def hold(blocks: BlockManager, token_ids: list[int], salt: str = "") -> Holder:
    """A holder whose tokens are all computed, with what was cached of them."""
    holder = Holder(token_ids, salt)
    blocks.adopt(holder, blocks.match(token_ids, salt))
    assert blocks.grow(holder, len(token_ids))
    holder.num_computed_tokens = len(token_ids)
    blocks.commit(holder)
    blocks.check()
    return holder


def cache(blocks: BlockManager, token_ids: list[int], salt: str = "") -> list[int]:
    """Compute and release; returns the blocks that held them."""
    holder = hold(blocks, token_ids, salt)
    held = holder.block_ids
    blocks.release(holder)
    blocks.check()
    return held


def counts(blocks: BlockManager) -> tuple[int, int, int]:
    return blocks.num_free, blocks.num_cached, blocks.num_used


def test_a_prefix_is_found_in_full_blocks() -> None:
    blocks = BlockManager(8, block_size=4)
    held = cache(blocks, list(range(10)))
    assert blocks.match([*range(10), 77, 78], "") == held[:2]
    assert blocks.match([0, 1, 2, 3, 4, 5, 6, 99, 8, 9], "") == held[:1]
    assert blocks.match([99, *range(1, 10)], "") == []


def test_the_last_token_is_always_computed() -> None:
    blocks = BlockManager(8, block_size=4)
    held = cache(blocks, list(range(8)))
    assert blocks.match(list(range(8)), "") == held[:1]
    assert blocks.match(list(range(9)), "") == held
    assert blocks.match(list(range(4)), "") == []


def test_a_salt_never_sees_what_another_computed() -> None:
    blocks = BlockManager(8, block_size=4)
    mine, yours = cache(blocks, list(range(8)), "mine"), cache(blocks, list(range(8)), "yours")
    assert not set(mine) & set(yours)
    assert blocks.match(list(range(9)), "mine") == mine
    assert blocks.match(list(range(9)), "yours") == yours
    assert blocks.match(list(range(9)), "") == []


def test_equal_hashes_are_not_equal_tokens() -> None:
    blocks = BlockManager(8, block_size=2)
    first = [Colliding(token) for token in (1, 2, 3, 4, 5)]
    second = [Colliding(token) for token in (6, 7, 3, 4, 5)]
    assert hash(tuple(first[:2])) == hash(tuple(second[:2]))
    held = cache(blocks, first)
    assert blocks.match(second, "") == []
    cache(blocks, second)
    assert blocks.match(first, "") == held[:2]
    assert not set(blocks.match(first, "")) & set(blocks.match(second, ""))


def test_the_same_tokens_after_other_tokens_are_another_block() -> None:
    blocks = BlockManager(8, block_size=2)
    cache(blocks, [1, 2, 3, 4])
    assert blocks.match([3, 4, 5], "") == []
    assert len(blocks.match([1, 2, 1, 2, 5], "")) == 1


def test_holders_share_a_prefix_and_it_is_freed_with_the_last() -> None:
    blocks = BlockManager(8, block_size=4)
    first = hold(blocks, list(range(10)))
    second = hold(blocks, [*range(8), 50, 51])
    assert first.block_ids[:2] == second.block_ids[:2]
    assert counts(blocks) == (4, 0, 4)
    blocks.release(first)
    assert counts(blocks) == (5, 0, 3)
    blocks.release(second)
    assert counts(blocks) == (6, 2, 0)
    blocks.check()


def test_what_was_not_used_for_longest_is_evicted_first_and_its_tail_before_its_head() -> None:
    blocks = BlockManager(6, block_size=2)
    old, new = cache(blocks, [1, 2, 3, 4, 5, 6]), cache(blocks, [7, 8, 9, 10])
    assert counts(blocks) == (1, 5, 0)
    blocks.release(hold(blocks, [1, 2, 3, 4, 5, 6, 0]))  # Used again: now the other is older.
    assert (counts(blocks), blocks.evictions) == ((1, 5, 0), 0)
    hold(blocks, [11, 12, 13])
    assert blocks.evictions == 1
    assert blocks.match([7, 8, 9, 10, 0], "") == new[:1]
    holder = hold(blocks, [14, 15, 16, 17])
    assert blocks.match([7, 8, 9, 10, 0], "") == []
    assert blocks.match([1, 2, 3, 4, 5, 6, 0], "") == old[:2]
    assert blocks.evictions == 3
    assert old[2] in holder.block_ids


def test_growing_takes_all_or_nothing() -> None:
    blocks = BlockManager(4, block_size=2)
    holder = hold(blocks, [1, 2, 3])
    assert not blocks.grow(holder, 9)
    assert len(holder.block_ids) == 2
    assert blocks.grow(holder, 8)
    assert blocks.grow(holder, 1)
    assert counts(blocks) == (0, 0, 4)
    blocks.check()


def test_only_computed_tokens_are_shared() -> None:
    blocks = BlockManager(8, block_size=4)
    holder = Holder(list(range(12)))
    blocks.adopt(holder, [])
    blocks.grow(holder, 12)
    holder.num_computed_tokens = 7
    blocks.commit(holder)
    assert blocks.match(list(range(12)), "") == holder.block_ids[:1]
    blocks.release(holder)
    assert counts(blocks) == (7, 1, 0)
    blocks.check()


def test_an_answer_serves_the_next_turn() -> None:
    blocks = BlockManager(8, block_size=4)
    holder = hold(blocks, [1, 2, 3, 4, 5])
    for token in (6, 7, 8, 9):
        holder.token_ids.append(token)
        assert blocks.grow(holder, len(holder.token_ids))
        holder.num_computed_tokens += 1
        blocks.commit(holder)
    assert blocks.match([1, 2, 3, 4, 5, 6, 7, 8, 9], "") == holder.block_ids[:2]


def test_two_who_computed_the_same_keep_their_own_and_one_copy_is_cached() -> None:
    blocks = BlockManager(8, block_size=4)
    first, second = Holder(list(range(8))), Holder(list(range(8)))
    for holder in (first, second):  # Both begin before either has anything to share.
        blocks.adopt(holder, [])
        blocks.grow(holder, 8)
    for holder in (first, second):
        holder.num_computed_tokens = 8
        blocks.commit(holder)
        blocks.check()
    assert not set(first.block_ids) & set(second.block_ids)
    blocks.release(first)
    assert counts(blocks) == (6, 0, 2)
    blocks.release(second)
    assert counts(blocks) == (6, 2, 0)
    blocks.check()


def test_a_cached_copy_gives_way_to_one_in_use() -> None:
    blocks = BlockManager(8, block_size=4)
    cache(blocks, list(range(8)))
    holder = hold(blocks, list(range(8)))  # The second block, with the last token, is computed again.
    assert counts(blocks) == (6, 0, 2)
    assert blocks.match(list(range(9)), "") == holder.block_ids


def test_forgetting_every_prefix_leaves_what_is_in_use() -> None:
    blocks = BlockManager(8, block_size=4)
    cache(blocks, [50, 51, 52, 53])
    holder = hold(blocks, list(range(5)))
    blocks.reset_prefix_cache()
    blocks.check()
    assert counts(blocks) == (6, 0, 2)
    holder.token_ids += [5, 6, 7]
    holder.num_computed_tokens = 8
    blocks.commit(holder)
    assert blocks.match(list(range(9)), "") == []
    blocks.release(holder)
    assert counts(blocks) == (8, 0, 0)
    blocks.check()


def test_releasing_twice_frees_once() -> None:
    blocks = BlockManager(4, block_size=2)
    first, second = hold(blocks, [1, 2, 3]), hold(blocks, [1, 2, 3])
    blocks.release(first)
    blocks.release(first)
    blocks.check()
    assert second.block_ids and counts(blocks) == (2, 0, 2)


def test_what_is_being_computed_is_known_to_come() -> None:
    blocks = BlockManager(8, block_size=2)
    holder = Holder([1, 2, 3, 4, 5, 6])
    blocks.adopt(holder, [])
    blocks.grow(holder, 6)

    def is_coming(token_ids: list[int]) -> bool:
        return blocks.is_coming(token_ids, blocks.match(token_ids, ""), holder)

    assert is_coming([1, 2, 9])
    assert not is_coming([1, 2])  # The last token is computed anyhow.
    assert not is_coming([9, 2, 3])
    holder.num_computed_tokens = 2
    blocks.commit(holder)
    assert is_coming([1, 2, 3, 4, 9])
    assert not is_coming([1, 2, 9, 9, 9])
    assert not is_coming([9, 9, 3, 4, 9])  # Other tokens before.
    blocks.release(holder)
    assert not is_coming([1, 2, 3, 4, 9])


def test_what_a_release_would_yield() -> None:
    blocks = BlockManager(8, block_size=2)
    first = hold(blocks, [1, 2, 3, 4, 5, 6, 7])
    assert blocks.num_released(first, set()) == 4
    assert blocks.num_released(first, {first.block_ids[0], 7}) == 3
    hold(blocks, [1, 2, 9])
    assert blocks.num_released(first, set()) == 3


def test_hits_are_counted_in_tokens() -> None:
    blocks = BlockManager(8, block_size=4)
    hold(blocks, list(range(10)))
    again = Holder(list(range(10)))
    blocks.adopt(again, blocks.match(again.token_ids, ""))
    assert (again.num_computed_tokens, blocks.prefix_queries, blocks.prefix_hits) == (8, 20, 8)


@pytest.mark.parametrize(("num_blocks", "block_size"), [(0, 16), (4, 0)])
def test_no_memory_is_refused(num_blocks: int, block_size: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        BlockManager(num_blocks, block_size)


def test_the_check_notices_a_block_that_was_never_given() -> None:
    blocks = BlockManager(4, block_size=2)
    hold(blocks, [1, 2, 3]).block_ids.append(3)
    with pytest.raises(AssertionError, match="reference count"):
        blocks.check()
