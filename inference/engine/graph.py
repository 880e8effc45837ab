"""Compiles a step of the model to machine code, in a process of its own, and keeps it on disk.

`torch.export` traces transformers' code once, with the number of tokens left open, so one graph serves
every batch, prompts and single tokens alike; AOTInductor makes a library of it. The weights are not part
of it: it is handed those that are in memory already. Tracing and compiling take a minute or more of one
core, so a child process of the lowest priority does it while the engine serves without.

Run as `python -m inference.engine.graph` it is that child.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import logging
import operator
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from inference.engine.aoti import CompiledStep, GraphFailed, GraphUnavailable
from inference.engine.attention import NAME, probe_layers
from inference.engine.kernels.build import Status, c_shims, cpu_features, load_kernels
from inference.engine.layers import Precision, replace_layers
from inference.engine.memory import KeyValueMemory
from inference.engine.runner import Forward, StepModel

logger = logging.getLogger("custos.inference.engine")

COMPILE_SECONDS = 1800.0
_PR_SET_PDEATHSIG = 1  # From <sys/prctl.h>.
_SOURCES = (
    "aoti.py",
    "attention.py",
    "graph.py",
    "layers.py",
    "runner.py",
    "kernels/ops.py",
    "kernels/packing.py",
)


def graph_path(model_folder: Path, precision: Precision, kernels: Status, cache_dir: Path) -> Path:
    """Where the graph is kept: named by everything that decides what it computes, weights excepted."""
    digest = hashlib.sha256(f"{torch.__version__} {transformers.__version__} {precision} {kernels}".encode())
    digest.update(cpu_features())
    digest.update((model_folder / "config.json").read_bytes())
    for name in _SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    return cache_dir / f"graph-{digest.hexdigest()[:24]}.so"


def compile_in_background(
    model_folder: Path, precision: Precision, cache_dir: Path, output: Path
) -> subprocess.Popen[bytes]:
    """Start the child that writes `output`; its log goes beside it."""
    cache_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    with output.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "inference.engine.graph", "--model", str(model_folder)),
                *("--precision", precision, "--cache-dir", str(cache_dir), "--output", str(output)),
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def load_graph(path: Path, model: PreTrainedModel) -> Forward:
    """The compiled step with the weights of `model`. Raises GraphUnavailable unless it agrees with the model."""
    eager = StepModel(model)
    known = {**dict(eager.named_parameters(remove_duplicate=False)), **dict(eager.named_buffers())}
    try:
        compiled = CompiledStep(path)
        missing = [name for name in compiled.constants.values() if name not in known]
        if missing:
            raise GraphUnavailable(f"The graph has constants that the model lacks: {missing[0]}.")
        compiled.bind({name: known[original].data for name, original in compiled.constants.items()})
    except (OSError, AttributeError) as error:
        path.unlink(missing_ok=True)  # The next start compiles it again.
        raise GraphUnavailable(f"{path} cannot be loaded: {error}") from error
    try:
        _compare(compiled, eager, model)
    except GraphFailed as error:
        raise GraphUnavailable(str(error)) from error
    return compiled


@torch.inference_mode()
def _compare(forward: Forward, eager: StepModel, model: PreTrainedModel) -> None:
    """A prompt and a next token by both ways must agree as far as rounding allows."""
    # From all over the vocabulary: it begins with special tokens, many never trained, and a row of those
    # alone makes so much of the rounding of int8 that right graphs disagree.
    vocabulary = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    memory = KeyValueMemory(probe_layers(model), num_blocks=2, device=model.device)
    try:
        for start, end in ((0, 19), (19, 20)):
            torch.ops.custos.begin_step(
                memory.number,
                torch.tensor([[1, 0]], dtype=torch.int32),
                torch.tensor([0, end - start], dtype=torch.int32),
                torch.tensor([end], dtype=torch.int32),
            )
            positions = torch.arange(start, end)[None]
            inputs = (
                (positions * 1009 + 311) % vocabulary,
                positions,
                torch.tensor([end - start - 1]),
                memory.handle,
            )
            ours, theirs = (step(*inputs).float() for step in (forward, eager))
            if torch.cosine_similarity(ours, theirs).min() < 0.99:
                raise GraphUnavailable("The compiled graph and the model disagree.")
    finally:
        memory.close()


# --- The child ----------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m inference.engine.graph", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder with config.json")
    parser.add_argument("--precision", choices=("float32", "bfloat16", "int8"), required=True)
    parser.add_argument("--cache-dir", type=Path, required=True, help="where kernels and graphs are kept")
    parser.add_argument("--output", type=Path, required=True, help="the graph to write")
    options = parser.parse_args(arguments)
    _end_with_parent()
    os.nice(19)
    kernels = load_kernels(options.cache_dir)
    step = StepModel(_skeleton(options.model, options.precision, packed=kernels.loaded))
    with tempfile.TemporaryDirectory(dir=options.cache_dir, prefix=".compiling-") as temporary:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = temporary  # Of no use to anybody afterwards.
        compile_graph(step, options.output, kernels)


def _end_with_parent() -> None:
    """A server that is killed must not leave a compiler behind for minutes (elsewhere than on Linux it does)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # Takes its temporary files away.


