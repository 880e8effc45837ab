"""Sampling follows its definitions, row by row, and speculation changes nothing about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from inference.engine.request import SamplingParameters
from inference.engine.sampler import BadLogits, Sampler, sample_rows, verify, verify_rows

VOCABULARY = 1000


def logits(seed: int, rows: int = 1, *, spread: float = 3.0, vocabulary: int = VOCABULARY) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


def sampler(prompt: Sequence[int] = (1,), *, eos: frozenset[int] = frozenset(), **parameters: Any) -> Sampler:
    return Sampler(SamplingParameters(**{"max_tokens": 10, **parameters}), prompt, VOCABULARY, eos)


def draws(row: torch.Tensor, count: int, **parameters: Any) -> Counter[int]:
    """First tokens of `count` requests that differ in their seeds, all sampled at once."""
    rows = row.expand(count, -1)
    found = sample_rows(rows, [sampler(seed=seed, **parameters) for seed in range(count)])
    return Counter(one.token for one in found)


def assert_follows(counts: Counter[int], expected: torch.Tensor) -> None:
    """A chi-square test at 5 standard deviations; nothing of probability 0 was drawn."""
    total = sum(counts.values())
    observed = torch.tensor([counts[token] for token in range(len(expected))], dtype=torch.float64)
    assert observed[expected == 0].sum() == 0
    wanted = expected.double() * total
    common = wanted >= 5
    rest = observed[~common].sum(), wanted[~common].sum()
    statistic = ((observed - wanted)[common] ** 2 / wanted[common]).sum() + (rest[0] - rest[1]) ** 2 / max(
        rest[1], torch.tensor(5.0)
    )
    freedom = int(common.sum())
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5 + 5


WARPERS: list[tuple[dict[str, Any], list[Any]]] = [
    ({}, []),
    ({"temperature": 0.5}, [TemperatureLogitsWarper(0.5)]),
    ({"temperature": 2.0, "top_k": 7}, [TemperatureLogitsWarper(2.0), TopKLogitsWarper(7)]),
    ({"top_p": 0.6}, [TopPLogitsWarper(0.6)]),
    ({"min_p": 0.1}, [MinPLogitsWarper(0.1)]),
    (
        {"temperature": 1.5, "top_k": 30, "top_p": 0.8, "min_p": 0.2},
        [TemperatureLogitsWarper(1.5), TopKLogitsWarper(30), TopPLogitsWarper(0.8), MinPLogitsWarper(0.2)],
    ),
    (
        {"repetition_penalty": 1.7, "top_p": 0.9},
        [RepetitionPenaltyLogitsProcessor(1.7), TopPLogitsWarper(0.9)],
    ),
    ({"repetition_penalty": 0.6}, [RepetitionPenaltyLogitsProcessor(0.6)]),
]


@pytest.mark.parametrize(("parameters", "warpers"), WARPERS, ids=lambda value: str(value)[:40])
def test_draws_are_distributed_as_with_transformers(parameters: dict[str, Any], warpers: list[Any]) -> None:
    row, prompt = logits(5, vocabulary=60, spread=1.5), (3, 5, 8, int(logits(5, vocabulary=60).argmax()))
    warped = LogitsProcessorList(warpers)(torch.tensor([prompt]), row.clone())
    counts = draws(row, 1500, prompt=prompt, **parameters)
    assert_follows(counts, torch.softmax(warped[0], -1))


@pytest.mark.parametrize(
    ("spread", "top_k", "top_p"),
    [(0.01, 0, 0.9), (1.0, 0, 0.99), (3.0, 0, 0.5), (1.0, 3000, 1.0), (1.0, 128, 0.999), (4.0, 1, 1.0)],
)
def test_the_likely_enough_are_found_however_many_they_are(spread: float, top_k: int, top_p: float) -> None:
    """Nuclei of a few tokens, of hundreds and of nearly the whole vocabulary, in one batch with others."""
    row = logits(6, spread=spread, vocabulary=5000)
    warpers = ([TopKLogitsWarper(top_k)] if top_k else []) + [TopPLogitsWarper(top_p)]
    kept = set(
        LogitsProcessorList(warpers)(torch.ones(1, 1, dtype=torch.long), row.clone())[0]
        .isfinite().nonzero()[:, 0].tolist()
    )  # fmt: skip
    counts = draws(row, 300, top_k=top_k, top_p=top_p)
    # Rounding may decide about the one token at the edge.
    assert len(set(counts) - kept) <= 1
    # Nearly equal ones by the thousand: 300 draws rarely meet one twice.
    assert spread > 0.01 or len(counts) > 250
    others = sample_rows(
        torch.cat([row, logits(1, 2, vocabulary=5000)]),
        [sampler(seed=3, top_k=top_k, top_p=top_p), sampler(top_k=2, seed=1), sampler(temperature=0)],
    )
    assert others[0] == sample_rows(row, [sampler(seed=3, top_k=top_k, top_p=top_p)])[0]


def test_the_least_likely_that_is_kept_is_drawn_too() -> None:
    row = torch.full((VOCABULARY,), -30.0)
    row[[900, 17, 401]] = torch.tensor([0.5, 0.3, 0.2]).log()
    assert set(draws(row, 200, top_p=0.79)) == {900, 17}
    assert set(draws(row, 200, top_p=0.81)) == {900, 17, 401}
    assert set(draws(row, 200, top_k=2)) == {900, 17}
    assert set(draws(row, 200, min_p=0.59)) == {900, 17}
    # Of the 0.8 that top-k leaves, 0.5 are 0.62: top-p goes on after top-k, not beside it.
    assert set(draws(row, 200, top_k=2, top_p=0.6)) == {900}
    assert set(draws(row, 200, top_p=0.6)) == {900, 17}


def test_equals_of_the_last_kept_are_kept() -> None:
    row = torch.zeros(VOCABULARY)
    row[:3] = torch.tensor([9.0, 8.0, 8.0])
    assert set(draws(row, 300, top_k=2)) == {0, 1, 2}


@pytest.mark.parametrize("vocabulary", [1, 127, 1000, 50257])
def test_any_size_of_vocabulary(vocabulary: int) -> None:
    row = torch.zeros(vocabulary)
    row[-1] = 40.0
    assert set(draws(row, 20, top_p=0.9)) == set(draws(row, 20)) == {vocabulary - 1}


def test_a_cold_temperature_is_greedy_and_a_hot_one_does_not_overflow() -> None:
    row = logits(2)
    best = int(row.argmax())
    assert set(draws(row, 5, temperature=1e-60)) == {best} == set(draws(row, 5, temperature=1e-4))
    assert len(draws(row, 50, temperature=100.0)) > 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_independent_of_company(dtype: torch.dtype) -> None:
    """The same seed, the same answer: alone, among others, and in another order."""
    several: list[dict[str, Any]] = [
        {"seed": 7},
        {"seed": -7, "top_p": 0.9, "frequency_penalty": 0.5},
        {"temperature": 0},
        {"seed": 2**63, "top_k": 5, "repetition_penalty": 1.2, "logprobs": 2},
        {"temperature": 0, "presence_penalty": 1.0, "logit_bias": ((4, 3.0),)},
        {"seed": 7, "min_p": 0.05},
        *({"seed": seed, "temperature": 1.3} for seed in range(6)),
    ]
    steps = [logits(step, len(several)).to(dtype) for step in range(4)]

    def answers(order: list[int]) -> dict[int, list[Any]]:
        subjects = [sampler((1, 2, 3), **several[row]) for row in order]
        found = [sample_rows(step[torch.tensor(order)], subjects) for step in steps]
        return {row: [step[at] for step in found] for at, row in enumerate(order)}

    together = answers(list(range(len(several))))
    assert answers(list(reversed(range(len(several))))) == together
    for row in range(len(several)):
        assert answers([row])[row] == together[row]
    assert [one.token for one in together[0]] != [one.token for one in together[6]]


def test_without_a_seed_answers_differ() -> None:
    row = torch.zeros(1, VOCABULARY)
    tokens = {sample_rows(row, [sampler()])[0].token for _ in range(5)}
    assert len(tokens) > 1


def test_logits_are_left_as_they_were() -> None:
    rows = logits(1, 2)
    before = rows.clone()
    sample_rows(rows, [sampler(top_p=0.9, repetition_penalty=1.2, seed=1), sampler(logit_bias=((1, 5.0),))])
    assert torch.equal(rows, before)


# --- Changes to logits ----------------------------------------------------------------------------


def test_frequency_and_presence_penalties_count_the_answer_only() -> None:
    row = torch.zeros(VOCABULARY)
    row[7], row[8], row[9] = 3.0, 2.4, 1.0
    subject = sampler((7, 7, 7), temperature=0.0, frequency_penalty=0.5, presence_penalty=0.4)
    # 7: 3.0, then 2.1 < 2.4; 8: 2.4, then 1.5; 7 again at 2.1, then 1.6 …
    assert [subject.sample(row) for _ in range(4)] == [7, 8, 7, 7]


def test_the_repetition_penalty_knows_a_long_answer() -> None:
    """Longer than what room was first made for; every step agrees with transformers."""
    subject = sampler((3, 5), temperature=0.0, repetition_penalty=1.3)
    ids = [3, 5]
    for step in range(150):
        row = logits(step, spread=1.0)
        expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([ids]), row.clone()).argmax()
        ids.append(sample_rows(row, [subject])[0].token)
        assert ids[-1] == expected


def test_a_bias_is_added_before_penalties() -> None:
    row = torch.zeros(VOCABULARY)
    row[5] = 1.0
    assert sampler(temperature=0, logit_bias=((8, 1.5), (5, -100.0), (10**9, 9.0))).sample(row) == 8
    # (1 + 3) / 2 is more than 1.9; 1 / 2 + 3 would be more than 3.4.
    for rival, winner in [(1.9, 5), (2.1, 6)]:
        row[6] = rival
        biased = sampler((5,), temperature=0, repetition_penalty=2.0, logit_bias=((5, 3.0),))
        assert biased.sample(row) == winner


def test_nothing_ends_the_answer_before_min_tokens() -> None:
    row = torch.zeros(VOCABULARY)
    row[2], row[9], row[4] = 9.0, 8.0, 7.0
    subject = sampler(temperature=0, min_tokens=2, stop_token_ids=frozenset({9, 5000}), eos=frozenset({2}))
    assert [subject.sample(row) for _ in range(3)] == [4, 4, 2]


def test_rows_that_are_not_numbers_are_named_and_nobody_moves_on() -> None:
    rows = logits(1, 4)
    rows[1, 5], rows[3] = torch.nan, -torch.inf
    subjects = [
        sampler(seed=1, presence_penalty=9.0),
        sampler(temperature=0),
        sampler(seed=2),
        sampler(seed=3),
    ]
    with pytest.raises(BadLogits) as caught:
        sample_rows(rows, subjects)
    assert caught.value.rows == (1, 3)
    good = [subjects[0], subjects[2]]
    fresh = [sampler(seed=1, presence_penalty=9.0), sampler(seed=2)]
    assert sample_rows(rows[[0, 2]], good) == sample_rows(rows[[0, 2]], fresh)


# --- Log probabilities ----------------------------------------------------------------------------


def test_logprobs_are_of_the_models_own_logits() -> None:
    rows = logits(3, 3)
    expected = torch.log_softmax(rows, -1)
    found = sample_rows(
        rows,
        [
            sampler(temperature=0.3, top_k=3, logprobs=4, seed=1, repetition_penalty=2.0),
            sampler(logprobs=0, temperature=0),
            sampler(temperature=0),
        ],
    )
    assert found[2].logprobs is None
    assert found[0].logprobs is not None and found[1].logprobs is not None
    assert found[1].logprobs.top == ()
    for row in (0, 1):
        assert found[row].logprobs.logprob == pytest.approx(float(expected[row, found[row].token]), abs=1e-5)
    best = expected[0].topk(4)
    assert [token for token, _ in found[0].logprobs.top] == best.indices.tolist()
    assert [value for _, value in found[0].logprobs.top] == pytest.approx(best.values.tolist(), abs=1e-5)


# --- Speculation ----------------------------------------------------------------------------------


def test_greedy_drafts_are_kept_while_they_are_the_argmax() -> None:
    rows = logits(1, 4)
    best = rows.argmax(-1).tolist()

    def verified(drafts: list[int]) -> list[int]:
        return [one.token for one in verify(rows[: len(drafts) + 1], drafts, sampler(temperature=0))]

    assert verified([]) == best[:1]
    assert verified(best[:3]) == best
    assert verified([best[0], 0, best[2]]) == best[:2]
    assert verified([0, best[1], best[2]]) == best[:1]


STATEFUL: dict[str, Any] = {
    "seed": 11, "temperature": 0.9, "top_p": 0.95, "repetition_penalty": 1.3, "frequency_penalty": 0.7,
    "presence_penalty": 0.3, "min_tokens": 12, "logprobs": 1,
}  # fmt: skip


@pytest.mark.parametrize("parameters", [STATEFUL, {**STATEFUL, "temperature": 0}, {"seed": 3}])
def test_an_answer_is_the_same_with_good_bad_and_no_drafts(parameters: dict[str, Any]) -> None:
    """A model whose logits depend on the position; drafts are right, wrong and half right in turn."""
    table, length = logits(8, 40, spread=1.5), 24
    eos = frozenset(table[:, :400].argmax(-1).tolist())

    def rows(start: int, count: int) -> torch.Tensor:
        return table[start : start + count]

    plain = sampler((4, 9), eos=eos, **parameters)
    expected = [sample_rows(rows(at, 1), [plain])[0] for at in range(length)]
    subject = sampler((4, 9), eos=eos, **parameters)
    answer: list[Any] = []
    for drafted in (0, 3, 5, 2, 4, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3):
        drafts = [one.token for one in expected[len(answer) : len(answer) + drafted]]
        if len(answer) % 2 and drafts:
            drafts[len(drafts) // 2] = 999 - drafts[len(drafts) // 2]
        answer += verify(rows(len(answer), len(drafts) + 1), drafts, subject)
        if len(answer) >= length:
            break
    assert answer[:length] == expected


def test_tokens_after_a_refused_draft_are_distributed_as_ever() -> None:
    """Two positions over a tiny vocabulary, a draft for the first: pairs as often as without drafts."""
    table = logits(9, 2, spread=1.0, vocabulary=5)
    joint = (torch.softmax(table[0] / 0.8, -1)[:, None] * torch.softmax(table[1] / 0.8, -1)).flatten()
    count = 2000
    subjects = [sampler(seed=seed, temperature=0.8) for seed in range(count)]
    first = verify_rows(table.repeat(count, 1), subjects, [[2]] * count)
    late = [at for at, found in enumerate(first) if len(found) == 1]
    second = dict(
        zip(late, sample_rows(table[1:].expand(len(late), -1), [subjects[at] for at in late]), strict=True)
    )
    pairs = Counter(
        found[0].token * 5 + (found[1] if len(found) > 1 else second[at]).token
        for at, found in enumerate(first)
    )
    assert 0 < len(late) < count
    assert {found[0].token for found in first if len(found) > 1} == {2}
    assert_follows(pairs, joint)


def test_drafts_of_several_requests_are_verified_at_once() -> None:
    rows = logits(4, 6)
    best = rows.argmax(-1).tolist()
    greedy, other = sampler(temperature=0), sampler(temperature=0, logprobs=0)
    found = verify_rows(rows, [greedy, other, sampler(temperature=0)], [best[:2], [best[3] + 1], []])
    assert [[one.token for one in row] for row in found] == [best[:3], [best[3]], [best[5]]]
