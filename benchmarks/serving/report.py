"""The tables of a session: against the bar, and in full. Prints Markdown, or writes it into the documentation.

python -m benchmarks.serving.report [SESSION.json] [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.figures import median
from benchmarks.serving.scenarios import SCENARIOS
from benchmarks.serving.servers import REPOSITORY, VAR

BEGIN, END = "<!-- serving: begin (python -m benchmarks.serving.report --write) -->", "<!-- serving: end -->"
LATEST = VAR / "bench" / "serving.json"

Session = dict[str, Any]


class Results:
    """Look-ups in a session. Everything is NaN that was not measured."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._by_round: dict[tuple[str, str, int], dict[str, Any]] = {
            (entry["scenario"], entry["server"], entry["round"]): entry["figures"]
            for entry in session["results"]
        }
        self.rounds = sorted({entry["round"] for entry in session["results"]})

    def value(self, scenario: str, server: str, *figure: str) -> float:
        """The median over the rounds; `figure` is a path such as ("ttft_ms", "p50")."""
        return median(self._one(scenario, server, round_, figure) for round_ in self.rounds)

    def worst(self, scenario: str, server: str, *figure: str) -> float:
        known = [self._one(scenario, server, round_, figure) for round_ in self.rounds]
        return max((value for value in known if not math.isnan(value)), default=math.nan)

    def ratio(self, scenario: str, server: str, other: str) -> float:
        """Tokens/s of `server` over `other`'s, compared within each round; the median of those."""
        return median(
            self._one(scenario, server, round_, ("tokens_per_s",))
            / (self._one(scenario, other, round_, ("tokens_per_s",)) or math.nan)
            for round_ in self.rounds
        )

    def start(self, server: str, figure: str) -> float:
        return float(self.session["servers"].get(server, {}).get("start", {}).get(figure, math.nan))

    def memory_limit(self, server: str) -> float:
        """Tokens/s of one stream if reading the weights at the measured bandwidth were all there is to do."""
        if server not in self.session["servers"]:
            return math.nan
        return max(self.session["bandwidth_gb_s"]) * 1e9 / self.session["servers"][server]["weight_bytes"]

    def _one(self, scenario: str, server: str, round_: int, figure: tuple[str, ...]) -> float:
        found: Any = self._by_round.get((scenario, server, round_), {})
        for key in figure:
            found = found.get(key) if isinstance(found, dict) else None
        return math.nan if found is None else float(found)


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the bar: a measured figure and what it should be, at least or at most."""

    what: str
    measured: float
    bound: float
    at_least: bool
    unit: str = "×"

    @property
    def verdict(self) -> str:
        if math.isnan(self.measured):
            return "not measured"
        met = self.measured >= self.bound if self.at_least else self.measured <= self.bound
        return "met" if met else "**behind**"

    def row(self) -> str:
        sign = "≥" if self.at_least else "≤"
        measured = number(self.measured) + ("" if math.isnan(self.measured) else self.unit)
        return f"| {self.what} | {measured} | {sign} {self.bound:g}{self.unit} | {self.verdict} |"


def bar(results: Results) -> list[Goal]:
    """Every goal, measured or not."""
    of_limit = results.value("decode_1", "ours", "tokens_per_s") / results.memory_limit("ours")
    quoting = results.value("quoting", "ours-drafts", "tokens_per_s") / results.memory_limit("ours-drafts")
    return [
        Goal("vLLM, 1 stream, bf16", results.ratio("decode_1", "ours", "vllm"), 2.7, True),
        Goal("vLLM, 8 streams, bf16", results.ratio("decode_8", "ours", "vllm"), 2.2, True),
        Goal("vLLM, 32 streams, bf16", results.ratio("decode_32", "ours", "vllm"), 1.6, True),
        Goal("memory limit, 1 stream, bf16", of_limit, 0.8, True),
        Goal(
            "llama.cpp Q8_0, 1 stream, int8", results.ratio("decode_1", "ours-int8", "llama-q8_0"), 1.3, True
        ),
        Goal("memory limit, answers that quote, bf16", quoting, 1.0, True),
        Goal(
            "second turn's first token against uncached",
            results.value("multi_turn", "ours", "ttft_ratio"),
            0.2,
            False,
        ),
        Goal(
            "p99 between tokens under prefill against the median",
            results.value("interference", "ours", "itl_ratio"),
            3.0,
            False,
        ),
        Goal("failed requests at 64 streams", results.worst("decode_64", "ours", "errors"), 0, False, ""),
        Goal("process start to first token", results.start("ours", "first_token_s"), 25, False, " s"),
    ]


def number(value: float) -> str:
    """Three digits that matter, or a dash."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def markdown(session: Session) -> Iterator[str]:
    """The report, line by line."""
    results, machine = Results(session), session["machine"]
    yield (
        f"{machine['date']}; {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}; "
        f"{len(results.rounds)} rounds; memory is read at {max(session['bandwidth_gb_s']):g} GB/s, so one stream could "
        f"have at most {number(results.memory_limit('ours'))} tokens/s in bf16"
        f" and {number(results.memory_limit('ours-int8'))} in int8."
    )
    loads = [entry["load_average"] for entry in session["results"]]
    yield f"Load average before the session {machine['load_average_before']:.1f}, highest during it {max(loads):.1f}."
    yield from ("", "| ours against | measured | goal | |", "|---|---|---|---|")
    yield from (goal.row() for goal in bar(results))
    yield from _throughput(results)
    yield from _latency(results)
    yield from _special(results)
    yield from _starts(results)
    yield from (f"\nLeft out: {problem}" for problem in session["left_out"].values())


