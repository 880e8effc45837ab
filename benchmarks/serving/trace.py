"""Production arrivals: a few minutes of the Azure code trace, made small enough for a small model on a small machine."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

EXCERPT = Path(__file__).resolve().parents[1] / "data" / "azure_code_2023_excerpt.csv"

# The trace's prompts have some 2,000 tokens and its requests come from a fleet of GPUs' users: a prompt is cut to an
# eighth, time to a third, and no answer is longer than 100 tokens.
PROMPT_SCALE = 1 / 8
TIME_SCALE = 1 / 3
MOST_OUTPUT_TOKENS = 100


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request: seconds since the first one, and its lengths in tokens."""

    after_s: float
    prompt_tokens: int
    output_tokens: int


def scaled() -> list[Arrival]:
    """The excerpt's requests in order, scaled."""
    with EXCERPT.open(encoding="utf-8", newline="") as rows:
        return [
            Arrival(
                float(row["after_s"]) * TIME_SCALE,
                max(1, round(int(row["context_tokens"]) * PROMPT_SCALE)),
                min(int(row["generated_tokens"]), MOST_OUTPUT_TOKENS),
            )
            for row in csv.DictReader(rows)
        ]
