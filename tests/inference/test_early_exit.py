"""Guesses by the model's own first layers change how fast an answer comes, and nothing else.

The models are computed in double precision, where rounding never decides between two tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from inference.engine.early_exit import Controller, Plan, depths_of, short_model
from inference.engine.lookup import Lookup
from inference.engine.runner import Runner
from tests.inference.conftest import (
    EngineMaker,
    ask,
    assert_books_balance,
    collect,
    kv_bytes,
    random_llama,
    submit,
    until,
)

PROMPT = [1, 5, 9, 77]
GREEDY: dict[str, Any] = {}
SAMPLINGS = [
    GREEDY,
    {"temperature": 0.8, "seed": 3},
    {"temperature": 1.2, "top_k": 20, "seed": 5, "repetition_penalty": 1.3},
]


def llama(*, easy: bool, layers: int = 8) -> LlamaForCausalLM:
    """Random. `easy`: all but its first two layers add next to nothing, so those two know the answer."""
    model = random_llama(1, intermediate_size=32, num_hidden_layers=layers).double()
    for layer in model.model.layers[2:] if easy else ():
        layer.self_attn.o_proj.weight.data *= 1e-4
        layer.mlp.down_proj.weight.data *= 1e-4
    return model


@pytest.fixture(scope="module")
def easy() -> LlamaForCausalLM:
    return llama(easy=True)


@pytest.fixture(scope="module")
def hard() -> LlamaForCausalLM:
    return llama(easy=False)


@pytest.fixture(autouse=True)
def no_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lookup, "propose", lambda self, tokens, most: [])


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Makes every step guess, whatever comes of it: `always(depth, num_drafts)`."""

    def set_plan(depth: int, num_drafts: int) -> None:
        monkeypatch.setattr(Controller, "plan", lambda self: Plan(depth, num_drafts))

    return set_plan


# --- The short model ---------------------------------------------------------------------------------------


def test_the_short_model_shares_everything_and_leaves_the_model_as_it_was(hard: Any) -> None:
    ids = torch.tensor([PROMPT])
    before = hard(ids).logits
    short = short_model(hard, 2)
    assert set(map(id, short.parameters())) < set(map(id, hard.parameters()))
    assert len(short.model.layers) == 2
    hidden = hard.model(ids, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(short(ids).logits, hard.lm_head(hard.model.norm(hidden)))
    assert len(hard.model.layers) == 8
    assert torch.equal(hard(ids).logits, before)


def test_depths_are_a_quarter_a_half_and_three_quarters(hard: Any) -> None:
    assert depths_of(hard) == (2, 4, 6)
    assert depths_of(llama(easy=True, layers=2)) == (1,)
    assert depths_of(llama(easy=True, layers=1)) == ()


async def test_a_model_whose_layers_are_called_otherwise_works_without(make_engine: EngineMaker) -> None:
    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=300, n_embd=32, n_layer=4, n_head=2, n_positions=512, bos_token_id=1, eos_token_id=2
    )
    model = GPT2LMHeadModel(config).eval()
    assert depths_of(model) == ()
    engine = make_engine(model, max_context=512)
    assert len(await ask(engine, PROMPT, 20, ignore_eos=True)) == 20
    assert engine.stats().draft_tokens == 0


# --- The same answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "sampling"), list(zip((2, 4, 6), SAMPLINGS, strict=True)))
async def test_answers_are_the_same_with_guesses(
    make_engine: EngineMaker, hard: Any, always: Any, sampling: dict[str, Any], depth: int
) -> None:
    expected = await ask(make_engine(hard, early_exit=False), PROMPT, 30, ignore_eos=True, **sampling)
    always(depth, 3)
    engine = make_engine(hard)
    assert await ask(engine, PROMPT, 30, ignore_eos=True, **sampling) == expected
    stats = engine.stats()
    assert stats.layer_draft_tokens == stats.draft_tokens > 40
    assert stats.layer_accepted_tokens < stats.layer_draft_tokens


@pytest.mark.parametrize("sampling", SAMPLINGS)
async def test_right_guesses_give_the_same_answer_in_fewer_steps(
    make_engine: EngineMaker, easy: Any, always: Any, sampling: dict[str, Any]
) -> None:
    expected = await ask(make_engine(easy, early_exit=False), PROMPT, 41, ignore_eos=True, **sampling)
    always(2, 3)
    engine = make_engine(easy)
    # Also at a temperature: the guesses use the random numbers that they will be checked by.
    assert await ask(engine, PROMPT, 41, ignore_eos=True, **sampling) == expected
    stats = engine.stats()
    assert stats.layer_accepted_tokens >= 0.8 * stats.layer_draft_tokens
    await until(lambda: engine.stats().steps >= 11)
    assert engine.stats().steps <= 16


