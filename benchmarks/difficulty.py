"""Whether the difficulty score tells where a cheaper version answers otherwise than the dear one.

`python -m benchmarks.difficulty FOLDER`: a table for docs/benchmarks.md. FOLDER holds mt_bench_questions.jsonl (MT-Bench, 80
English prompts in eight categories), dureader_demo.json (100 Chinese questions) and tatqa_dataset_dev.json (questions on
tables; the first of each, without its table). The bf16 version of the packaged model answers each greedily, and int8 reads
along: up to its first other choice it is what int8 alone would have said. So an answer "differs" exactly if int8 would
have written something else within the first --tokens tokens; which of the two is the better one, nobody judges.

Beside it stands a label that no model made: MT-Bench's categories maths, coding and reasoning against the others.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Any

from inference.routing.ask import ask_of

HARD = ("math", "coding", "reasoning")
BANDS = (0.0, 0.15, 0.3, 0.45, 1.01)
LABELLED = 80  # All of MT-Bench: a label needs no answer.
RESAMPLES = 1000
Z = 1.96  # Two-sided, 95 %.


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked. is_hard: by its category; None where it has none."""

    source: str
    text: str
    is_hard: bool | None = None

    @property
    def score(self) -> float:
        return ask_of("api", {"messages": [{"role": "user", "content": self.text}]}).difficulty


@dataclass(frozen=True, slots=True)
class Answered:
    """How both versions answered. agreement: the share of the reference's tokens that the other would have chosen."""

    prompt: Prompt
    score: float
    agreement: float

    @property
    def differs(self) -> bool:
        return self.agreement < 1


def prompts_in(folder: Path, most: int) -> list[Prompt]:
    """Of each file at most so many, evenly spread over it."""
    bench = [json.loads(line) for line in _lines(folder / "mt_bench_questions.jsonl")]
    chinese = [json.loads(line) for line in _lines(folder / "dureader_demo.json")]
    tables = json.loads((folder / "tatqa_dataset_dev.json").read_text(encoding="utf-8"))
    kinds = [
        [Prompt("MT-Bench", each["turns"][0], each["category"] in HARD) for each in bench],
        [Prompt("DuReader", each["question"]) for each in chinese],
        [Prompt("TAT-QA", each["questions"][0]["question"]) for each in tables],
    ]
    return [prompt for kind in kinds for prompt in kind[:: max(-(-len(kind) // most), 1)]]


def area(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Under the curve: how often a positive one scores above a negative one, a tie being half; 0.5 is chance."""
    wins = sum((one > other) + (one == other) / 2 for one in positive for other in negative)
    return wins / (len(positive) * len(negative))


def area_with_interval(positive: Sequence[float], negative: Sequence[float]) -> str:
    """With a 95 % interval from drawing both anew, with a fixed seed."""
    if not positive or not negative:
        return "–"
    draw = random.Random(7)
    drawn = sorted(
        area(draw.choices(positive, k=len(positive)), draw.choices(negative, k=len(negative)))
        for _ in range(RESAMPLES)
    )
    low, high = drawn[round(RESAMPLES * 0.025)], drawn[round(RESAMPLES * 0.975) - 1]
    return f"{area(positive, negative):.2f} ({low:.2f} to {high:.2f})"


def share_with_interval(hits: int, trials: int) -> str:
    """Wilson's 95 % interval."""
    if not trials:
        return "–"
    middle = (hits + Z * Z / 2) / (trials + Z * Z)
    half = Z * sqrt(hits * (trials - hits) / trials + Z * Z / 4) / (trials + Z * Z)
    return f"{hits / trials:.0%} ({max(middle - half, 0):.0%} to {min(middle + half, 1):.0%})"


def report(answered: Sequence[Answered], labelled: Sequence[Prompt], tokens: int) -> Iterator[str]:
    """Lines of Markdown. labelled: those whose category says whether they are hard."""
    yield f"| difficulty | prompts | differ within {tokens} tokens | tokens alike |"
    yield "|---|---|---|---|"
    for low, high in pairwise(BANDS):
        band = [each for each in answered if low <= each.score < high]
        differ = share_with_interval(sum(each.differs for each in band), len(band))
        alike = f"{sum(each.agreement for each in band) / len(band):.1%}" if band else "–"
        yield f"| {low:g} to {min(high, 1):g} | {len(band)} | {differ} | {alike} |"
    yield ""
    yield "| what the score should tell apart | area under the curve (0.5: chance) |"
    yield "|---|---|"
    for source in ("", *dict.fromkeys(each.prompt.source for each in answered)):
        some = [each for each in answered if source in ("", each.prompt.source)]
        differ, same = ([each.score for each in some if each.differs is wanted] for wanted in (True, False))
        found = area_with_interval(differ, same)
        yield f"| answers that differ, {source or 'all'} ({len(some)}) | {found} |"
    hard, rest = ([each.score for each in labelled if each.is_hard is wanted] for wanted in (True, False))
    found = area_with_interval(hard, rest)
    yield f"| maths, coding and reasoning from the rest of MT-Bench ({len(labelled)}) | {found} |"


def _answer(prompts: Sequence[Prompt], tokens: int, models_dir: Path) -> Iterator[Answered]:
    import torch

    torch.set_num_threads(1)  # On a busy machine more only wait for each other.
    from inference.engine.kernels.build import load_kernels
    from inference.engine.layers import replace_layers
    from inference.models.folder import prepare
    from inference.models.load import load
    from inference.models.source import parse_source

    folder = prepare(parse_source("smollm2"), models_dir)
    packed = load_kernels(models_dir / "compiled").loaded

    def served(precision: Any) -> Any:
        loaded = load(folder, dtype=torch.bfloat16, device=torch.device("cpu"))
        replace_layers(loaded.model, precision=precision, packed=packed)
        return loaded

    reference, candidate = served("bfloat16"), served("int8")
    tokenizer = reference.tokenizer
    for prompt in prompts:
        said = [{"role": "user", "content": prompt.text}]
        text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        asked = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            whole = reference.model.generate(**asked, max_new_tokens=tokens, do_sample=False)
            start = asked["input_ids"].shape[1]
            chosen = candidate.model(whole).logits[0, start - 1 : -1].argmax(-1)
        alike = (chosen == whole[0, start:]).float().mean().item()
        yield Answered(prompt, prompt.score, alike)


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=100, help="prompts of each file")
    parser.add_argument("--tokens", type=int, default=24, help="of each answer")
    parser.add_argument("--models-dir", type=Path, default=Path("var/models"))
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")  # Whose clock a request is given.
    prompts = prompts_in(options.folder, options.most)
    answered = []
    for count, each in enumerate(_answer(prompts, options.tokens, options.models_dir), 1):
        answered.append(each)
        if count % 20 == 0:
            print(f"{count} of {len(prompts)}", flush=True)
    labelled = [each for each in prompts_in(options.folder, LABELLED) if each.is_hard is not None]
    print(*report(answered, labelled, options.tokens), sep="\n")


if __name__ == "__main__":
    main()
