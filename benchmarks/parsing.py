"""How fast text PDFs are read, each in its limited process as the worker does it.

    python -m benchmarks.parsing FOLDER

Reads every PDF of the folder, one after the other and then as many at once as there are cores. Goal, without embedding: at
least 20 pages a second on 2 cores.
"""

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from knowledge.parsing import parse_file
from knowledge.parsing.chunks import chunks_of

GOAL = 20.0  # Pages a second.


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    paths = sorted(options.folder.glob("*.pdf"))
    if not paths:
        raise SystemExit(f"{options.folder} has no PDF")
    cores = os.cpu_count() or 1
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    for at_once in sorted({1, cores}):
        rates = sorted(_rate(paths * options.rounds, at_once) for _ in range(3))
        print(f"{at_once} at once: {rates[1]:.1f} pages/s, {rates[1] / GOAL:.2f} of the goal of {GOAL:.0f}")


def _rate(paths: Sequence[Path], at_once: int) -> float:
    """Pages a second, cutting into passages included."""
    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        pages = sum(pool.map(_pages, paths))
    return pages / (time.perf_counter() - started)


def _pages(path: Path) -> int:
    parsed = parse_file(path, name=path.name)
    chunks_of(parsed)
    return len(parsed.pages)


if __name__ == "__main__":
    main()
