"""Memory for keys and values is measured out; running out of memory costs one request, or only time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import psutil
import pytest
import torch

from inference.engine import scheduler
from inference.engine.attention import LayerShape, probe_layers
from inference.engine.engine import Engine
from inference.engine.errors import ContextLengthExceeded, OutOfMemory
from inference.engine.kernels import ops
from inference.engine.layers import replace_layers
from inference.engine.lookup import Lookup
from inference.engine.memory import KeyValueMemory, blocks_that_fit, bytes_per_block
from tests.inference.conftest import (
    CPU,
    PROMPTS,
    EngineMaker,
    Trouble,
    ask,
    collect,
    generate,
    kv_bytes,
    served,
    submit,
)

TOO_BIG = torch.OutOfMemoryError("too big")
BF16 = torch.bfloat16
LAYERS = {
    0: LayerShape(heads=2, key=8, value=4, dtype=BF16),
    1: LayerShape(heads=1, key=8, value=8, dtype=BF16),
}
BLOCK = 16 * (2 * 12 + 1 * 16)  # Numbers, of 2 bytes in bfloat16.


class Weightless:
    device = CPU


# --- How much there is ------------------------------------------------------------------------------------


def test_a_block_takes_what_its_keys_and_values_take() -> None:
    assert bytes_per_block(LAYERS) == 2 * BLOCK
    exact = {index: replace(shape, dtype=torch.float32) for index, shape in LAYERS.items()}
    assert bytes_per_block(exact) == 4 * BLOCK


@pytest.mark.parametrize("packed", [False, True])
def test_int8_weights_leave_keys_and_values_in_bfloat16(tiny_model: Any, packed: bool) -> None:
    model = served(tiny_model).bfloat16()
    replace_layers(model, precision="int8", packed=packed)
    assert probe_layers(model) == {n: LayerShape(heads=2, key=8, value=8, dtype=BF16) for n in range(2)}


@pytest.mark.parametrize(
    ("limit", "wanted_tokens", "blocks"),
    [(2 * BLOCK * 7, 1000, 7), (2 * BLOCK * 7 + 1, 1000, 7), (2 * BLOCK * 7, 33, 3), (1, 1000, 1)],
)
def test_blocks_fill_the_limit_but_are_no_more_than_wanted(
    limit: int, wanted_tokens: int, blocks: int
) -> None:
    assert blocks_that_fit(Weightless(), LAYERS, limit_bytes=limit, wanted_tokens=wanted_tokens) == blocks


def test_without_a_limit_a_quarter_of_what_is_free_now_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    free = type("Memory", (), {"available": 2 * BLOCK * 20})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert blocks_that_fit(Weightless(), LAYERS, limit_bytes=None, wanted_tokens=1000) == 5


def test_memory_has_a_pool_for_each_layer_and_gives_it_back() -> None:
    memory = KeyValueMemory(LAYERS, num_blocks=3, device=CPU)
    cache = ops._caches[memory.number]
    assert [tuple(keys.shape) for keys in cache.keys] == [(3, 2, 16, 8), (3, 1, 16, 8)]
    assert [tuple(values.shape) for values in cache.values] == [(3, 2, 16, 4), (3, 1, 16, 8)]
    assert memory.handle.tolist() == [memory.number]
    memory.close()
    assert memory.number not in ops._caches


async def test_what_can_never_fit_is_refused_at_once_and_what_just_fits_is_served(
    make_engine: EngineMaker, tiny_model: Any
) -> None:
    engine = make_engine(tiny_model, kv_bytes=kv_bytes(tiny_model, 5))  # 80 tokens.
    with pytest.raises(ContextLengthExceeded, match="holds 80 tokens"):
        submit(engine, [7] * 50, max_tokens=32)
    assert len(await ask(engine, [7] * 50, 31, ignore_eos=True)) == 31
    assert engine.stats().preemptions == 0


# --- Running out of it ------------------------------------------------------------------------------------


async def test_while_decoding_it_fails_who_needs_too_much_alone(tiny: Engine, tiny_model: Any) -> None:
    victim, others = [5] * 90, PROMPTS[:3]
    expected = [generate(tiny_model, prompt, 12) for prompt in others]
    with Trouble(tiny, lambda ids, at: bool((at == 95).any()), TOO_BIG) as trouble:
        doomed = submit(tiny, victim, max_tokens=50, ignore_eos=True)
        answers = asyncio.gather(*(ask(tiny, prompt, 12) for prompt in others))
        with pytest.raises(OutOfMemory, match="shorten it or try later"):
            await collect(doomed)
        assert await answers == expected
    assert tiny.stats().out_of_memory == trouble.raised > 0
    assert await ask(tiny, others[0], 12) == expected[0]


async def test_because_of_the_company_it_fails_nobody(tiny: Engine, tiny_model: Any) -> None:
    expected = [generate(tiny_model, prompt, 8) for prompt in PROMPTS]
    with Trouble(tiny, lambda ids, at: bool((at.diff() != 1).any()), TOO_BIG) as trouble:
        assert await asyncio.gather(*(ask(tiny, prompt, 8) for prompt in PROMPTS)) == expected
    assert tiny.stats().out_of_memory == trouble.raised > 0


async def test_a_prompt_s_part_is_halved_until_it_fits_and_steps_grow_again_later(
    make_engine: EngineMaker, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_RECOVERY", 32)  # Steps; so that it takes no minute.
    sizes: list[int] = []
    engine = make_engine(tiny_model, on_step=lambda seconds, rows, num_tokens: sizes.append(num_tokens))
    prompt = [n % 300 + 3 for n in range(500)]
    with Trouble(engine, lambda ids, at: ids.shape[1] > 40, TOO_BIG) as trouble:
        assert await ask(engine, prompt, 4) == generate(tiny_model, prompt, 4)
    # 256 and 128 and 64 do not fit, 32 do; steps then begin at 32 and grow by 256 / 32 each.
    assert sizes[0] == 256  # As planned; what was computed in the end was less.
    assert max(sizes[1:4]) <= 32 + 3 * 8
    assert engine.stats().out_of_memory == trouble.raised > 3
    sizes.clear()
    await ask(engine, [5], 40, ignore_eos=True)
    await ask(engine, [9, *prompt], 1)
    assert 256 in sizes


async def test_a_prompt_that_fits_in_no_part_fails_and_the_next_is_served(
    tiny: Engine, tiny_model: Any
) -> None:
    with Trouble(tiny, lambda ids, at: bool((ids == 666).any()), TOO_BIG), pytest.raises(OutOfMemory):
        await ask(tiny, [666] * 100)
    stats = tiny.stats()
    assert (stats.kv_blocks_used, stats.kv_blocks_cached, stats.alive) == (0, 0, True)
    assert stats.out_of_memory == 4  # 100, 50, 25 and 12 tokens.
    assert await ask(tiny, PROMPTS[1], 8) == generate(tiny_model, PROMPTS[1], 8)


async def test_the_message_of_a_cpu_s_allocator_counts_as_well(tiny: Engine) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    with Trouble(tiny, lambda ids, at: bool((ids == 666).any()), caught.value), pytest.raises(OutOfMemory):
        await ask(tiny, [666])
    assert tiny.stats().out_of_memory == 1


async def test_guesses_are_dropped_before_anybody_fails(
    make_engine: EngineMaker, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lookup, "propose", lambda self, tokens, most: [7, 7, 7][:most])
    engine = make_engine(tiny_model)
    with Trouble(engine, lambda ids, at: 1 < ids.shape[1] < 5, TOO_BIG) as trouble:
        assert await ask(engine, PROMPTS[0], 8) == generate(tiny_model, PROMPTS[0], 8)
    assert trouble.raised > 0