async def test_several_sequences_guess_together(make_engine: EngineMaker, easy: Any, always: Any) -> None:
    prompts = [[1, 40 + n, 7, *range(60, 60 + 9 * n)] for n in range(4)]
    lengths = (20, 33, 7, 28)
    plain = make_engine(easy, early_exit=False)
    expected = [await ask(plain, p, n, ignore_eos=True) for p, n in zip(prompts, lengths, strict=True)]
    always(2, 4)
    engine = make_engine(easy)
    answers = [ask(engine, p, n, ignore_eos=True) for p, n in zip(prompts, lengths, strict=True)]
    assert await asyncio.gather(*answers) == expected
    assert engine.stats().layer_accepted_tokens > 30


async def test_preempted_sequences_answer_the_same(make_engine: EngineMaker, easy: Any, always: Any) -> None:
    plain = make_engine(easy, early_exit=False)
    prompts = [[1, 40 + n, 7] for n in range(3)]
    expected = [await ask(plain, prompt, 60, ignore_eos=True) for prompt in prompts]
    always(2, 5)
    engine = make_engine(easy, kv_bytes=kv_bytes(easy, 8), max_context=128)
    answers = await asyncio.gather(*(ask(engine, prompt, 60, ignore_eos=True) for prompt in prompts))
    assert answers == expected
    assert engine.stats().preemptions > 0
    assert engine.stats().layer_accepted_tokens > 0


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 6])
async def test_the_answer_has_no_token_too_many(
    make_engine: EngineMaker, easy: Any, always: Any, max_tokens: int
) -> None:
    always(2, 8)
    engine = make_engine(easy)
    ids, _, finished = await collect(submit(engine, PROMPT, max_tokens=max_tokens, ignore_eos=True))
    assert len(ids) == max_tokens
    assert (finished.reason, finished.completion_tokens) == ("length", max_tokens)
    assert engine.stats().layer_draft_tokens <= max(0, max_tokens - 2)


async def test_cancelling_while_guessing_frees_everything(
    make_engine: EngineMaker, easy: Any, always: Any
) -> None:
    always(2, 5)
    engine = make_engine(easy)
    stream = submit(engine, PROMPT, max_tokens=3000, ignore_eos=True)
    await until(lambda: engine.stats().layer_draft_tokens > 10)
    assert_books_balance(engine)
    stream.cancel()
    assert (await collect(stream))[2].reason == "cancelled"
    assert engine.stats().kv_blocks_used == 0


