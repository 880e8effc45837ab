"""torch.ops.custos, in Python and compiled, against plain mathematics in float64."""

import ctypes
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inference.engine.kernels import build, ops, packing
from inference.engine.kernels.build import Status
from tests.support.services import MODELS_DIR

custos = torch.ops.custos
BLOCK = 16
NUM_BLOCKS = 128


# Linear


def _weight(outputs: int, inputs: int) -> Tensor:
    return (torch.randn(outputs, inputs) / inputs**0.5).bfloat16()


@pytest.mark.parametrize(("outputs", "inputs"), [(45, 7), (64, 64), (33, 1001), (320, 576)])
def test_linear_is_exact_for_any_rows_and_odd_sizes(kernels: Status, outputs: int, inputs: int) -> None:
    weight = _weight(outputs, inputs)
    packed = packing.pack(weight)
    for rows in (*range(1, 14), 40):
        x = torch.randn(rows, inputs).bfloat16()
        exact = x.double() @ weight.double().T
        result = custos.linear(x, packed, None, outputs)
        # Half a step of bfloat16, and what float32 sums lose.
        assert ((result - exact).abs() <= exact.abs() / 250 + 1e-4).all()


@pytest.mark.parametrize(("outputs", "inputs"), [(45, 7), (64, 64), (33, 1001), (320, 576)])
def test_int8_linear_is_as_exact_as_its_activations(kernels: Status, outputs: int, inputs: int) -> None:
    packed, scale = packing.quantise(_weight(outputs, inputs))
    values = packing.unpack(packed, outputs, inputs).double() * scale[:outputs, None].double()
    for rows in (*range(1, 14), 40):
        x = torch.randn(rows, inputs).bfloat16()
        x[0, inputs // 2] = 300.0  # an outlier coarsens what is near it, and only that
        exact = x.double() @ values.T
        result = custos.linear(x, packed, scale, outputs)
        # Rounding an input to 15 bits of its group's largest is off by half a step of it.
        step = x.double().abs().amax(dim=1, keepdim=True) / 32767 / 2
        assert ((result - exact).abs() <= exact.abs() / 250 + 1e-4 + step * values.abs().sum(dim=1)).all()


def test_int8_sums_do_not_overflow(kernels: Status) -> None:
    inputs = 2048
    packed, scale = packing.quantise(torch.full((32, inputs), -1.0))
    x = torch.full((1, inputs), 3.0).bfloat16()
    torch.testing.assert_close(
        custos.linear(x, packed, scale, 32), torch.full((1, 32), -3.0 * inputs).bfloat16()
    )


@pytest.mark.parametrize("int8", [False, True])
def test_a_row_does_not_depend_on_its_company(kernels: Status, int8: bool) -> None:
    packed, scale = packing.quantise(_weight(96, 700)) if int8 else (packing.pack(_weight(96, 700)), None)
    x = torch.randn(29, 700).bfloat16()
    together = custos.linear(x, packed, scale, 96)
    for row in (0, 11, 12, 28):
        assert torch.equal(custos.linear(x[row : row + 1], packed, scale, 96)[0], together[row])


def test_several_weights_over_the_same_activations(kernels: Status) -> None:
    x = torch.randn(2, 3, 64).bfloat16()
    wide, narrow = packing.pack(_weight(70, 64)), packing.pack(_weight(32, 64))
    small, scale = packing.quantise(_weight(40, 64))
    alone = [
        custos.linear(x, wide, None, 70),
        custos.linear(x, small, scale, 40),
        custos.linear(x, narrow, None, 32),
    ]
    for result, expected in zip(
        custos.linear_3(x, wide, None, 70, small, scale, 40, narrow, None, 32), alone, strict=True
    ):
        assert torch.equal(result, expected)
    for result, expected in zip(custos.linear_2(x, wide, None, 70, small, scale, 40), alone, strict=False):
        assert torch.equal(result, expected)


def test_activations_may_lie_anyhow(kernels: Status) -> None:
    packed = packing.pack(_weight(64, 48))
    x = torch.randn(48, 5, 3).bfloat16().permute(2, 1, 0)
    assert torch.equal(custos.linear(x, packed, None, 64), custos.linear(x.contiguous(), packed, None, 64))


def test_what_kernels_do_not_take_is_done_in_python(kernels: Status) -> None:
    weight, x = torch.randn(40, 9), torch.randn(2, 9)
    torch.testing.assert_close(custos.linear(x, packing.pack(weight), None, 40), x @ weight.T)


@pytest.mark.parametrize("wrong", ["inputs", "outputs", "scale", "type"])
def test_linear_refuses_what_does_not_fit(kernels: Status, wrong: str) -> None:
    packed, scale = packing.quantise(_weight(64, 16))
    x = torch.randn(1, 18 if wrong == "inputs" else 16).bfloat16()
    with pytest.raises(ValueError, match="custos"):
        custos.linear(
            x,
            packed.bfloat16() if wrong == "type" else packed,
            scale[:40] if wrong == "scale" else scale,
            65 if wrong == "outputs" else 64,
        )


def test_packing_is_undone_by_unpacking() -> None:
    weight = torch.randn(45, 7)
    assert torch.equal(packing.unpack(packing.pack(weight), 45, 7), weight)


def test_tensors_move_into_huge_pages_unchanged() -> None:
    tensors = [
        torch.randn(3, 5),
        torch.arange(7, dtype=torch.int8),
        torch.empty(0, 4),
        torch.randn(2, 2).bfloat16(),
    ]
    moved = packing.in_huge_pages(tensors)
    for before, after in zip(tensors, moved, strict=True):
        assert torch.equal(before, after) and before.dtype == after.dtype and after.is_contiguous()
        assert after.data_ptr() % packing.ALIGNMENT == 0
    moved[1].zero_()
    assert torch.equal(moved[0], tensors[0])


def test_quantising_is_off_by_half_a_step() -> None:
    weight = torch.randn(45, 7)
    weight[3] = 0
    packed, scale = packing.quantise(weight)
    back = packing.unpack(packed, 45, 7) * scale[:45, None]
    assert ((back - weight).abs() <= scale[:45, None] / 2 * 1.001).all()


def test_embedding_reads_the_head_s_weight(kernels: Status) -> None:
    weight = _weight(77, 33)
    ids = torch.tensor([[0, 76, 31], [32, 64, 1]])
    assert torch.equal(custos.embedding(ids, packing.pack(weight), None, 33), weight[ids])
    packed, scale = packing.quantise(weight)
    rounded = packing.unpack(packed, 77, 33) * scale[:77, None]
    assert torch.equal(custos.embedding(ids, packed, scale, 33), rounded.bfloat16()[ids])
    with pytest.raises(ValueError, match="outside"):
        custos.embedding(torch.tensor([96]), packing.pack(weight), None, 33)


# Attention


@dataclass
class Case:
    """A ragged batch: `tokens` new ones end each context of `contexts`."""

    tokens: list[int]
    contexts: list[int]
    heads: int = 6
    kv_heads: int = 2
    key_size: int = 64
    value_size: int = 64
    window: int = 0
    softcap: float = 0.0
    sinks: Tensor | None = None
    scale: float = 0.2
    tables: Tensor = field(init=False)
    rows: list[tuple[Tensor, Tensor, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        used = [-(-context // BLOCK) for context in self.contexts]
        self.tables = torch.full((len(used), max(used)), -1, dtype=torch.int32)
        for table, blocks in zip(
            self.tables, torch.randperm(NUM_BLOCKS)[: sum(used)].split(used), strict=True
        ):
            table[: len(blocks)] = blocks
        # Each sequence's whole queries, keys and values: (heads, context, size), rounded so that all types hold them.
        self.rows = [
            tuple(
                torch.randn(heads, context, size).bfloat16().double()
                for heads, size in (
                    (self.heads, self.key_size),
                    (self.kv_heads, self.key_size),
                    (self.kv_heads, self.value_size),
                )
            )
            for context in self.contexts
        ]  # type: ignore[misc]

    def caches(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Caches as the last step left them. What nobody wrote is not a number: it must not matter."""
        keys = torch.full((NUM_BLOCKS, self.kv_heads, BLOCK, self.key_size), torch.nan, dtype=dtype)
        values = torch.full((NUM_BLOCKS, self.kv_heads, BLOCK, self.value_size), torch.nan, dtype=dtype)
        for number, (_, key, value) in enumerate(self.rows):
            for position in range(self.contexts[number] - self.tokens[number]):
                block, offset = self.tables[number, position // BLOCK], position % BLOCK
                keys[block, :, offset] = key[:, position].to(dtype)
                values[block, :, offset] = value[:, position].to(dtype)
        return keys, values

    def new_rows(self, dtype: torch.dtype) -> list[Tensor]:
        """Query, key and value of the new tokens, (1, heads, T, size), transposed as a model leaves them."""
        parts = []
        for part in range(3):
            new = [
                row[part][:, context - tokens :]
                for row, context, tokens in zip(self.rows, self.contexts, self.tokens, strict=True)
            ]
            parts.append(torch.cat(new, dim=1).to(dtype).transpose(0, 1).contiguous().transpose(0, 1)[None])
        return parts

    def attend(self, dtype: torch.dtype, keys: Tensor, values: Tensor) -> Tensor:
        handle = ops.new_handle()
        custos.bind_cache(handle, [keys], [values])
        try:
            starts = torch.tensor([0, *self.tokens]).cumsum(0).int()
            custos.begin_step(handle, self.tables, starts, torch.tensor(self.contexts).int())
            return custos.attention(
                *self.new_rows(dtype),
                torch.tensor([handle]),
                0,
                self.scale,
                self.window,
                self.softcap,
                self.sinks,
            )
        finally:
            custos.release_cache(handle)

    def exact(self) -> Tensor:
        """By the definition, without a cache."""
        results = []
        for (query, key, value), tokens, context in zip(self.rows, self.tokens, self.contexts, strict=True):
            groups = self.heads // self.kv_heads
            scores = query @ key.repeat_interleave(groups, 0).transpose(1, 2) * self.scale
            if self.softcap:
                scores = self.softcap * torch.tanh(scores / self.softcap)
            place = torch.arange(context)
            seen = place <= place[:, None]
            if self.window:
                seen &= place > place[:, None] - self.window
            scores = scores.masked_fill(~seen, -torch.inf)
            if self.sinks is not None:
                scores = torch.cat([scores, self.sinks.double()[:, None, None].expand(-1, context, 1)], dim=2)
            attended = scores.softmax(dim=2)[..., :context] @ value.repeat_interleave(groups, 0)
            results.append(attended[:, context - tokens :].transpose(0, 1))
        return torch.cat(results)[None]


# Decoding rows and parts of prompts; contexts at, before and after the borders of blocks and of the kernels' chunks.
RAGGED = {"tokens": [1, 1, 3, 1, 37, 16], "contexts": [9, 64, 8, 130, 90, 16]}
LONG = {"tokens": [1, 2, 20], "contexts": [513, 512, 300]}
CASES = {
    "grouped heads": lambda: Case(**RAGGED),
    "one head each": lambda: Case(**RAGGED, heads=3, kv_heads=3),
    "all heads share": lambda: Case(**RAGGED, heads=4, kv_heads=1),
    "many heads share": lambda: Case(tokens=[1, 5], contexts=[20, 70], heads=56, kv_heads=1, key_size=32),
    "long contexts": lambda: Case(**LONG),
    "window": lambda: Case(**RAGGED, window=21),
    "window of one": lambda: Case(**RAGGED, window=1),
    "window in a long context": lambda: Case(**LONG, window=100),
    "softcap": lambda: Case(**RAGGED, softcap=1.5),
    "sinks": lambda: Case(**RAGGED, sinks=torch.randn(6)),
    "all at once": lambda: Case(**LONG, window=77, softcap=2.0, sinks=torch.randn(6).bfloat16()),
    "values narrower": lambda: Case(**RAGGED, key_size=80, value_size=48),
    "odd sizes": lambda: Case(**RAGGED, key_size=7, value_size=5),
    "latent attention": lambda: Case(
        tokens=[1, 3], contexts=[600, 70], kv_heads=1, key_size=576, value_size=512
    ),
    "a prompt alone": lambda: Case(tokens=[200], contexts=[200]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_attention_is_exact(kernels: Status, name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    case = CASES[name]()
    keys, values = case.caches(dtype)
    result = case.attend(dtype, keys, values)
    bound = {torch.bfloat16: 2e-2, torch.float32: 2e-5, torch.float64: 1e-10}[dtype]
    torch.testing.assert_close(result.double(), case.exact(), atol=bound, rtol=bound / 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_attention_writes_the_new_tokens_and_nothing_else(kernels: Status, dtype: torch.dtype) -> None:
    case = Case(**RAGGED)
    keys, values = case.caches(dtype)
    case.attend(dtype, keys, values)
    done = Case(**RAGGED)
    done.tables, done.rows, done.tokens = case.tables, case.rows, [0] * len(case.tokens)
    for cache, expected in zip((keys, values), done.caches(dtype), strict=True):
        torch.testing.assert_close(cache, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("threads", [1, 2])
def test_attention_of_a_sequence_does_not_depend_on_its_company(kernels: Status, threads: int) -> None:
    """Alone its long context is split among threads; in a batch it is not."""
    case = Case(tokens=[1] * 16, contexts=[700, *[30] * 15], kv_heads=6)
    together = case.attend(torch.bfloat16, *case.caches(torch.bfloat16))
    alone = Case(tokens=[1], contexts=[700], kv_heads=6)
    alone.rows, alone.tables = case.rows[:1], case.tables[:1]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(alone.attend(torch.bfloat16, *alone.caches(torch.bfloat16))[0, 0], together[0, 0])
    finally:
        torch.set_num_threads(before)


def test_engines_in_several_threads_do_not_meet(kernels: Status) -> None:
    cases = [Case(tokens=[1, 9], contexts=[40, 50], window=window) for window in (0, 3, 11, 20)]
    failures: list[BaseException] = []

    def engine(case: Case) -> None:
        try:
            for _ in range(5):
                result = case.attend(torch.bfloat16, *case.caches(torch.bfloat16))
                torch.testing.assert_close(result.double(), case.exact(), atol=2e-2, rtol=5e-3)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=engine, args=(case,)) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_released_cache_is_gone_and_its_memory_with_it(kernels: Status) -> None:
    case = Case(tokens=[1], contexts=[3])
    keys, values = case.caches(torch.bfloat16)
    handle = ops.new_handle()
    custos.bind_cache(handle, [keys], [values])
    custos.release_cache(handle)
    assert handle not in ops._caches
    with pytest.raises(RuntimeError, match="cache"):
        custos.attention(*case.new_rows(torch.bfloat16), torch.tensor([handle]), 0, 1.0, 0, 0.0, None)


@pytest.mark.parametrize(
    ("tables", "starts", "contexts"),
    [
        ([[NUM_BLOCKS]], [0, 1], [4]),
        ([[-1]], [0, 1], [4]),
        ([[0]], [0, 1], [17]),
        ([[0]], [0, 5], [4]),
        ([[0]], [1, 2], [4]),
        ([[0], [1]], [0, 1], [4]),
    ],
    ids=[
        "block too high",
        "negative block",
        "context past the table",
        "more new than all",
        "no start",
        "sizes",
    ],
)
def test_a_step_that_would_leave_the_cache_is_refused(
    tables: list[list[int]], starts: list[int], contexts: list[int]
) -> None:
    keys, values = Case(tokens=[1], contexts=[3]).caches(torch.bfloat16)
    handle = ops.new_handle()
    custos.bind_cache(handle, [keys], [values])
    try:
        with pytest.raises(ValueError):
            custos.begin_step(handle, *(torch.tensor(part).int() for part in (tables, starts, contexts)))
    finally:
        custos.release_cache(handle)


def test_layers_that_do_not_share_their_block_tables_are_refused() -> None:
    small, large = torch.zeros(2, 1, BLOCK, 8), torch.zeros(3, 1, BLOCK, 8)
    with pytest.raises(ValueError, match="Layer 1"):
        custos.bind_cache(ops.new_handle(), [large, small], [large.clone(), small.clone()])


def test_attention_refuses_what_does_not_fit_the_cache(kernels: Status) -> None:
    case = Case(tokens=[2], contexts=[3])
    handle = ops.new_handle()
    keys, values = case.caches(torch.bfloat16)
    custos.bind_cache(handle, [keys], [values])
    custos.begin_step(handle, case.tables, torch.tensor([0, 1]).int(), torch.tensor([3]).int())
    query, key, value = case.new_rows(torch.bfloat16)
    place = torch.tensor([handle])
    try:
        with pytest.raises(ValueError, match="another number of tokens"):
            custos.attention(query, key, value, place, 0, 1.0, 0, 0.0, None)
        with pytest.raises(ValueError, match="no such layer"):
            custos.attention(query, key, value, place, 1, 1.0, 0, 0.0, None)
        with pytest.raises(ValueError, match="fit"):
            custos.attention(query, key[..., :32], value, place, 0, 1.0, 0, 0.0, None)
    finally:
        custos.release_cache(handle)


# Compiling


def test_what_was_compiled_is_used_again(kernels: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("compiled again"))
    assert build.compiled(MODELS_DIR / "compiled").exists()


def test_a_folder_that_cannot_be_written_is_no_reason_to_go_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "_compile", lambda compiler, flags, library: library.write_text("x"))
    library = build.compiled(tmp_path)
    (tmp_path / "kernels.lock").unlink()
    (tmp_path / "kernels.lock").mkdir()  # Nobody can open it for writing, not even root.
    assert build.compiled(tmp_path) == library


@pytest.fixture
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(build, "_status", None)
    yield


def test_without_a_compiler_the_reason_is_told(
    nothing_loaded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    status = build.load_kernels(tmp_path)
    assert not status.loaded and "no-such-compiler" in status.reason and "install g++" in status.reason


def test_a_compiler_that_fails_is_quoted(
    nothing_loaded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-include", "no-such-header"))
    status = build.load_kernels(tmp_path / "cache")
    assert not status.loaded and "no-such-header" in status.reason
    assert not list((tmp_path / "cache").glob("*.so"))


def test_a_damaged_library_is_told_and_removed(
    nothing_loaded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "kernels.so"
    damaged.write_bytes(b"half a library")
    monkeypatch.setattr(build, "compiled", lambda *_, **__: damaged)
    status = build.load_kernels(tmp_path)
    assert not status.loaded and "kernels.so" in status.reason and not damaged.exists()


def test_only_torch_s_threads_are_in_the_process(kernels: Status) -> None:
    """A second OpenMP runtime would have threads of its own, which fight the first's for the cores."""
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    runtimes = [
        Path(name).name for name in mapped if "libgomp" in name or "libiomp" in name or "libomp" in name
    ]
    assert len(runtimes) == 1


PLAIN = """
import sys
from pathlib import Path
import torch
from inference.engine.kernels import build
from tests.inference import test_kernels as kernels

status = build.load_kernels(Path("var/test/kernels"), extra_flags=["-mno-avx512f", "-O2"])
assert status.loaded and status.isa == "avx2", status
for dtype, bound in ((torch.bfloat16, 2e-2), (torch.float32, 2e-5)):
    for name in ("grouped heads", "all at once", "odd sizes"):
        torch.manual_seed(5)
        case = kernels.CASES[name]()
        result = case.attend(dtype, *case.caches(dtype))
        torch.testing.assert_close(result.double(), case.exact(), atol=bound, rtol=bound / 4)
for outputs, inputs in ((45, 7), (320, 576)):
    kernels.test_linear_is_exact_for_any_rows_and_odd_sizes(status, outputs, inputs)
    kernels.test_int8_linear_is_as_exact_as_its_activations(status, outputs, inputs)
kernels.test_embedding_reads_the_head_s_weight(status)
"""


@pytest.mark.skipif("avx2" not in Path("/proc/cpuinfo").read_text(), reason="compiles for AVX2")
def test_without_avx512_the_same_source_serves(kernels: Status) -> None:
    run = subprocess.run([sys.executable, "-c", PLAIN], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_compiled_graphs_are_told_of_every_kernel(kernels: Status) -> None:
    library = ctypes.CDLL(str(build.compiled(MODELS_DIR / "compiled")))
    for overload, (declaration,) in build.c_shims().items():
        assert declaration.count("Handle") == declaration.count(" result_") + sum(
            "Tensor" in str(argument.type) for argument in overload._schema.arguments
        )
        assert hasattr(library, f"aoti_torch_cpu_{overload._opname}")
