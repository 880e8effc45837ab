"""The engine says what transformers says, whoever else is there, and lets go of everything."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest
import torch

from inference.engine.engine import Engine
from inference.engine.errors import (
    ContextLengthExceeded,
    EngineStopped,
    InvalidPrompt,
    OutOfMemory,
    QueueFull,
    StepFailed,
)
from inference.models.load import LoadedModel
from inference.models.template import ChatTemplate
from tests.inference.conftest import EngineMaker, collect, generate, submit, until

QUESTIONS = [
    "What is a bank? Explain in detail.",
    "Tell me a joke",
    "Why is the sky blue, and why are sunsets red? " * 4,
    "写一首关于钱的诗",
]
PROMPTS = [[1, 40 + n, 300, 7, 90 * n + 11, 5, *range(100, 100 + 9 * n)] for n in range(6)]


def chat_prompts(loaded: LoadedModel) -> list[list[int]]:
    template = ChatTemplate(loaded.tokenizer)
    return [template.encode_chat([{"role": "user", "content": question}]) for question in QUESTIONS]


# --- Equality with transformers' generate() ---------------------------------------------------------


async def test_alone_the_real_model_answers_as_generate_does(
    make_engine: EngineMaker, smollm2_exact: LoadedModel
) -> None:
    engine = make_engine(smollm2_exact.model)
    for prompt in chat_prompts(smollm2_exact)[:2]:
        ids, text, _ = await collect(submit(engine, prompt, max_tokens=24))
        assert ids == generate(smollm2_exact.model, prompt, 24)
        assert text == smollm2_exact.tokenizer.decode(ids, skip_special_tokens=True).rstrip("\ufffd")


async def test_together_each_answers_as_alone_even_when_joining_midway(
    make_engine: EngineMaker, smollm2_exact: LoadedModel
) -> None:
    # Chunks of 16 tokens, so that prompts are computed piecemeal between others' steps.
    engine = make_engine(smollm2_exact.model, token_budget=80)
    prompts = chat_prompts(smollm2_exact)

    async def join_after(steps: int, prompt: list[int]) -> list[int]:
        await until(lambda: engine.stats().steps >= steps)
        return (await collect(submit(engine, prompt, max_tokens=20)))[0]

    answers = await asyncio.gather(*(join_after(3 * n, prompt) for n, prompt in enumerate(prompts)))
    assert answers == [generate(smollm2_exact.model, prompt, 20) for prompt in prompts]


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


class Trouble:
    """Makes the model itself fail, under a condition on (input_ids, position_ids)."""

    def __init__(self, engine: Engine, condition: Any, error: Exception) -> None:
        self.raised = 0

        def check(module: Any, args: Any, kwargs: Any) -> None:
            if condition(kwargs["input_ids"], kwargs["position_ids"]):
                self.raised += 1
                raise error

        self._hook = engine._runner.model.register_forward_pre_hook(check, with_kwargs=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


async def test_out_of_memory_while_decoding_fails_that_request_alone(tiny: Engine, tiny_model: Any) -> None:
    victim, others = [5] * 90, PROMPTS[:3]
    expected = [generate(tiny_model, prompt, 12) for prompt in others]
    with Trouble(tiny, lambda ids, at: bool((at == 95).any()), torch.OutOfMemoryError("too big")):
        doomed = submit(tiny, victim, max_tokens=50, ignore_eos=True)
        answers = asyncio.gather(*(collect(submit(tiny, prompt, max_tokens=12)) for prompt in others))
        with pytest.raises(OutOfMemory):
            await collect(doomed)
        assert [ids for ids, _, _ in await answers] == expected
    assert (await collect(submit(tiny, others[0], max_tokens=12)))[0] == expected[0]


async def test_out_of_memory_only_because_of_the_company_fails_nobody(tiny: Engine, tiny_model: Any) -> None:
    expected = [generate(tiny_model, prompt, 8) for prompt in PROMPTS]
    too_many = Trouble(tiny, lambda ids, at: bool((at.diff() != 1).any()), torch.OutOfMemoryError("too many"))
    with too_many:
        answers = await asyncio.gather(*(collect(submit(tiny, p, max_tokens=8)) for p in PROMPTS))
    assert [ids for ids, _, _ in answers] == expected
    assert too_many.raised > 0


async def test_a_failing_prompt_fails_alone(tiny: Engine, tiny_model: Any) -> None:
    with Trouble(tiny, lambda ids, at: bool((ids == 666).any()), RuntimeError("bad prompt")):
        good = asyncio.ensure_future(collect(submit(tiny, PROMPTS[2], max_tokens=12)))
        with pytest.raises(StepFailed):
            await collect(submit(tiny, [1, 666]))
        assert (await good)[0] == generate(tiny_model, PROMPTS[2], 12)
    assert tiny.stats().alive


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


async def test_without_a_seed_answers_differ(tiny: Engine) -> None:
    answers = [
        (await collect(submit(tiny, PROMPTS[2], temperature=1.5, ignore_eos=True)))[0] for _ in range(2)
    ]
    assert answers[0] != answers[1]


async def test_stop_strings_end_the_answer_across_token_borders(
    make_engine: EngineMaker, smollm2: LoadedModel
) -> None:
    engine = make_engine(smollm2.model)
    prompt = chat_prompts(smollm2)[0]
    ids, text, _ = await collect(submit(engine, prompt, max_tokens=24))
    # From the middle of one token to the middle of a later one.
    pieces = [smollm2.tokenizer.decode([token]) for token in ids]
    start = len("".join(pieces[:5])) + 1
    stop = text[start : start + len(pieces[5]) + 2]
    _, stopped, finished = await collect(submit(engine, prompt, max_tokens=24, stop=(stop, "never said")))
    assert stopped == text[: text.index(stop)]
    assert finished.reason == "stop"
    assert finished.completion_tokens < 24


async def test_text_held_back_for_a_stop_string_is_given_at_the_end(
    make_engine: EngineMaker, smollm2: LoadedModel
) -> None:
    engine = make_engine(smollm2.model)
    prompt = chat_prompts(smollm2)[0]
    _, text, _ = await collect(submit(engine, prompt, max_tokens=10))
    _, held, finished = await collect(submit(engine, prompt, max_tokens=10, stop=(text[-4:] + "\x00",)))
    assert held == text
    assert finished.text == text[-4:]
    assert finished.reason == "length"
