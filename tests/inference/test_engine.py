"""The engine serves whoever comes, whoever else is there, and lets go of everything.

That it says what transformers says is in test_architectures.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch

from inference.engine.engine import Engine
from inference.engine.errors import (
    ContextLengthExceeded,
    EngineStopped,
    InvalidPrompt,
    QueueFull,
    StepFailed,
)
from inference.engine.stream import Token
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


def is_idle(engine: Engine) -> bool:
    stats = engine.stats()
    return stats.waiting + stats.running == 0


# --- Together ------------------------------------------------------------------------------------------


async def test_rows_of_all_lengths_leave_and_join_without_disturbing_others(
    tiny: Engine, tiny_model: Any
) -> None:
    lengths = [3, 40, 9, 25, 1, 60]
    answers = await asyncio.gather(
        *(collect(submit(tiny, p, max_tokens=n)) for p, n in zip(PROMPTS, lengths, strict=True))
    )
    for (ids, _, finished), prompt, length in zip(answers, PROMPTS, lengths, strict=True):
        assert ids == generate(tiny_model, prompt, length)
        assert finished.prompt_tokens == len(prompt)
        assert finished.completion_tokens == len(ids) + (finished.reason == "stop")


async def test_a_newcomer_does_not_wait_for_a_running_answer(tiny: Engine) -> None:
    long = submit(tiny, PROMPTS[0], max_tokens=2000, ignore_eos=True)
    await anext(long)
    ids, _, _ = await collect(submit(tiny, PROMPTS[1], max_tokens=5, ignore_eos=True))
    assert len(ids) == 5
    assert tiny.stats().running == 1
    long.cancel()


async def test_a_long_prompt_lets_others_go_on_between_its_chunks(
    make_engine: EngineMaker, tiny_model: Any
) -> None:
    engine = make_engine(tiny_model, token_budget=96)
    talking = submit(engine, PROMPTS[0], max_tokens=1000, ignore_eos=True)
    await anext(talking)
    before = engine.stats().steps
    await anext(submit(engine, [9] * 640, max_tokens=1))
    assert engine.stats().steps - before >= 640 // 96
    heard = 0
    while not talking._events.empty():
        await anext(talking)
        heard += 1
    assert heard >= 640 // 96 - 1
    talking.cancel()


# --- Letting go ----------------------------------------------------------------------------------------


async def test_cancelling_while_decoding_frees_within_a_step(tiny: Engine, tiny_model: Any) -> None:
    doomed = submit(tiny, PROMPTS[3], max_tokens=3000, ignore_eos=True)
    staying = asyncio.ensure_future(collect(submit(tiny, PROMPTS[1], max_tokens=60)))
    await anext(doomed)
    doomed.cancel()
    # The step under way may end, and the next one must begin without it.
    step = tiny.stats().steps
    await until(lambda: tiny.stats().steps >= step + 2 or tiny.stats().running == 0)
    assert tiny.stats().running <= 1
    assert (await collect(doomed))[2].reason == "cancelled"
    assert (await staying)[0] == generate(tiny_model, PROMPTS[1], 60)
    await until(lambda: tiny.stats().kv_blocks_used == 0)


async def test_cancelling_between_prompt_chunks_frees_everything(
    make_engine: EngineMaker, tiny_model: Any
) -> None:
    engine = make_engine(tiny_model, token_budget=65)
    stream = submit(engine, [5] * 2000, max_tokens=5)
    await until(lambda: engine.stats().kv_blocks_used > 3)
    stream.cancel()
    ids, _, finished = await collect(stream)
    assert (ids, finished.reason, finished.completion_tokens) == ([], "cancelled", 0)
    assert engine.stats().kv_blocks_used == 0
    assert engine.stats().running == 0


async def test_cancelling_while_waiting_gives_the_place_in_line_back(
    make_engine: EngineMaker, tiny_model: Any
) -> None:
    engine = make_engine(tiny_model, max_running=1, max_waiting=1)
    running = submit(engine, PROMPTS[0], max_tokens=3000, ignore_eos=True)
    await anext(running)
    waiting = submit(engine, PROMPTS[1])
    waiting.cancel()
    assert (await collect(waiting))[2].reason == "cancelled"
    assert engine.stats().waiting == 0
    assert engine.stats().running == 1
    submit(engine, PROMPTS[1]).cancel()
    running.cancel()
    await until(lambda: engine.stats().running == 0)


async def test_cancelling_who_was_sent_back_for_lack_of_memory_frees_everything(
    make_engine: EngineMaker, tiny_model: Any
) -> None:
    engine = make_engine(tiny_model, kv_bytes=kv_bytes(tiny_model, 8), max_running=4)
    first = asyncio.ensure_future(ask(engine, PROMPTS[1], 90, ignore_eos=True))
    second = submit(engine, PROMPTS[2], max_tokens=90, ignore_eos=True)
    await until(lambda: engine.stats().preemptions > 0 and engine.stats().waiting == 1)
    second.cancel()
    ids, _, finished = await collect(second)
    assert finished.reason == "cancelled"
    # What it had said before it was sent back counts.
    assert 0 < finished.completion_tokens == len(ids) < 90
    assert engine.stats().waiting == 0
    assert_books_balance(engine)
    assert len(await first) == 90
    assert engine.stats().kv_blocks_used == 0


async def test_cancelling_at_random_leaves_the_others_answers_and_the_books_right(
    make_engine: EngineMaker, tiny_model: Any
) -> None:
    # Little memory and small steps, so that every state occurs: in line, in a prompt, decoding, sent back.
    engine = make_engine(tiny_model, kv_bytes=kv_bytes(tiny_model, 14), token_budget=24, max_running=4)
    expected = {n: generate(tiny_model, PROMPTS[n], 20) for n in range(6)}

    async def go(number: int) -> None:
        stream = submit(engine, PROMPTS[number % 6], max_tokens=20, tenant=str(number % 3))
        if number % 2:
            await until(lambda: engine.stats().steps >= 3 * number or is_idle(engine))
            stream.cancel()
            ids, _, finished = await collect(stream)
            assert finished.reason in ("cancelled", "stop", "length")
            assert ids == expected[number % 6][: len(ids)]
        else:
            assert (await collect(stream))[0] == expected[number % 6]
        assert_books_balance(engine)

    await asyncio.gather(*(go(number) for number in range(18)))
    stats = engine.stats()
    assert (stats.kv_blocks_used, stats.running, stats.waiting) == (0, 0, 0)


async def test_cancelling_before_the_first_step_and_after_the_last_is_harmless(tiny: Engine) -> None:
    stream = submit(tiny, PROMPTS[0])
    stream.cancel()
    assert (await collect(stream))[2].reason in ("cancelled", "length")
    done = submit(tiny, PROMPTS[0], max_tokens=2)
    await collect(done)
    done.cancel()
    assert (await collect(submit(tiny, PROMPTS[0], max_tokens=2, ignore_eos=True)))[2].reason == "length"


# --- Limits -------------------------------------------------------------------------------------------


async def test_a_full_line_refuses_and_says_when_to_come_back(
    make_engine: EngineMaker, tiny_model: Any
) -> None:
    engine = make_engine(tiny_model, max_running=1, max_waiting=1)
    streams = [submit(engine, PROMPTS[0], max_tokens=3000, ignore_eos=True) for _ in range(2)]
    with pytest.raises(QueueFull) as refused:
        submit(engine, PROMPTS[0])
    assert 1 <= refused.value.retry_after <= 60
    for stream in streams:
        stream.cancel()


async def test_who_floods_the_engine_does_not_keep_another_tenant_out(
    make_engine: EngineMaker, tiny_model: Any
) -> None:
    late: list[Any] = []
    steps_waited = 0

    def on_step(seconds: float, rows: int, num_tokens: int) -> None:
        nonlocal steps_waited
        steps_waited += bool(late and late[0].admitted_at is None)

    engine = make_engine(tiny_model, max_running=2, on_step=on_step)
    flood = [
        submit(engine, PROMPTS[n % 3], max_tokens=2000, ignore_eos=True, tenant="flood") for n in range(20)
    ]
    await anext(flood[1])
    late.append(submit(engine, PROMPTS[4], max_tokens=4, ignore_eos=True, tenant="late"))
    assert len((await collect(late[0]))[0]) == 4
    # At most the step under way and the one that was being planned.
    assert steps_waited <= 2
    for stream in flood:
        stream.cancel()
    await until(lambda: is_idle(engine))


async def test_the_more_urgent_of_a_tenant_runs_first(make_engine: EngineMaker, tiny_model: Any) -> None:
    engine = make_engine(tiny_model, max_running=1)
    running = submit(engine, PROMPTS[0], max_tokens=2000, ignore_eos=True)
    await anext(running)
    relaxed = submit(engine, PROMPTS[1], max_tokens=3, priority=1)
    urgent = submit(engine, PROMPTS[2], max_tokens=3, priority=0)
    running.cancel()
    await asyncio.gather(collect(relaxed), collect(urgent))
    assert urgent.admitted_at is not None and relaxed.admitted_at is not None
    assert urgent.submitted_at > relaxed.submitted_at
    assert urgent.admitted_at < relaxed.admitted_at


@pytest.mark.parametrize(("prompt", "wanted"), [(65, 1), (60, 5), (1, 64)])
async def test_prompt_and_answer_must_fit_the_context(
    make_engine: EngineMaker, tiny_model: Any, prompt: int, wanted: int
) -> None:
    engine = make_engine(tiny_model, max_context=64)
    with pytest.raises(ContextLengthExceeded, match="64"):
        submit(engine, [5] * prompt, max_tokens=wanted)
    ids, _, _ = await collect(submit(engine, [5] * 60, max_tokens=4, ignore_eos=True))
    assert len(ids) == 4


@pytest.mark.parametrize("prompt", [[], [49152], [-1]])
async def test_prompts_the_model_cannot_read_are_refused(tiny: Engine, prompt: list[int]) -> None:
    with pytest.raises(InvalidPrompt):
        submit(tiny, prompt)


# --- One request's trouble is its own -----------------------------------------------------------------


async def test_a_failing_prompt_fails_alone(tiny: Engine, tiny_model: Any) -> None:
    with Trouble(tiny, lambda ids, at: bool((ids == 666).any()), RuntimeError("bad prompt")):
        good = asyncio.ensure_future(collect(submit(tiny, PROMPTS[2], max_tokens=12)))
        with pytest.raises(StepFailed):
            await collect(submit(tiny, [1, 666]))
        assert (await good)[0] == generate(tiny_model, PROMPTS[2], 12)
    assert tiny.stats().alive


async def test_a_model_that_says_no_number_fails_who_asked_and_nobody_else(
    tiny: Engine, tiny_model: Any
) -> None:
    def spoil(module: Any, args: Any, output: Any) -> None:
        output.logits[:, bad] = torch.nan

    bad: list[int] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        # Rows of the head are in the order of the sequences: whose last token is 666 is spoilt.
        ids = kwargs["input_ids"][0, kwargs["logits_to_keep"]]
        bad[:] = (ids == 666).nonzero().flatten().tolist()

    tiny._runner.model.register_forward_pre_hook(note, with_kwargs=True)
    tiny._runner.model.register_forward_hook(spoil)
    good = asyncio.ensure_future(ask(tiny, PROMPTS[2], 12))
    with pytest.raises(StepFailed, match="not a number"):
        await ask(tiny, [1, 666])
    assert await good == generate(tiny_model, PROMPTS[2], 12)


async def test_a_step_that_fails_outside_any_request_ends_all_and_the_next_is_served(
    tiny: Engine, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [submit(tiny, prompt, max_tokens=2000, ignore_eos=True) for prompt in PROMPTS[:2]]
    await anext(streams[0])
    with monkeypatch.context() as patch:
        patch.setattr(tiny._scheduler, "schedule", lambda: 1 / 0)
        for stream in streams:
            with pytest.raises(StepFailed, match="try again"):
                await collect(stream)
    stats = tiny.stats()
    assert (stats.alive, stats.running, stats.kv_blocks_used) == (True, 0, 0)
    # What the failed step left in memory is not trusted either.
    assert stats.kv_blocks_cached == 0
    assert await ask(tiny, PROMPTS[0], 12) == generate(tiny_model, PROMPTS[0], 12)


async def test_closing_tells_every_reader(make_engine: EngineMaker, tiny_model: Any) -> None:
    engine = make_engine(tiny_model, max_running=1)
    streams = [submit(engine, PROMPTS[0], max_tokens=3000, ignore_eos=True) for _ in range(2)]
    await anext(streams[0])
    await asyncio.to_thread(engine.close)
    for stream in streams:
        with pytest.raises(EngineStopped):
            await collect(stream)
    with pytest.raises(EngineStopped):
        submit(engine, PROMPTS[0])


# --- Sampling through the engine ------------------------------------------------------------------------


async def test_a_seed_reproduces_alone_and_in_company(tiny: Engine) -> None:
    def draw(seed: int) -> Any:
        return collect(submit(tiny, PROMPTS[2], seed=seed, temperature=1.0, ignore_eos=True))

    alone, _, _ = await draw(1)
    (again, _, _), (other, _, _), _ = await asyncio.gather(draw(1), draw(2), draw(3))
    assert again == alone
    assert other != alone


async def test_choices_of_one_prompt_compute_it_once(make_engine: EngineMaker, tiny_model: Any) -> None:
    computed: list[int] = []
    engine = make_engine(tiny_model, on_step=lambda seconds, rows, num_tokens: computed.append(num_tokens))
    prompt = [5, 9, *range(200, 398)]
    streams = [
        submit(engine, prompt, max_tokens=8, temperature=1.0, seed=seed, ignore_eos=True) for seed in range(5)
    ]
    answers = [await collect(stream) for stream in streams]
    assert len({tuple(ids) for ids, _, _ in answers}) == 5
    # 200 tokens are 12 blocks and 8 tokens; the blocks are computed by one of the choices only.
    assert sorted(finished.cached_tokens for _, _, finished in answers) == [0, 192, 192, 192, 192]
    await until(lambda: sum(computed) >= 200 + 4 * 8 + 5 * 7)
    assert sum(computed) <= 200 + 4 * 8 + 5 * 7 + engine.stats().draft_tokens


async def test_without_a_seed_answers_differ(tiny: Engine) -> None:
    answers = [
        (await collect(submit(tiny, PROMPTS[2], temperature=1.5, ignore_eos=True)))[0] for _ in range(2)
    ]
    assert answers[0] != answers[1]


async def test_log_probabilities_are_those_of_the_model_in_the_same_context(
    make_engine: EngineMaker, tiny_model: Any
) -> None:
    # The prompt in pieces, somebody else beside it, and guesses that fail.
    engine = make_engine(tiny_model, token_budget=17, max_running=4)
    company = submit(engine, PROMPTS[1], max_tokens=500, ignore_eos=True)
    tokens = [
        event
        async for event in submit(engine, PROMPTS[5], temperature=0.8, seed=4, logprobs=3, ignore_eos=True)
        if isinstance(event, Token)
    ]
    company.cancel()
    ids = [*PROMPTS[5], *(token.id for token in tokens)]
    with torch.no_grad():
        truth = tiny_model(torch.tensor([ids])).logits[0].log_softmax(-1)
    assert len(tokens) == 16
    for place, token in enumerate(tokens, start=len(PROMPTS[5]) - 1):
        assert token.logprobs is not None
        assert token.logprobs.logprob == pytest.approx(float(truth[place, token.id]), abs=1e-3)
        best = truth[place].topk(3)
        assert [top for top, _ in token.logprobs.top] == best.indices.tolist()
        assert [value for _, value in token.logprobs.top] == pytest.approx(best.values.tolist(), abs=1e-3)


# --- Text --------------------------------------------------------------------------------------------------


async def test_stop_strings_end_the_answer_across_token_borders(tiny: Engine, tokenizer: Any) -> None:
    ids, text, _ = await collect(submit(tiny, PROMPTS[2], max_tokens=24, ignore_eos=True))
    # From the middle of one token to the middle of a later one.
    pieces = [tokenizer.decode([token]) for token in ids]
    place = next(n for n in range(4, 24) if len(pieces[n]) > 1 and len(pieces[n + 1]) > 1)
    start = len("".join(pieces[:place])) + 1
    stop = text[start : start + len(pieces[place])]
    _, stopped, finished = await collect(
        submit(tiny, PROMPTS[2], max_tokens=24, ignore_eos=True, stop=(stop, "never said"))
    )
    assert stopped == text[: text.index(stop)]
    assert finished.reason == "stop"
    assert finished.completion_tokens == place + 2


async def test_text_held_back_for_a_stop_string_is_given_at_the_end(tiny: Engine) -> None:
    _, text, _ = await collect(submit(tiny, PROMPTS[2], max_tokens=10, ignore_eos=True))
    _, held, finished = await collect(
        submit(tiny, PROMPTS[2], max_tokens=10, ignore_eos=True, stop=(text[-4:] + "\x00",))
    )
    assert held == text
    assert finished.text == text[-4:]
    assert finished.reason == "length"
