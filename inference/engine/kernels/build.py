"""Compiles `kernels.cpp` for this machine's CPU and puts it in the place of the implementations in Python.

No compiler, or one that fails, is no error: the engine then runs on Python and says why. What was compiled is kept
under a name made of everything that it depends on, so that another CPU, torch or source means another file.
"""

import ctypes
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from inference.engine.compiled import UNFINISHED, mark_used
from inference.engine.kernels import ops

SOURCES = Path(__file__).parent
COMPILERS = ("g++", "c++", "clang++")
# Whole-program assumptions of -ffast-math would break infinities here, and change other libraries' arithmetic.
FLAGS = (
    "-O3",
    "-std=c++20",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
    "-w",
)
COMPILE_SECONDS = 300


@dataclass(frozen=True)
class Status:
    """Whether compiled kernels run, why not (in English, empty if they do), and the instructions that they use."""

    loaded: bool
    reason: str
    isa: str


class _Refusal(Exception):
    """Why there are no compiled kernels."""


_status: Status | None = None
_lock = threading.Lock()


def load_kernels(cache_dir: Path, *, extra_flags: Sequence[str] = ()) -> Status:
    """Compile the kernels, or take those compiled before from `cache_dir`, and use them in this process from now on.

    Never raises. The first success holds for the life of the process.
    """
    global _status
    with _lock:
        if _status is None or not _status.loaded:
            try:
                _status = _load(compiled(cache_dir, extra_flags=extra_flags))
            except (_Refusal, OSError, subprocess.SubprocessError) as error:
                _status = Status(loaded=False, reason=str(error), isa="")
        return _status