def _scenarios(results: Results) -> list[str]:
    measured = {entry["scenario"] for entry in results.session["results"]}
    return [name for name in SCENARIOS if name in measured]


def _throughput(results: Results) -> Iterator[str]:
    names = _scenarios(results)
    yield from ("", "Output tokens/s, all streams together (median of the rounds):", "")
    yield "| | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for server, about in results.session["servers"].items():
        cells = [number(results.value(name, server, "tokens_per_s")) for name in names]
        yield f"| {server} ({about['software']}, {about['precision']}) | " + " | ".join(cells) + " |"


def _latency(results: Results) -> Iterator[str]:
    yield from (
        "",
        "Milliseconds, p50 / p95 / p99: to the first token, between tokens, whole; requests that failed:",
        "",
    )
    yield from (
        "| load | server | first token | between tokens | whole | failed |",
        "|---|---|---|---|---|---|",
    )
    for name in _scenarios(results):
        for server in results.session["servers"]:
            if math.isnan(results.value(name, server, "ttft_ms", "p50")):
                continue
            cells = [
                " / ".join(number(results.value(name, server, kind, p)) for p in ("p50", "p95", "p99"))
                for kind in ("ttft_ms", "itl_ms", "e2e_ms")
            ]
            failed = f"{results.worst(name, server, 'errors'):.0f}"
            yield f"| {name} | {server} | " + " | ".join([*cells, failed]) + " |"


def _special(results: Results) -> Iterator[str]:
    columns = {
        "second turn's first token": ("multi_turn", "second_turn_ttft_ms"),
        "uncached": ("multi_turn", "uncached_ttft_ms"),
        "ratio": ("multi_turn", "ttft_ratio"),
        "between tokens: p99 under prefill": ("interference", "itl_p99_under_prefill_ms"),
        "median of all": ("interference", "itl_median_ms"),
        "p99 ÷ median": ("interference", "itl_ratio"),
        "p99 ÷ median without prefill": ("interference", "itl_ratio_alone"),
    }
    yield from ("", "Second turn and prefill, milliseconds:", "", "| | " + " | ".join(columns) + " |")
    yield "|---" * (len(columns) + 1) + "|"
    for server in results.session["servers"]:
        values = [results.value(scenario, server, figure) for scenario, figure in columns.values()]
        if not all(math.isnan(value) for value in values):
            yield f"| {server} | " + " | ".join(number(value) for value in values) + " |"


def _starts(results: Results) -> Iterator[str]:
    yield from ("", "Seconds from process start; memory of its processes after 8 answers:", "")
    yield from ("| | first token | first token of the compiled graph | MB |", "|---|---|---|---|")
    for server in results.session["servers"]:
        cells = [
            results.start(server, name) for name in ("first_token_s", "compiled_first_token_s", "resident_mb")
        ]
        if not all(math.isnan(value) for value in cells):
            yield f"| {server} | " + " | ".join(number(value) for value in cells) + " |"
    shares = [entry["figures"].get("client_cpu", 0) for entry in results.session["results"]]
    yield from ("", f"The load generator itself took at most {max(shares):.1%} of one core.")


def write(text: str, page: Path) -> None:
    """Put `text` between the two marks of `page`. Raises SystemExit when it has none."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page} has no lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.serving.report", description=__doc__.splitlines()[0]
    )
    arguments.add_argument("session", type=Path, nargs="?", default=LATEST)
    arguments.add_argument("--write", type=Path, nargs="?", const=REPOSITORY / "docs" / "benchmarks.md")
    options = arguments.parse_args()
    text = "\n".join(markdown(json.loads(options.session.read_text(encoding="utf-8"))))
    if options.write:
        write(text, options.write)
    else:
        print(text)


if __name__ == "__main__":
    main()
