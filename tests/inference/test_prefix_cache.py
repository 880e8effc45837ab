"""What was computed once serves later prompts that begin alike: of the same tenant only, and never wrongly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from inference.engine.engine import Engine
from tests.inference.conftest import (
    PROMPTS,
    EngineMaker,
    Trouble,
    ask,
    assert_books_balance,
    collect,
    generate,
    kv_bytes,
    submit,
    until,
)

LONG = [9, 8, *range(500, 548)]  # 50 tokens: three blocks of 16, and two tokens.


async def turn(engine: Engine, prompt: list[int], **options: Any) -> tuple[list[int], int]:
    """(answer of 20 tokens, how many of the prompt's tokens came from the cache)."""
    stream = submit(engine, prompt, max_tokens=20, ignore_eos=True, **options)
    ids, _, finished = await collect(stream)
    return ids, finished.cached_tokens


def truth(model: Any, prompt: list[int]) -> list[int]:
    ids = generate(model, prompt, 20)
    assert len(ids) == 20, "the end token came: choose another prompt"
    return ids


async def test_the_next_turn_finds_the_prompt_and_the_answer_before_it(tiny: Engine, tiny_model: Any) -> None:
    ids, cached = await turn(tiny, LONG)
    assert cached == 0
    assert tiny.stats().kv_blocks_cached == 4  # Of 69 computed tokens: the last one's are never needed.
    second = [*LONG, *ids, 7, 7]
    assert await turn(tiny, second) == (truth(tiny_model, second), 64)
    assert tiny.stats().prefix_hits == 64
    assert tiny.stats().prefix_queries == len(LONG) + len(second)


async def test_only_full_blocks_are_found_and_the_last_token_is_always_computed(
    tiny: Engine, tiny_model: Any
) -> None:
    await turn(tiny, LONG)
    for length, found in ((48, 32), (49, 48), (17, 16), (16, 0), (50, 48)):
        assert await turn(tiny, LONG[:length]) == (truth(tiny_model, LONG[:length]), found)


async def test_a_prompt_that_differs_early_shares_nothing_after(tiny: Engine, tiny_model: Any) -> None:
    await turn(tiny, LONG)
    other = [*LONG[:20], 11, *LONG[21:]]
    assert await turn(tiny, other) == (truth(tiny_model, other), 16)


async def test_one_tenant_s_prompt_never_hits_for_another(tiny: Engine, tiny_model: Any) -> None:
    expected = truth(tiny_model, LONG)
    assert await turn(tiny, LONG, cache_salt="acme") == (expected, 0)
    assert await turn(tiny, LONG, cache_salt="umbrella") == (expected, 0)
    assert await turn(tiny, LONG) == (expected, 0)
    assert await turn(tiny, LONG, cache_salt="acme") == (expected, 48)
    # Nor while both are there at once.
    answers = await asyncio.gather(*(turn(tiny, [3, *LONG], cache_salt=str(n)) for n in range(3)))
    assert {cached for _, cached in answers} == {0}


async def test_after_a_reset_everything_is_computed_again_even_beside_a_running_answer(
    tiny: Engine, tiny_model: Any
) -> None:
    await turn(tiny, LONG)
    running = submit(tiny, LONG, max_tokens=300, ignore_eos=True)
    heard = [(await anext(running)).id]
    tiny.reset_prefix_cache()
    assert_books_balance(tiny)
    assert await turn(tiny, LONG) == (truth(tiny_model, LONG), 0)
    assert tiny.stats().kv_blocks_cached == 4
    rest, _, _ = await collect(running)
    assert [*heard, *rest][:20] == truth(tiny_model, LONG)
    # What began before the reset is not trusted after it.
    assert tiny.stats().kv_blocks_cached == 4


async def test_under_pressure_the_least_recently_used_goes_and_answers_stay_right(
    make_engine: EngineMaker, tiny_model: Any
) -> None:
    engine = make_engine(tiny_model, kv_bytes=kv_bytes(tiny_model, 10))
    others = [[n, *LONG[1:]] for n in range(20, 24)]
    for prompt in (LONG, *others):  # Four blocks each.
        assert await turn(engine, prompt) == (truth(tiny_model, prompt), 0)
        assert_books_balance(engine)
    assert engine._blocks.evictions > 0
    assert engine.stats().kv_blocks_total == 10
    assert await turn(engine, others[-1]) == (truth(tiny_model, others[-1]), 48)
    assert await turn(engine, LONG) == (truth(tiny_model, LONG), 0)


async def test_what_a_cancelled_prompt_computed_serves_the_next(
    make_engine: EngineMaker, tiny_model: Any
) -> None:
    engine = make_engine(tiny_model, token_budget=16, max_running=4)
    prompt = [n % 300 + 3 for n in range(1200)]
    stream = submit(engine, prompt)
    await until(lambda: engine.stats().steps >= 5)
    stream.cancel()
    await collect(stream)
    cached = engine.stats().kv_blocks_cached
    assert 5 <= cached < 75
    shorter = prompt[: 4 * 16 + 3]
    assert await turn(engine, shorter) == (truth(tiny_model, shorter), 64)


async def test_a_step_that_failed_leaves_nothing_behind(tiny: Engine, tiny_model: Any) -> None:
    """Its keys and values may be half written."""
    with (
        Trouble(tiny, lambda ids, at: bool((at == 55).any()), RuntimeError("broken")),
        pytest.raises(Exception, match="failed"),
    ):
        await turn(tiny, LONG)
    # The prompt's three blocks were done; the answer's, at position 50 to 54, is not full.
    assert tiny.stats().kv_blocks_cached == 3
    assert await turn(tiny, LONG) == (truth(tiny_model, LONG), 48)


async def test_alike_prompts_that_come_together_wait_for_the_first_to_compute_what_they_share(
    tiny: Engine, tiny_model: Any
) -> None:
    prompts = [[*LONG, n] for n in range(30, 34)]
    answers = await asyncio.gather(*(turn(tiny, prompt) for prompt in prompts))
    assert [ids for ids, _ in answers] == [truth(tiny_model, prompt) for prompt in prompts]
    assert sorted(cached for _, cached in answers) == [0, 48, 48, 48]


async def test_blocks_in_use_by_several_are_one(tiny: Engine) -> None:
    long = [n % 300 + 3 for n in range(800)]
    first = submit(tiny, long, max_tokens=2000, ignore_eos=True)
    await anext(first)
    before = tiny.stats().kv_blocks_used
    second = submit(tiny, long, max_tokens=2000, ignore_eos=True)
    await anext(second)
    assert tiny.stats().kv_blocks_used < before + 40  # And not 50 more.
    first.cancel()
    await collect(first)
    # The other one still has them.
    assert tiny.stats().kv_blocks_used >= 50
    await anext(second)
    second.cancel()
    await collect(second)
    stats = tiny.stats()
    assert stats.kv_blocks_used == 0
    assert stats.kv_blocks_cached >= 50
    assert_books_balance(tiny)


async def test_who_was_sent_back_is_not_counted_as_a_hit(make_engine: EngineMaker, tiny_model: Any) -> None:
    engine = make_engine(tiny_model, kv_bytes=kv_bytes(tiny_model, 8), max_running=4)
    await asyncio.gather(*(ask(engine, prompt, 70, ignore_eos=True) for prompt in PROMPTS[1:3]))
    stats = engine.stats()
    assert stats.preemptions > 0
    assert (stats.prefix_hits, stats.prefix_queries) == (0, len(PROMPTS[1]) + len(PROMPTS[2]))
