"""Runs a library that AOTInductor made, through its C interface (torch/csrc/inductor/aoti_runtime/interface.h).

torch's own loader holds Python's lock while the library computes, which would stop the event loop for the
length of every step. A call through ctypes lets go of it.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

# A second one, so that a new engine does not wait for one that hangs.
_NUM_MODELS = 2

_alloc = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors
_steal = torch._C._aoti.alloc_tensor_by_stealing_from_void_ptr

_pointer_in = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_in.restype, _pointer_in.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
_capsule_of = ctypes.pythonapi.PyCapsule_New
_capsule_of.restype, _capsule_of.argtypes = (
    ctypes.py_object,
    (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
)


class GraphUnavailable(Exception):
    """There is no compiled graph; the message says why. The engine goes on without."""


class GraphFailed(RuntimeError):
    """The compiled graph failed on these inputs; it does not say why."""


class _Constant(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("tensor", ctypes.c_void_p))


class CompiledStep:
    """Call it as a `runner.Forward`. Its weights must be bound first. Raises GraphUnavailable or OSError."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._container = ctypes.c_void_p()
        self._do(
            "CreateWithDevice", ctypes.byref(self._container), ctypes.c_size_t(_NUM_MODELS), b"cpu", None
        )
        self.constants = self._names()  # The library's name for each weight -> the model's.
        self._weights: list[torch.Tensor] = []

    def _do(self, function: str, *arguments: object) -> None:
        if getattr(self._library, f"AOTInductorModelContainer{function}")(*arguments):
            raise GraphUnavailable(f"The compiled graph failed in {function}; the log has torch's message.")

    def _names(self) -> dict[str, str]:
        count = ctypes.c_size_t()
        self._do("GetNumConstants", self._container, ctypes.byref(count))
        names = {}
        for index in range(count.value):
            name, original = ctypes.c_char_p(), ctypes.c_char_p()
            self._do("GetConstantName", self._container, ctypes.c_size_t(index), ctypes.byref(name))
            self._do(
                "GetConstantOriginalFQN", self._container, ctypes.c_size_t(index), ctypes.byref(original)
            )
            assert name.value is not None and original.value is not None
            names[name.value.decode()] = original.value.decode()
        return names

    def bind(self, weights: dict[str, torch.Tensor]) -> None:
        """Use these tensors, by the library's names for them, without copying them."""
        self._weights = list(weights.values())  # The library keeps no reference of its own.
        names = [name.encode() for name in weights]
        pairs = (_Constant * len(names))(
            *(_Constant(name, tensor) for name, tensor in zip(names, _pointers(self._weights), strict=True))
        )
        self._do(
            *("UpdateUserManagedConstantBufferPairs", self._container, pairs, ctypes.c_size_t(len(names))),
            *(ctypes.c_bool(False), ctypes.c_bool(True)),
        )

    def __call__(
        self, ids: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor, handle: torch.Tensor
    ) -> torch.Tensor:
        """As StepModel: logits (R, V)."""
        inputs = (ctypes.c_void_p * 4)(*_pointers([ids, positions, rows, handle]))  # Taken over by the call.
        output = ctypes.c_void_p()
        failed = self._library.AOTInductorModelContainerRun(
            *(
                self._container,
                inputs,
                ctypes.c_size_t(4),
                ctypes.byref(output),
                ctypes.c_size_t(1),
                None,
                None,
            )
        )
        if failed:
            raise GraphFailed("The compiled graph failed; the log has torch's message.")
        return _steal(_capsule_of(output, None, None))


def _pointers(tensors: list[torch.Tensor]) -> list[int]:
    """New references to the tensors, as C knows them."""
    return [_pointer_in(capsule, None) for capsule in _alloc(tensors)]