async def test_first_layers_that_fail_are_given_up(
    make_engine: EngineMaker, easy: Any, always: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await ask(make_engine(easy, early_exit=False), PROMPT, 30, ignore_eos=True)
    always(2, 3)

    def fail(self: Runner, sequences: Any, *, depth: int) -> None:
        raise RuntimeError("No.")

    monkeypatch.setattr(Runner, "draft", fail)
    engine = make_engine(easy)
    assert await ask(engine, PROMPT, 30, ignore_eos=True) == expected
    assert engine.stats().layer_draft_tokens == 3


# --- Only where it pays ---------------------------------------------------------------------------------------


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that nothing else runs on: a draft takes its share of the layers of a step."""
    observe = Controller.observe

    def steadily(self: Controller, *, seconds: float, draft_seconds: float, num_drafts: int) -> None:
        share = self._current.depth / 8 if self._current else 0.0
        observe(self, seconds=1.0, draft_seconds=share, num_drafts=num_drafts)

    monkeypatch.setattr(Controller, "observe", steadily)


async def test_an_easy_model_runs_shallow(make_engine: EngineMaker, easy: Any, steady: None) -> None:
    engine = make_engine(easy)
    await ask(engine, PROMPT, 150, ignore_eos=True)
    stats = engine.stats()
    assert stats.layer_accepted_tokens > 100
    assert stats.steps < 50
    plan = engine._speculation._controller.plan()
    assert plan and plan.depth == 2


async def test_a_random_model_soon_gives_up_guessing(
    make_engine: EngineMaker, hard: Any, steady: None
) -> None:
    engine = make_engine(hard)
    await ask(engine, PROMPT, 150, ignore_eos=True)
    assert 9 <= engine.stats().layer_draft_tokens <= 3 * 8


async def test_nobody_guesses_beside_a_prompt_or_when_many_run(
    make_engine: EngineMaker, easy: Any, always: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    always(2, 2)
    beside: list[tuple[int, bool]] = []
    draft = Runner.draft

    def watch(self: Runner, sequences: Any, *, depth: int) -> None:
        running = engine._scheduler.running
        beside.append((len(running), all(s.num_tokens - s.num_computed_tokens == 1 for s in running)))
        draft(self, sequences, depth=depth)

    monkeypatch.setattr(Runner, "draft", watch)
    engine = make_engine(easy, token_budget=70)
    talking = [submit(engine, [1, n], max_tokens=400, ignore_eos=True) for n in range(3)]
    await until(lambda: len(beside) > 3)
    await ask(engine, [9] * 300, 1)
    await asyncio.gather(*(ask(engine, [2, n], 8, ignore_eos=True) for n in range(2)))
    for stream in talking:
        stream.cancel()
    assert all(count <= 4 and decoding for count, decoding in beside)


class Machine:
    """Steps of a made-up machine: a step takes 1, a draft the share of the layers, checking 0.01."""

    def __init__(self, rates: dict[int, float], depths: tuple[int, ...] = (2, 4, 6)) -> None:
        self.rates = rates
        self.controller = Controller(depths)
        self.depths: list[int] = []  # Of each step; 0: without drafts.
        self.seconds, self.tokens = 0.0, 0
        self._owed = dict.fromkeys(depths, 0.5)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            plan = self.controller.plan()
            depth, count = plan or (0, 0)
            right = 0
            while right < count and self._is_right(depth):
                right += 1
            if count:
                self.controller.learn(drafted=count, accepted=right)
            draft, seconds = depth / 8, 1 + 0.01 * count
            self.controller.observe(seconds=seconds, draft_seconds=draft, num_drafts=count)
            self.seconds += seconds + count * draft
            self.tokens += 1 + right
            self.depths.append(depth)

    def _is_right(self, depth: int) -> bool:
        """As often as its rate says, evenly spread."""
        self._owed[depth] += self.rates[depth]
        right = self._owed[depth] >= 1
        self._owed[depth] -= right
        return right


def used(machine: Machine, last: int = 100) -> int:
    """The depth of most of the last steps."""
    depths = machine.depths[-last:]
    return max(set(depths), key=depths.count)


def test_what_cannot_pay_is_tried_rarely() -> None:
    machine = Machine({2: 0.1, 4: 0.3, 6: 0.6})
    machine.run(40)
    assert used(machine, last=20) == 0
    first_round = machine.seconds - 40
    assert first_round < 12
    machine.run(20_000)
    lost = machine.seconds - machine.tokens
    assert 0 < lost < 0.02 * 20_000


def test_easy_text_runs_shallow_and_hard_text_deep_and_too_hard_text_in_full() -> None:
    machine = Machine({2: 0.95, 4: 0.97, 6: 0.99})
    machine.run(300)
    assert used(machine) == 2
    assert machine.tokens > 1.7 * machine.seconds
    machine.rates = {2: 0.15, 4: 0.9, 6: 0.95}
    machine.run(3000)
    assert used(machine) == 4
    machine.rates = {2: 0.1, 4: 0.2, 6: 0.5}
    machine.run(3000)
    assert used(machine) == 0
    machine.rates = {2: 0.95, 4: 0.97, 6: 0.99}
    machine.run(9000)
    assert used(machine) == 2


def test_how_far_to_guess_follows_what_is_accepted() -> None:
    def typical(rate: float) -> int:
        machine = Machine({2: rate}, depths=(2,))
        machine.run(500)
        plans = [plan.num_drafts for plan in (machine.controller.plan() for _ in range(20)) if plan]
        return max(plans, default=0)

    assert typical(1.0) == 8
    assert 2 <= typical(0.7) <= 4
    assert typical(0.2) <= 1


def test_drafts_slower_than_a_step_are_dropped_and_tried_anew_when_told() -> None:
    controller = Controller((2,))
    assert controller.plan() is None  # Nothing to compare with yet.
    controller.observe(seconds=1.0, draft_seconds=0.0, num_drafts=0)
    drafts = 0
    for _ in range(50):
        plan = controller.plan()
        if plan:
            drafts += plan.num_drafts
            controller.learn(drafted=1, accepted=1)
        controller.observe(seconds=1.0, draft_seconds=1.5 if plan else 0.0, num_drafts=1 if plan else 0)
    assert drafts == 3
    controller.forget()
    controller.plan()
    controller.observe(seconds=1.0, draft_seconds=0.0, num_drafts=0)
    assert controller.plan() == (2, 1)
