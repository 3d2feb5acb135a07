"""A compiled model's C library, called from Python: no TVM, only ctypes and numpy."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgekit.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ABI = 1
_ALIGNMENT = 64
_Pointers = ctypes.POINTER(ctypes.c_void_p)
_Run = ctypes.CFUNCTYPE(ctypes.c_int, _Pointers, _Pointers, ctypes.c_void_p)
_Step = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int32, _Pointers, _Pointers, ctypes.c_void_p)
_SetThreads = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)


class _CTensor(ctypes.Structure):
    """Mirror `ek_tensor_t` of ek_model.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_char_p),
        ("ndim", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("bytes", ctypes.c_size_t),
    )


class _CModel(ctypes.Structure):
    """Mirror `ek_model_t` of ek_model.h."""

    _fields_ = (
        ("abi", ctypes.c_int32),
        ("num_inputs", ctypes.c_int32),
        ("num_outputs", ctypes.c_int32),
        ("num_steps", ctypes.c_int32),
        ("workspace_bytes", ctypes.c_size_t),
        ("inputs", ctypes.POINTER(_CTensor)),
        ("outputs", ctypes.POINTER(_CTensor)),
        ("step_names", ctypes.POINTER(ctypes.c_char_p)),
        ("run", _Run),
        ("step", _Step),
        ("set_threads", _SetThreads),
    )


class Tensor(NamedTuple):
    """Describe one input or output of a library."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class CompiledLibrary:
    """Load a library and run single samples through it.

    Only load libraries you trust: loading runs native code.

    Args:
        path: The shared library.

    Raises:
        InputError: It does not load here, or speaks another version of the ABI.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path.resolve()))
            entry = self._library.ek_model
        except (OSError, AttributeError) as error:
            raise InputError(
                f"loading compiled model {path}",
                found=str(error),
                hint="Was it built for another machine? Build again with --target host",
            ) from error
        entry.restype = ctypes.POINTER(_CModel)
        described = entry()
        if not described:
            raise InputError(f"loading compiled model {path}", found="no description of it")
        self._model: _CModel = described.contents
        if self._model.abi != ABI:
            raise InputError(
                f"loading compiled model {path}",
                found=f"ABI version {self._model.abi}",
                expected=f"version {ABI}",
                hint="Build it again with this version of edgekit",
            )
        self.inputs = tuple(map(_tensor, self._model.inputs[: self._model.num_inputs]))
        self.outputs = tuple(map(_tensor, self._model.outputs[: self._model.num_outputs]))
        self._workspace = _aligned(max(1, self._model.workspace_bytes))
        self._in = [_buffer(tensor) for tensor in self.inputs]
        self._out = [_buffer(tensor) for tensor in self.outputs]
        self._arguments = (_pointers(self._in), _pointers(self._out), self._workspace.ctypes.data)

    def set_threads(self, wanted: int) -> int:
        """Ask for a number of threads and return the number in force."""
        if not self._model.set_threads:  # optional in the interface
            return 1
        set_threads = self._model.set_threads
        return int(set_threads(wanted)) if set_threads else 1  # NULL stands for one thread

    def run_one(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run one sample.

        Args:
            inputs: Arrays by name, each of exactly the shape and type in `inputs`.

        Returns:
            Fresh arrays by output name.

        Raises:
            InputError: A shape or type does not fit; the library itself checks nothing.
            RuntimeError: The library reports failure.
        """
        self.load(inputs)
        self.run()
        return self.results()

    def load(self, inputs: Mapping[str, NDArray[np.generic]]) -> None:
        """Copy one sample to where the next `run` reads it; see `run_one` for what is refused."""
        for tensor, buffer in zip(self.inputs, self._in, strict=True):
            value = inputs[tensor.name]
            if value.shape != tensor.shape or value.dtype.name != tensor.dtype:
                raise InputError(
                    f"input '{tensor.name}'",
                    found=f"{value.dtype.name} {list(value.shape)}",
                    expected=f"{tensor.dtype} {list(tensor.shape)}",
                )
            buffer[...] = value

    def run(self) -> None:
        """Run the loaded sample; nothing is copied, so that a caller can time it.

        Raises:
            RuntimeError: The library reports failure.
        """
        status = self._model.run(*self._arguments)
        if status:
            raise RuntimeError(f"the compiled model returned {status}")

    def results(self) -> dict[str, NDArray[np.generic]]:
        """Return fresh copies of the last run's outputs by name."""
        return {t.name: out.copy() for t, out in zip(self.outputs, self._out, strict=True)}


def _tensor(c_tensor: _CTensor) -> Tensor:
    shape = tuple(int(size) for size in c_tensor.shape[: c_tensor.ndim])
    return Tensor(c_tensor.name.decode(), c_tensor.dtype.decode(), shape)


def _aligned(num_bytes: int) -> NDArray[np.uint8]:
    import numpy as np

    raw = np.zeros(num_bytes + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + num_bytes]


def _buffer(tensor: Tensor) -> NDArray[np.generic]:
    import math

    import numpy as np

    dtype = np.dtype(tensor.dtype)
    flat = _aligned(max(1, math.prod(tensor.shape) * dtype.itemsize))
    return flat[: math.prod(tensor.shape) * dtype.itemsize].view(dtype).reshape(tensor.shape)


def _pointers(arrays: list[NDArray[np.generic]]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])
