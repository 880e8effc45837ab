"""Sampling follows its definitions: nucleus, top-k, penalties."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from inference.engine.request import SamplingParameters
from inference.engine.sampler import Sampler

VOCABULARY = 1000


def logits(seed: int, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * spread


def sampler(prompt: tuple[int, ...] = (1,), **parameters: Any) -> Sampler:
    return Sampler(SamplingParameters(max_tokens=10, **parameters), prompt, VOCABULARY)


def allowed_by_definition(row: torch.Tensor, temperature: float, top_k: int, top_p: float) -> set[int]:
    """Rank every token; keep the first top_k, then the fewest that reach top_p of what is left."""
    ranked = sorted(torch.softmax(row / temperature, -1).tolist(), reverse=True)[: top_k or None]
    order = row.argsort(descending=True).tolist()[: top_k or None]
    total, kept, reached = sum(ranked), set(), 0.0
    for token, probability in zip(order, ranked, strict=True):
        if kept and reached >= top_p * total:
            break
        kept.add(token)
        reached += probability
    return kept


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.01, 1.0, 4.0]),
    top_k=st.sampled_from([0, 1, 5, 400]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
)
def test_only_likely_enough_tokens_are_drawn(seed: int, spread: float, top_k: int, top_p: float) -> None:
    row = logits(seed, spread)
    subject = sampler(temperature=0.8, top_k=top_k, top_p=top_p, seed=seed)
    allowed = allowed_by_definition(row, 0.8, top_k, top_p)
    _, tokens = subject._likeliest(torch.softmax(row / 0.8, -1))
    # Rounding may decide about the one token at the edge.
    assert len(set(tokens.tolist()) ^ allowed) <= 1
    assert {subject.sample(row) for _ in range(30)} <= set(tokens.tolist())


def test_draws_follow_the_probabilities() -> None:
    row = torch.full((VOCABULARY,), -1e9)
    row[10], row[20] = torch.tensor(0.8).log(), torch.tensor(0.2).log()
    subject = sampler(temperature=1.0, seed=5)
    counts = Counter(subject.sample(row) for _ in range(2000))
    assert set(counts) == {10, 20}
    assert 0.76 < counts[10] / 2000 < 0.84


def test_a_lower_temperature_is_surer() -> None:
    row = logits(3, 1.0)

    def distinct(temperature: float) -> int:
        subject = sampler(temperature=temperature, seed=1)
        return len({subject.sample(row) for _ in range(100)})

    assert distinct(0.1) < distinct(0.5) < distinct(2.0)


@pytest.mark.parametrize("penalty", [0.5, 1.3])
def test_the_repetition_penalty_is_the_one_transformers_has(penalty: float) -> None:
    row, prompt = logits(4), (3, 5, 8)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([prompt]), row[None].clone())[0]
    subject = sampler(prompt, temperature=0.0, repetition_penalty=penalty)
    assert torch.equal(subject._penalise(row), expected)


def test_frequency_and_presence_penalties_count_the_answer_only() -> None:
    row = torch.zeros(VOCABULARY)
    row[7], row[8], row[9] = 3.0, 2.4, 1.0
    subject = sampler((7, 7, 7), temperature=0.0, frequency_penalty=0.5, presence_penalty=0.4)
    # 7: 3.0, then 2.1 < 2.4; 8: 2.4, then 1.5; 7 again at 2.1, then 1.6 …
    assert [subject.sample(row) for _ in range(4)] == [7, 8, 7, 7]


def test_logits_are_left_as_they_were() -> None:
    row = logits(1)
    before = row.clone()
    sampler(temperature=0.7, top_p=0.9, repetition_penalty=1.2, seed=1).sample(row)
    assert torch.equal(row, before)
