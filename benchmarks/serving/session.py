"""One session: everyone is started once, then they take turns load by load, and only one of them runs at a time.

The machine's speed drifts over minutes, more so a virtual one's. So each load is put on all contestants one right after
the other, in every round, and compared within the round.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from benchmarks.serving.memory import read_bandwidth
from benchmarks.serving.scenarios import Figures, Scenario
from benchmarks.serving.servers import DidNotStart


class Contestant(Protocol):
    name: str
    software: str
    precision: str
    weight_bytes: int

    def start(self, *, compile_limit_s: float) -> Figures: ...
    def can(self, scenario: Scenario) -> bool: ...
    def run(self, scenario: Scenario, round_: int) -> Figures: ...
    def pause(self) -> None: ...
    def go_on(self) -> None: ...
    def stop(self) -> None: ...


Session = dict[str, Any]


def hold(
    contestants: Sequence[Contestant],
    scenarios: Sequence[Scenario],
    *,
    rounds: int,
    compile_limit_s: float,
    save: Path,
) -> Session:
    """Run everything and return what is also in `save`, which is written anew after every load."""
    session: Session = {
        "machine": machine(),
        "bandwidth_gb_s": [],
        "servers": {},
        "left_out": {},
        "results": [],
    }
    started: list[Contestant] = []
    try:
        for contestant in contestants:
            _tell(f"starting {contestant.name}")
            about: dict[str, Any] = {
                "software": contestant.software,
                "precision": contestant.precision,
                "weight_bytes": contestant.weight_bytes,
            }
            try:
                about["start"] = contestant.start(compile_limit_s=compile_limit_s)
            except DidNotStart as problem:  # The others are still worth measuring.
                _tell(str(problem))
                session["left_out"][contestant.name] = str(problem)
                continue
            contestant.pause()
            started.append(contestant)
            session["servers"][contestant.name] = about
        for round_ in range(rounds):
            session["bandwidth_gb_s"].append(read_bandwidth())
            for scenario in scenarios:
                for contestant in started if round_ % 2 == 0 else reversed(started):
                    if contestant.can(scenario):
                        session["results"].append(_turn(contestant, scenario, round_))
                        _save(session, save)
        session["bandwidth_gb_s"].append(read_bandwidth())
        _save(session, save)
    finally:
        for contestant in started:
            contestant.stop()
    return session


def _turn(contestant: Contestant, scenario: Scenario, round_: int) -> dict[str, Any]:
    contestant.go_on()
    figures = contestant.run(scenario, round_)
    contestant.pause()
    _tell(
        f"round {round_}  {scenario.name:14} {contestant.name:19}"
        f"{figures['tokens_per_s']:9.1f} tokens/s  {figures['errors']} errors"
    )
    return {
        "scenario": scenario.name,
        "server": contestant.name,
        "round": round_,
        "load_average": os.getloadavg()[0],
        "figures": figures,
    }


def _save(session: Session, path: Path) -> None:
    path.write_text(json.dumps(_without_nan(session), indent=1, allow_nan=False), encoding="utf-8")


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN: what could not be measured becomes null."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """What and when: enough to know whether two sessions may be compared."""
    about = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in about if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_before": os.getloadavg()[0],
    }