def _skeleton(model_folder: Path, precision: Precision, *, packed: bool) -> PreTrainedModel:
    """The model's structure with memory for its weights that is never touched, so it costs none."""
    config = AutoConfig.from_pretrained(model_folder, local_files_only=True, trust_remote_code=False)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=NAME)
    model.tie_weights()
    replace_layers(model, precision=precision, packed=packed)
    return model.eval().to_empty(device="cpu")


@torch.no_grad()
def compile_graph(step: StepModel, output: Path, kernels: Status) -> None:
    """Export and compile `step` to the library `output`."""
    tokens = torch.export.Dim("tokens", min=1, max=1 << 20)
    wanted = torch.export.Dim("wanted", min=1, max=1 << 20)
    ids = torch.arange(5)[None]
    program = torch.export.export(
        step,
        (ids, ids.clone(), torch.tensor([3, 4]), torch.tensor([0])),
        dynamic_shapes=({1: tokens}, {1: tokens}, {0: wanted}, None),
    )
    _join_linears(program.graph_module.graph)
    program.graph_module.recompile()
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".compiling-") as temporary:
        package = torch._inductor.aoti_compile_and_package(
            program,
            package_path=f"{temporary}/graph.pt2",
            inductor_configs={
                "aot_inductor.package_constants_in_so": False,
                # Else small ones are written into the code with the values that they have here: none.
                "always_keep_tensor_constants": True,
                "aot_inductor.custom_ops_to_c_shims": c_shims() if kernels.loaded else {},
            },
        )
        os.replace(_library_in(Path(package), Path(temporary)), output)


def _library_in(package: Path, folder: Path) -> Path:
    """Take the one library out of a compiled package; it is all that is needed to run it."""
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
        if any(name.endswith(".wrapper.json") or "extern_kernel" in name for name in names):
            raise GraphUnavailable("The model uses operations that compiled code cannot call by itself.")
        (library,) = (name for name in names if name.endswith(".so"))
        return Path(archive.extract(library, folder))


def _join_linears(graph: torch.fx.Graph) -> None:
    """Linear layers over the same input become one operation: fewer times that all threads must meet."""
    linear = torch.ops.custos.linear.default
    by_input: dict[Any, list[torch.fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "call_function" and node.target == linear:
            by_input.setdefault(node.args[0], []).append(node)
    for source, nodes in by_input.items():
        for group in _groups(nodes):
            _join(graph, source, group)


def _groups(nodes: list[torch.fx.Node]) -> Iterator[list[torch.fx.Node]]:
    """Threes, and twos where three do not come out even; a single one stays as it is."""
    rest = list(nodes)
    while len(rest) > 1:
        size = 2 if len(rest) in (2, 4) else 3
        yield rest[:size]
        rest = rest[size:]


def _join(graph: torch.fx.Graph, source: torch.fx.Node, group: list[torch.fx.Node]) -> None:
    target = torch.ops.custos.linear_2 if len(group) == 2 else torch.ops.custos.linear_3
    with graph.inserting_before(group[0]):
        weights = [argument for node in group for argument in node.args[1:]]
        joined = graph.call_function(target.default, (source, *weights))
        joined.meta["val"] = tuple(node.meta["val"] for node in group)
        parts = [graph.call_function(operator.getitem, (joined, index)) for index in range(len(group))]
    for node, part in zip(group, parts, strict=True):
        part.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(part)
        graph.erase_node(node)


if __name__ == "__main__":
    main()
