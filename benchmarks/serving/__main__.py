"""Measure inference servers side by side.

    python -m benchmarks.serving [--ours bf16,int8] [--against vllm,llama-q8_0,…] [--scenarios …] [--rounds 2]

Ours alone takes minutes, everyone together about an hour. The figures go to var/bench/serving.json after every load; the
table is printed at the end, and `python -m benchmarks.serving.report --write` puts it into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.serving import report
from benchmarks.serving.scenarios import SCENARIOS
from benchmarks.serving.servers import ours
from benchmarks.serving.session import Contestant, hold


def _vllm() -> Contestant:
    from benchmarks.peers import vllm

    return vllm.contestant()


def _llama(kind: str) -> Contestant:
    from benchmarks.peers import llama

    return llama.contestant(kind)


def _transformers_serve() -> Contestant:
    from benchmarks.peers import transformers

    return transformers.serve()


def _generate(cache: str) -> Contestant:
    from benchmarks.peers import transformers

    return transformers.Generate(cache)


PEERS: dict[str, Callable[[], Contestant]] = {
    "vllm": _vllm,
    "llama-q8_0": lambda: _llama("q8_0"),
    "llama-bf16": lambda: _llama("bf16"),
    "generate": lambda: _generate("dynamic"),
    "generate-static": lambda: _generate("static"),
    "transformers-serve": _transformers_serve,
}


def main() -> None:
    options = _options()
    # Ended by a signal, we still end the servers: some of them are held still and would stay so for good.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    contestants: list[Contestant] = [ours(precision) for precision in options.ours]
    contestants += [PEERS[name]() for name in options.against]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    session = hold(
        contestants,
        [SCENARIOS[name] for name in options.scenarios],
        rounds=options.rounds,
        compile_limit_s=options.compile_limit,
        save=options.json,
    )
    print("\n".join(report.markdown(session)))


def _options() -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="scenarios:\n" + "\n".join(f"  {each.name:15}{each.what}" for each in SCENARIOS.values()),
    )
    parser.add_argument(
        "--ours",
        type=_names({"bf16", "int8", "bf16-drafts", "int8-drafts"}),
        default=["bf16"],
        help="precisions of our server; -drafts: with speculation",
    )
    parser.add_argument("--against", type=_names(PEERS), default=[], help=", ".join(PEERS))
    parser.add_argument(
        "--scenarios", type=_names(SCENARIOS), default=list(SCENARIOS), help="default: all of them"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--compile-limit", type=float, default=900, help="seconds to wait for compiled graphs"
    )
    parser.add_argument("--json", type=Path, default=report.LATEST)
    return parser.parse_args()


def _names(known: object) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := [name for name in names if name not in known]:  # type: ignore[operator]
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
        return names

    return parse


if __name__ == "__main__":
    main()