def compiled(cache_dir: Path, *, extra_flags: Sequence[str] = ()) -> Path:
    """The compiled library's path; compiles if it is not there. Raises OSError, SubprocessError or its like."""
    compiler = _compiler()
    flags = [*FLAGS, _for_this_cpu(), *extra_flags]
    cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if cache_dir.stat().st_uid != os.getuid():
        raise _Refusal(f"{cache_dir} belongs to another user: code from there is not loaded.")
    library = cache_dir / f"kernels-{_digest(compiler, flags)}.so"
    if not library.exists():
        # One process compiles, the others wait for it.
        with (cache_dir / "kernels.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not library.exists():
                _compile(compiler, flags, library)
    mark_used(library)
    return library


def _compiler() -> list[str]:
    named = os.environ.get("CXX")
    for candidate in [named] if named else COMPILERS:
        command = shlex.split(candidate)
        if command and shutil.which(command[0]):
            return command
    raise _Refusal(f"No C++ compiler was found ({named or ', '.join(COMPILERS)}): install g++, or set CXX.")


def _for_this_cpu() -> str:
    return "-march=native" if os.uname().machine in ("x86_64", "i686") else "-mcpu=native"


def _digest(compiler: list[str], flags: list[str]) -> str:
    """Of all that the library depends on: sources, compiler, flags, torch and CPU."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True, timeout=30).stdout
    digest = hashlib.sha256()
    for part in (
        shlex.join([*compiler, *flags]).encode(),
        version,
        torch.__version__.encode(),
        cpu_features(),
    ):
        digest.update(len(part).to_bytes(8) + part)
    for source in [Path(__file__), *sorted(SOURCES.glob("*.?pp"))]:
        content = source.read_bytes()
        digest.update(len(content).to_bytes(8) + content)
    return digest.hexdigest()[:32]


def cpu_features() -> bytes:
    """What the CPU says that it can do; another one behind the same folder compiles its own."""
    lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    return b"\n".join(
        sorted({line for line in lines if line.startswith((b"flags", b"Features", b"model name"))})
    )


def _compile(compiler: list[str], flags: list[str], library: Path) -> None:
    home = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=UNFINISHED) as folder:
        unfinished = Path(folder) / library.name
        torch_options = [f"-I{home / 'include'}", f"-L{home / 'lib'}", "-ltorch_cpu"]
        command = [*compiler, *flags, str(SOURCES / "kernels.cpp"), *torch_options, "-o", str(unfinished)]
        run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=COMPILE_SECONDS)
        if run.returncode:
            complaint = next(
                (line for line in run.stderr.splitlines() if "error" in line), run.stderr.strip()
            )
            raise _Refusal(f"{compiler[0]} could not compile the kernels: {complaint[:300]}")
        unfinished.replace(library)


def _load(path: Path) -> Status:
    # Global, so that graphs compiled ahead of time find the functions that `c_shims` names.
    try:
        library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        path.unlink()  # the next start compiles it again
        raise
    library.custos_isa.restype = ctypes.c_char_p
    if library.custos_register():
        raise _Refusal("torch did not take the compiled kernels.")
    ops.use_native(_Native(library))
    return Status(loaded=True, reason="", isa=library.custos_isa().decode())


class _Native(ops.NativeCaches):
    """Tells the library about the caches that it can work on: bfloat16 and float32, on the CPU."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        integer, pointer = ctypes.c_int64, ctypes.c_void_p
        library.custos_bind.argtypes = (integer, integer, ctypes.c_int32, integer, pointer, pointer, pointer)
        library.custos_begin.argtypes = (integer, integer, integer, pointer, pointer, pointer)
        library.custos_release.argtypes = (integer,)
        self._known: set[int] = set()

    def bind(self, handle: int, cache: ops.Cache) -> None:
        self.release(handle)
        tensors = [*cache.keys, *cache.values]
        dtype = tensors[0].dtype
        if dtype not in (torch.bfloat16, torch.float32):
            return
        if any(tensor.device.type != "cpu" or tensor.dtype != dtype for tensor in tensors):
            return
        count = len(cache.keys)
        shapes = [
            size
            for key, value in zip(cache.keys, cache.values, strict=True)
            for size in (key.shape[1], key.shape[3], value.shape[3])
        ]
        self._library.custos_bind(
            handle,
            count,
            dtype == torch.float32,
            cache.block_size,
            (ctypes.c_void_p * count)(*(key.data_ptr() for key in cache.keys)),
            (ctypes.c_void_p * count)(*(value.data_ptr() for value in cache.values)),
            (ctypes.c_int64 * len(shapes))(*shapes),
        )
        self._known.add(handle)

    def begin(self, handle: int, step: ops.Step) -> None:
        if handle not in self._known:
            return
        sequences = len(step.context_lengths)
        self._library.custos_begin(
            handle,
            sequences,
            step.block_tables.shape[1],
            step.block_tables.data_ptr(),
            (ctypes.c_int32 * (sequences + 1))(*step.query_starts),
            (ctypes.c_int32 * sequences)(*step.context_lengths),
        )

    def release(self, handle: int) -> None:
        if handle in self._known:
            self._known.discard(handle)
            self._library.custos_release(handle)


def c_shims() -> dict[torch._ops.OpOverload, list[str]]:
    """For `aot_inductor.custom_ops_to_c_shims`: compiled graphs call the kernels directly.

    The compiled kernels must be loaded in the process that loads such a graph.
    """
    tensor, optional, result = "AtenTensorHandle", "const AtenTensorHandle*", "AtenTensorHandle*"
    kinds = {"Tensor": tensor, "Optional[Tensor]": optional, "int": "int64_t", "float": "double"}
    shims = {}
    for name in ("attention", "linear", "linear_2", "linear_3", "embedding"):
        overload = getattr(torch.ops.custos, name).default
        arguments = [
            f"{kinds[str(argument.type)]} {argument.name}" for argument in overload._schema.arguments
        ]
        arguments += [f"{result} result_{number}" for number in range(len(overload._schema.returns))]
        shims[overload] = [f"AOTITorchError aoti_torch_cpu_{name}({', '.join(arguments)})"]
    return shims
