"""Guesses at the next tokens change how fast an answer comes, and nothing else.

Where a test needs guesses that are right, or wrong in the middle, an oracle that knows the answer makes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from transformers import LlamaForCausalLM

from inference.engine.engine import Engine
from inference.engine.lookup import Lookup
from tests.inference.conftest import (
    PROMPTS,
    EngineMaker,
    ask,
    assert_books_balance,
    collect,
    generate,
    kv_bytes,
    random_llama,
    submit,
    until,
)

Consult = Callable[..., None]


@pytest.fixture(scope="module")
def repetitive_model() -> LlamaForCausalLM:
    """Its weights are so small that it soon says the same again and again."""
    return random_llama(1, initializer_range=0.05)


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Consult:
    """Makes guesses out of known (prompt, answer)s, `length` tokens each, every `wrong`-th of them wrong."""

    def consult(*known: tuple[list[int], list[int]], length: int = 4, wrong: int = 0) -> None:
        texts = [prompt + answer for prompt, answer in known]

        def propose(self: Lookup, tokens: list[int], most: int) -> list[int]:
            text = next((text for text in texts if text[: len(tokens)] == tokens), [])
            guess = text[len(tokens) : len(tokens) + min(length, most)]
            places = range(len(tokens), len(tokens) + len(guess))
            return [
                (token + 1) % 300 if wrong and place % wrong == 0 else token
                for place, token in zip(places, guess, strict=True)
            ]

        monkeypatch.setattr(Lookup, "propose", propose)

    return consult


# --- The same answers -------------------------------------------------------------------------------------


async def test_repetitive_text_takes_fewer_steps_and_is_the_same(
    make_engine: EngineMaker, repetitive_model: Any
) -> None:
    computed: list[int] = []
    with_drafts = make_engine(
        repetitive_model, on_step=lambda _, rows, num_tokens: computed.append(num_tokens)
    )
    without = make_engine(repetitive_model, speculate=False)
    ids, _, _ = await collect(submit(with_drafts, [1, 2, 3], max_tokens=100, ignore_eos=True))
    assert ids == await ask(without, [1, 2, 3], 100, ignore_eos=True)
    stats = with_drafts.stats()
    assert stats.steps < 75
    assert 25 < stats.accepted_tokens <= stats.draft_tokens
    # Nothing is computed twice but what was guessed wrong.
    await until(lambda: sum(computed) == 3 + 99 + stats.draft_tokens - stats.accepted_tokens)
    await until(lambda: without.stats().steps == 100)
    assert without.stats().draft_tokens == 0


@pytest.mark.parametrize("wrong", [0, 2, 3, 7])
async def test_right_and_wrong_guesses_give_the_greedy_answer(
    tiny: Engine, tiny_model: Any, oracle: Consult, wrong: int
) -> None:
    answer = generate(tiny_model, PROMPTS[3], 40)
    oracle((PROMPTS[3], answer), wrong=wrong)
    assert await ask(tiny, PROMPTS[3], 40) == answer
    stats = tiny.stats()
    assert 0 < stats.accepted_tokens <= stats.draft_tokens
    assert (stats.accepted_tokens == stats.draft_tokens) == (wrong == 0)


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 1.0, "seed": 3},
        {"temperature": 0.7, "top_p": 0.9, "seed": 4},
        {"temperature": 1.2, "top_k": 20, "seed": 5, "repetition_penalty": 1.3},
        {"temperature": 0.9, "min_p": 0.02, "seed": 6, "frequency_penalty": 0.5},
    ],
)
async def test_a_seed_s_answer_is_the_same_with_guesses(
    make_engine: EngineMaker, tiny_model: Any, oracle: Consult, sampling: dict[str, Any]
) -> None:
    plain = make_engine(tiny_model, speculate=False)
    expected = await ask(plain, PROMPTS[2], 40, ignore_eos=True, **sampling)
    oracle((PROMPTS[2], expected), wrong=3)
    guessing = make_engine(tiny_model)
    assert await ask(guessing, PROMPTS[2], 40, ignore_eos=True, **sampling) == expected
    assert guessing.stats().accepted_tokens > 0


async def test_log_probabilities_are_the_same_with_guesses(
    make_engine: EngineMaker, tiny_model: Any, oracle: Consult
) -> None:
    async def said(engine: Engine) -> list[Any]:
        stream = submit(engine, PROMPTS[2], max_tokens=20, ignore_eos=True, logprobs=2)
        return [event async for event in stream][:-1]

    expected = await said(make_engine(tiny_model, speculate=False))
    oracle((PROMPTS[2], [token.id for token in expected]), wrong=3)
    guessing = make_engine(tiny_model)
    for token, truth in zip(await said(guessing), expected, strict=True):
        assert (token.id, token.text) == (truth.id, truth.text)
        assert token.logprobs.logprob == pytest.approx(truth.logprobs.logprob, abs=1e-3)
        assert [top for top, _ in token.logprobs.top] == [top for top, _ in truth.logprobs.top]
    assert guessing.stats().accepted_tokens > 0


# --- Ends in the middle of a right guess ------------------------------------------------------------------


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 5, 8])
async def test_the_answer_has_no_token_too_many(
    tiny: Engine, tiny_model: Any, oracle: Consult, max_tokens: int
) -> None:
    answer = generate(tiny_model, PROMPTS[3], 30)
    oracle((PROMPTS[3], answer), length=10)
    ids, _, finished = await collect(submit(tiny, PROMPTS[3], max_tokens=max_tokens))
    assert ids == answer[:max_tokens]
    assert (finished.reason, finished.completion_tokens) == ("length", max_tokens)


async def test_a_stop_string_a_stop_token_and_the_end_token_are_seen_within_a_guess(
    make_engine: EngineMaker, tiny_model: Any, tokenizer: Any, oracle: Consult
) -> None:
    answer = generate(tiny_model, PROMPTS[3], 30)
    place = next(n for n in range(5, 30) if answer[n] not in answer[:n])
    oracle((PROMPTS[3], answer), length=10)
    engine = make_engine(tiny_model, eos=frozenset({answer[place]}))

    ids, _, finished = await collect(submit(engine, PROMPTS[3], max_tokens=30))
    assert (ids, finished.reason) == (answer[:place], "stop")
    assert finished.completion_tokens == place + 1

    stop = {"stop_token_ids": frozenset({answer[place]}), "ignore_eos": True}
    ids, _, finished = await collect(submit(engine, PROMPTS[3], max_tokens=30, **stop))
    assert (ids, finished.reason) == (answer[:place], "stop")

    text = tokenizer.decode(answer[: place + 1])
    stop = {"stop": (text[-2:],), "ignore_eos": True}
    _, said, finished = await collect(submit(engine, PROMPTS[3], max_tokens=30, **stop))
    assert (said, finished.reason) == (text[: text.index(text[-2:])], "stop")
    assert engine.stats().accepted_tokens > 0
    assert_books_balance(engine)


# --- In company -----------------------------------------------------------------------------------------------


async def test_nobody_guesses_while_many_run(tiny: Engine, tiny_model: Any, oracle: Consult) -> None:
    known = [(prompt, generate(tiny_model, prompt, 40)) for prompt in PROMPTS]
    oracle(*known)
    seen: list[tuple[int, int]] = []
    propose = tiny._speculation.propose

    def watch(running: Any) -> None:
        propose(running)
        seen.append((len(running), sum(len(sequence.draft_ids) for sequence in running)))

    tiny._speculation.propose = watch  # type: ignore[method-assign]
    answers = await asyncio.gather(*(ask(tiny, prompt, 40 - 5 * n) for n, (prompt, _) in enumerate(known)))
    assert answers == [answer[: 40 - 5 * n] for n, (_, answer) in enumerate(known)]
    assert {count for running, count in seen if running > 4} == {0}
    assert any(count for running, count in seen if running <= 4)


async def test_guesses_of_several_at_once_are_told_apart(
    tiny: Engine, tiny_model: Any, oracle: Consult
) -> None:
    known = [(prompt, generate(tiny_model, prompt, 30)) for prompt in PROMPTS[:4]]
    oracle(*known, wrong=4)
    answers = await asyncio.gather(*(ask(tiny, prompt, 30) for prompt, _ in known))
    assert answers == [answer for _, answer in known]
    assert tiny.stats().accepted_tokens > 0


async def test_with_too_little_memory_guesses_send_nobody_back(
    make_engine: EngineMaker, tiny_model: Any, oracle: Consult
) -> None:
    # Just room enough for both answers, none for guesses beyond them.
    prompts = [PROMPTS[1], PROMPTS[2]]
    known = [(prompt, generate(tiny_model, prompt, 40)) for prompt in prompts]
    oracle(*known, length=12)
    blocks = sum(-(-(len(prompt) + len(answer)) // 16) for prompt, answer in known)
    engine = make_engine(tiny_model, kv_bytes=kv_bytes(tiny_model, blocks), max_running=4)
    answers = await asyncio.gather(*(ask(engine, prompt, len(answer)) for prompt, answer in known))
    assert answers == [answer for _, answer in known]
    assert engine.stats().preemptions == 0
    assert engine.stats().accepted_tokens > 0


async def test_who_is_sent_back_in_the_middle_of_guessing_goes_on_with_the_same_answer(
    make_engine: EngineMaker, tiny_model: Any, oracle: Consult
) -> None:
    known = [(prompt, generate(tiny_model, prompt, 90)) for prompt in PROMPTS[1:3]]
    oracle(*known, wrong=3)
    engine = make_engine(tiny_model, kv_bytes=kv_bytes(tiny_model, 8), max_running=4)
    answers = await asyncio.gather(*(ask(engine, prompt, 90) for prompt, _ in known))
    assert answers == [answer for _, answer in known]
    assert engine.stats().preemptions > 0
    assert engine.stats().accepted_tokens > 0


async def test_cancelling_with_guesses_outstanding_frees_everything(
    tiny: Engine, tiny_model: Any, oracle: Consult
) -> None:
    answer = generate(tiny_model, PROMPTS[3], 60)
    oracle((PROMPTS[3], answer), length=12, wrong=5)
    stream = submit(tiny, PROMPTS[3], max_tokens=3000, ignore_eos=True)
    await until(lambda: tiny.stats().draft_tokens > 0)
    stream.cancel()
    ids, _, finished = await collect(stream)
    assert finished.reason == "cancelled"
    assert ids[: len(answer)] == answer[: len(ids)]
    assert tiny.stats().kv_blocks_used == 0
    assert_books_balance(tiny)


async def test_wrong_guesses_never_reach_the_prefix_cache(
    tiny: Engine, tiny_model: Any, oracle: Consult
) -> None:
    answer = generate(tiny_model, PROMPTS[3], 50)
    oracle((PROMPTS[3], answer), length=12, wrong=2)
    assert await ask(tiny, PROMPTS[3], 50) == answer
    second = [*PROMPTS[3], *answer, 7]
    ids, _, finished = await collect(submit(tiny, second, max_tokens=16))
    assert finished.cached_tokens == (len(second) - 2) // 16 * 16
    assert ids == generate(tiny_model, second, 16)


# --- What is guessed ------------------------------------------------------------------------------------------


def test_what_followed_the_longest_match_last_time_is_guessed() -> None:
    text = [*(1, 2, 3, 4), 50, 51, 52, *(9, 3, 4), 60, 61, 62, *(1, 2, 3, 4)]
    assert Lookup().propose(text, 3) == [50, 51, 52]  # Four tokens alike, though two were seen later.
    assert Lookup().propose([*text[:-4], 9, 3, 4], 2) == [60, 61]
    assert Lookup().propose([*text[:-4], 8, 3, 4], 2) == [60, 61]
    assert Lookup().propose([*text[:-4], 8, 8, 4], 2) == []
    assert Lookup().propose([5], 4) == []


def test_what_repeats_is_guessed_to_go_on_repeating() -> None:
    assert Lookup().propose([1, 7, 8, 7, 8, 7, 8], 4) == [7, 8, 7, 8]
    assert Lookup().propose([9, 9, 9], 3) == [9, 9, 9]


def test_guesses_grow_with_success_shrink_with_failure_and_pause() -> None:
    lookup, text = Lookup(), [*range(40), 0, 1, 2]
    assert len(lookup.propose(text, 99)) == 4
    for length in (8, 12, 12):
        lookup.learn(drafted=4, accepted=4)
        assert len(lookup.propose(text, 99)) == length
    lookup.learn(drafted=12, accepted=4)
    assert len(lookup.propose(text, 99)) == 5
    for pause in (2, 4, 8, 16, 32, 64, 64):
        lookup.learn(drafted=5, accepted=0)
        assert [len(lookup.propose(text, 99)) for _ in range(pause + 1)] == [0] * pause + [2]
    lookup.learn(drafted=2, accepted=1)
    lookup.learn(drafted=2, accepted=0)
    assert [len(lookup.propose(text, 99)) for _ in range(3)] == [0, 0, 2]


def test_what_was_said_during_a_pause_is_known_after_it() -> None:
    lookup, text = Lookup(), [1, 2, 3]
    lookup.propose(text, 4)
    lookup.learn(drafted=1, accepted=0)
    for token in (70, 71, 72, 70, 71):
        text.append(token)
        guess = lookup.propose(text, 1)
    assert guess == [72]
