"""What a precision costs: the same text through two models, token by token.

Both run as they are served, through the engine's own step, and both see the true text before each token
(teacher forcing), so one early difference does not spoil the comparison of what follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel

from inference.engine.attention import probe_layers
from inference.engine.layers import weight_bytes
from inference.engine.memory import BLOCK_SIZE
from inference.engine.runner import Runner

# English and Chinese: letters, law, instructions, science, code and plain prose, written for this purpose.
EVALUATION_TEXT = Path(__file__).parents[1] / "models" / "evaluation.txt"

WINDOW = 256  # Tokens; each window is read without those before it.
_STEP_TOKENS = 128  # In a forward; bounds the memory of logits.


@dataclass(frozen=True, slots=True)
class Quality:
    """How `candidate` does on a text beside `reference`; sizes in bytes.

    `agreement` is the share of tokens where both find the same one likeliest. `divergence` is the mean
    Kullback-Leibler divergence, in nats, of the candidate's probabilities from the reference's.
    """

    num_tokens: int
    reference_perplexity: float
    perplexity: float
    agreement: float
    divergence: float
    reference_bytes: int
    weight_bytes: int

    @property
    def size_ratio(self) -> float:
        return self.weight_bytes / self.reference_bytes


def windows_of(tokenizer: Any, text: str, *, length: int = WINDOW) -> list[list[int]]:
    """The text's tokens, in windows of at most `length`; every token but the first is predicted once.

    A window begins with the token that the model expects at the beginning of a text, if there is one, else
    with the last token of the window before.
    """
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    step = length - 1
    if tokenizer.bos_token_id in tokenizer("a")["input_ids"][:1]:
        return [[tokenizer.bos_token_id, *ids[start : start + step]] for start in range(0, len(ids), step)]
    return [ids[start : start + length] for start in range(0, len(ids) - 1, step)]


def compare(
    reference: PreTrainedModel,
    candidate: PreTrainedModel,
    windows: Sequence[Sequence[int]],
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Quality:
    """Read all windows with both models, which attend by `attention.NAME`.

    `on_progress` hears (tokens done, tokens in all) after each step; what it raises ends the comparison.
    Raises ValueError if there is nothing to predict, UnsupportedAttention, and whatever a model raises.
    """
    total = sum(len(window) - 1 for window in windows if window)
    if not total:
        raise ValueError("The text is too short to compare models on: it needs two tokens at least.")
    num_blocks = -(-max(map(len, windows)) // BLOCK_SIZE)
    sums, done = torch.zeros(4, dtype=torch.float64), 0
    num_threads = torch.get_num_threads()  # Runners choose their own.
    try:
        with (
            closing(_runner(reference, num_blocks)) as first,
            closing(_runner(candidate, num_blocks)) as second,
        ):
            for window in windows:
                for start in range(0, len(window) - 1, _STEP_TOKENS):
                    truth = window[start + 1 : start + 1 + _STEP_TOKENS]
                    item = _Item(_Text(window, start, len(truth), num_blocks), len(truth))
                    sums += _sums(first.run([item]), second.run([item]), truth)
                    done += len(truth)
                    on_progress(done, total)
    finally:
        torch.set_num_threads(num_threads)
    return _quality(sums / total, total, reference, candidate)


def _quality(
    means: torch.Tensor, total: int, reference: PreTrainedModel, candidate: PreTrainedModel
) -> Quality:
    reference_surprise, surprise, agreement, divergence = means.tolist()
    return Quality(
        num_tokens=total,
        reference_perplexity=math.exp(reference_surprise),
        perplexity=math.exp(surprise),
        agreement=agreement,
        divergence=divergence,
        reference_bytes=weight_bytes(reference),
        weight_bytes=weight_bytes(candidate),
    )


def _sums(reference: torch.Tensor, candidate: torch.Tensor, truth: Sequence[int]) -> torch.Tensor:
    """Of logits (n, V) for the n tokens of `truth`: (4,) surprise of each model, agreements, divergence."""
    reference, candidate = reference.float(), candidate.float()
    expected, found = log_softmax(reference, -1), log_softmax(candidate, -1)
    tokens = torch.tensor(truth, device=reference.device)[:, None]
    sums = [
        -expected.gather(1, tokens).sum(),
        -found.gather(1, tokens).sum(),
        (reference.argmax(-1) == candidate.argmax(-1)).sum(),
        (expected.exp() * (expected - found)).sum(),
    ]
    return torch.tensor([value.item() for value in sums], dtype=torch.float64)


# --- A text as the runner knows sequences ---------------------------------------------------------------------


def _runner(model: PreTrainedModel, num_blocks: int) -> Runner:
    return Runner(model, probe_layers(model), num_blocks=num_blocks)


class _Text:
    """A stretch of a window: its first token is known, the others are drafts, so the rows of all are wanted."""

    def __init__(self, window: Sequence[int], start: int, count: int, num_blocks: int) -> None:
        self.token_ids = list(window[: start + 1])
        self.draft_ids = list(window[start + 1 : start + count])
        self.num_computed_tokens = start
        self.num_tokens = start + 1
        self.block_ids = list(range(num_blocks))


@dataclass(slots=True)
class _Item:
    sequence: _Text
    num_tokens: int
