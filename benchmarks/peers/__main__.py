"""Install peers: `python -m benchmarks.peers install vllm llama transformers`."""

from __future__ import annotations

import argparse

from benchmarks.peers.environment import INSTALLS, python_of


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    arguments.add_argument("action", choices=("install",))
    arguments.add_argument("peers", nargs="+", choices=sorted(INSTALLS))
    for peer in arguments.parse_args().peers:
        print(python_of(peer))


if __name__ == "__main__":
    main()
