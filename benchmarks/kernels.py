"""The engine's CPU kernels against what this machine can do: reading memory, and multiplying bfloat16.

    python -m benchmarks.kernels [--threads 1] [--quick]

Each row gives a kernel's time, the memory that it reads a second as a share of the measured limit, and its operations a
second as a share of the other. Goal: one of the two shares near 1. Weights and caches are larger than the CPU's caches
together. With one thread the clock is the thread's own processor time, which means something on a busy machine too.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from inference.engine.kernels import build, ops, packing

custos = torch.ops.custos
WORKING_SET = 96 << 20  # bytes; third-level caches end below
ROWS = (1, 4, 8, 12, 32, 128, 512)
BLOCK = 16


@dataclass
class Machine:
    clock: Callable[[], float]
    bytes_per_second: float = 0.0
    operations_per_second: float = 0.0

    def seconds(self, work: Callable[[], object], repeats: int = 5) -> float:
        """The best of several: what the machine can do when it is left alone."""
        work()
        best = float("inf")
        for _ in range(repeats):
            start = self.clock()
            work()
            best = min(best, self.clock() - start)
        return best

    def measure_limits(self) -> None:
        (stretch,) = packing.in_huge_pages([torch.ones(WORKING_SET // 4)])
        self.bytes_per_second = stretch.nbytes / self.seconds(lambda: torch.dot(stretch, stretch))
        square = torch.randn(1024, 1024).bfloat16()
        self.operations_per_second = 2 * 1024**3 / self.seconds(lambda: square @ square)

    def row(self, name: str, seconds: float, *, read: float, operations: float) -> None:
        rate, speed = read / seconds, operations / seconds
        print(
            f"{name:<44}{seconds * 1e6:>11.1f}{rate / 1e9:>9.1f}{rate / self.bytes_per_second:>6.2f}"
            f"{speed / 1e9:>9.1f}{speed / self.operations_per_second:>6.2f}",
            flush=True,
        )


def linear(machine: Machine, outputs: int, inputs: int, *, int8: bool) -> None:
    exact = torch.randn(outputs, inputs) / inputs**0.5
    packed, scale = packing.quantise(exact) if int8 else (packing.pack(exact.bfloat16()), None)
    weights = packing.in_huge_pages([packed] * max(1, WORKING_SET // packed.nbytes))
    for rows in ROWS:
        x = torch.randn(rows, inputs).bfloat16()

        def work(x: torch.Tensor = x) -> None:
            for weight in weights:
                custos.linear(x, weight, scale, outputs)

        seconds = machine.seconds(work, 3) / len(weights)
        name = f"linear {'int8' if int8 else 'bf16'} {outputs}x{inputs}, {rows} rows"
        machine.row(name, seconds, read=packed.nbytes, operations=2 * rows * outputs * inputs)


def attention(
    machine: Machine, tokens: int, context: int, sequences: int, heads: tuple[int, int], size: int
) -> None:
    query_heads, kv_heads = heads
    width = -(-context // BLOCK)
    shape = (sequences * width, kv_heads, BLOCK, size)
    layers = max(1, min(32, WORKING_SET // (4 * torch.Size(shape).numel())))
    cache = packing.in_huge_pages([torch.randn(shape).bfloat16()] * (2 * layers))
    handle = ops.new_handle()
    custos.bind_cache(handle, cache[:layers], cache[layers:])
    custos.begin_step(
        handle,
        torch.randperm(sequences * width).view(sequences, width).int(),
        torch.arange(sequences + 1).int() * tokens,
        torch.full((sequences,), context).int(),
    )
    total = sequences * tokens
    query = torch.randn(1, total, query_heads, size).bfloat16().transpose(1, 2)
    key = torch.randn(1, total, kv_heads, size).bfloat16().transpose(1, 2)
    place = torch.tensor([handle])

    def work() -> None:
        for layer in range(layers):
            custos.attention(query, key, key, place, layer, size**-0.5, 0, 0.0, None)

    seconds = machine.seconds(work, 3) / layers
    custos.release_cache(handle)
    machine.row(
        f"attention {sequences}x{tokens} of {context}, heads {query_heads}/{kv_heads}x{size}",
        seconds,
        read=sequences * context * kv_heads * size * 4,
        operations=4 * sequences * tokens * (context - tokens / 2) * query_heads * size,
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--quick", action="store_true", help="the small model's shapes only")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    status = build.load_kernels(Path("var/kernels"))
    if not status.loaded:
        raise SystemExit(status.reason)
    machine = Machine(time.thread_time if options.threads == 1 else time.perf_counter)
    machine.measure_limits()
    print(
        f"{status.isa}, {options.threads} threads: reads {machine.bytes_per_second / 1e9:.1f} GB/s, "
        f"multiplies {machine.operations_per_second / 1e9:.0f} GFLOP/s in bfloat16\n\n"
        f"{'':<44}{'µs':>11}{'GB/s':>9}{'of':>6}{'GFLOP/s':>9}{'of':>6}"
    )
    for outputs, inputs in ((1536, 576),) if options.quick else ((1536, 576), (4096, 4096)):
        linear(machine, outputs, inputs, int8=False)
        linear(machine, outputs, inputs, int8=True)
    attention(machine, 1, 1000, 1, (9, 3), 64)
    attention(machine, 1, 8000, 1, (9, 3), 64)
    attention(machine, 1, 1000, 32, (9, 3), 64)
    attention(machine, 512, 512, 1, (9, 3), 64)
    attention(machine, 512, 8000, 1, (9, 3), 64)
    if not options.quick:
        attention(machine, 1, 1000, 8, (28, 4), 128)
        attention(machine, 1, 1000, 8, (16, 16), 128)
        attention(machine, 512, 4000, 1, (28, 4), 128)


if __name__ == "__main__":
    main()
