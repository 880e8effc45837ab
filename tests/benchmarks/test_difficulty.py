"""The figures that say whether the difficulty score is worth anything are computed as they are named."""

import json
from pathlib import Path

import pytest

from benchmarks.difficulty import (
    Answered,
    Prompt,
    area,
    area_with_interval,
    prompts_in,
    report,
    share_with_interval,
)


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    assert area([0.9, 0.8], [0.1, 0.2]) == 1
    assert area([0.1], [0.9]) == 0
    assert area([0.5, 0.9], [0.5]) == 0.75
    assert area_with_interval([0.9] * 5, [0.1] * 5) == "1.00 (1.00 to 1.00)"
    assert area_with_interval([], [0.1]) == "–"


@pytest.mark.parametrize(
    ("hits", "trials", "said"),
    [(0, 10, "0% (0% to 28%)"), (5, 10, "50% (24% to 76%)"), (10, 10, "100% (72% to 100%)"), (0, 0, "–")],
)
def test_a_share_has_wilsons_interval(hits: int, trials: int, said: str) -> None:
    assert share_with_interval(hits, trials) == said


def test_an_answer_differs_when_a_single_token_does() -> None:
    assert not Answered(Prompt("a", "b"), 0.1, 1.0).differs
    assert Answered(Prompt("a", "b"), 0.1, 15 / 16).differs


def test_prompts_are_taken_evenly_from_each_file(tmp_path: Path) -> None:
    bench = [
        {"category": name, "turns": [name, "more"]} for name in ("math", "writing", "coding", "roleplay")
    ]
    (tmp_path / "mt_bench_questions.jsonl").write_text("\n".join(map(json.dumps, bench)))
    (tmp_path / "dureader_demo.json").write_text(json.dumps({"question": "为什么"}))
    (tmp_path / "tatqa_dataset_dev.json").write_text(json.dumps([{"questions": [{"question": "Which?"}]}]))
    assert prompts_in(tmp_path, 2) == [
        Prompt("MT-Bench", "math", True),
        Prompt("MT-Bench", "coding", True),
        Prompt("DuReader", "为什么"),
        Prompt("TAT-QA", "Which?"),
    ]


def test_the_report_has_every_band_and_source() -> None:
    answered = [Answered(Prompt("x", "a"), 0.1, 1.0), Answered(Prompt("y", "b"), 0.9, 0.5)]
    labelled = [Prompt("x", "Prove step by step why 3 + 4 = 7.", True), Prompt("x", "Hi.", False)]
    lines = list(report(answered, labelled, 16))
    assert "| 0 to 0.15 | 1 | 0% (0% to 79%) | 100.0% |" in lines
    assert "| 0.45 to 1 | 1 | 100% (21% to 100%) | 50.0% |" in lines
    assert "| answers that differ, all (2) | 1.00 (1.00 to 1.00) |" in lines
    assert "| maths, coding and reasoning from the rest of MT-Bench (2) | 1.00 (1.00 to 1.00) |" in lines
