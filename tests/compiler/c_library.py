"""Load a compiled library by ctypes, for the compiler's tests."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_POINTERS = ctypes.POINTER(ctypes.c_void_p)


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_char_p),
        ("ndim", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("bytes", ctypes.c_size_t),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        ("abi", ctypes.c_int32),
        ("num_inputs", ctypes.c_int32),
        ("num_outputs", ctypes.c_int32),
        ("num_steps", ctypes.c_int32),
        ("workspace_bytes", ctypes.c_size_t),
        ("inputs", ctypes.POINTER(_Tensor)),
        ("outputs", ctypes.POINTER(_Tensor)),
        ("step_names", ctypes.POINTER(ctypes.c_char_p)),
        ("run", ctypes.CFUNCTYPE(ctypes.c_int, _POINTERS, _POINTERS, ctypes.c_void_p)),
        (
            "step",
            ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int32, _POINTERS, _POINTERS, ctypes.c_void_p),
        ),
        ("set_threads", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)),
    )


def _aligned(size: int, fill: int) -> np.ndarray:
    buffer = np.full(size + 64, fill, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + size]


class CLibrary:
    """One model; every run starts from a workspace and outputs full of `fill`."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.ek_model.restype = ctypes.POINTER(_Model)
        self.model = self.library.ek_model().contents

    def describe(self, kind: str) -> list[tuple[str, str, tuple[int, ...]]]:
        count = getattr(self.model, f"num_{kind}")
        tensors = [getattr(self.model, kind)[i] for i in range(count)]
        return [
            (t.name.decode(), t.dtype.decode(), tuple(t.shape[i] for i in range(t.ndim)))
            for t in tensors
        ]

    def step_names(self) -> list[str]:
        return [self.model.step_names[i].decode() for i in range(self.model.num_steps)]

    def run(
        self, inputs: Mapping[str, np.ndarray], *, fill: int = 255, by_step: bool = False
    ) -> dict[str, np.ndarray]:
        sources = []
        for index, (name, dtype, _) in enumerate(self.describe("inputs")):
            source = _aligned(self.model.inputs[index].bytes, 0)
            source[:] = np.ascontiguousarray(inputs[name], dtype).view(np.uint8).ravel()
            sources.append(source)
        sinks = [_aligned(self.model.outputs[i].bytes, fill) for i in range(self.model.num_outputs)]
        workspace = _aligned(self.model.workspace_bytes, fill)
        arguments = (_pointers(sources), _pointers(sinks), workspace.ctypes.data)
        if by_step:
            for step in range(self.model.num_steps):
                assert self.model.step(step, *arguments) == 0
        else:
            assert self.model.run(*arguments) == 0
        return {
            name: sink.view(dtype).reshape(shape).copy()
            for sink, (name, dtype, shape) in zip(sinks, self.describe("outputs"), strict=True)
        }


def _pointers(arrays: list[np.ndarray]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])
