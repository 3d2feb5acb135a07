"""Compile kernels into one shared library and call them through ctypes, for kernel tests.

One compile serves many kernels: collect all cases of a test first, then call `run_kernels` once.
"""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgekit.compiler.aot.lowering import lower_kernels
from edgekit.compiler.aot.toolchain import toolchain_for
from edgekit.compiler.kernels.kernel import Built, Kernel
from edgekit.compiler.kernels.volume import Volume
from edgekit.core.target import load_target

Array = NDArray[Any]
_GUARD = 64  # bytes behind every result and scratch that a kernel must leave alone
_GARBAGE = 0xA5


class KernelCase(msgspec.Struct, frozen=True, eq=False):
    """State one call.

    Args:
        built: What a builder returned.
        inputs: Flat arrays, one per operand; `pack` makes them from images.
        write: The result.
    """

    built: Built
    inputs: tuple[Array, ...]
    write: Volume


def run_kernels(cases: Sequence[KernelCase], *, target: str = "host") -> list[Array]:
    """Compile all kernels at once, run each in three disjoint ranges, last items first.

    Args:
        cases: What to run.
        target: Name of the target; this machine must be able to run its code.

    Returns:
        The flat results, padding included.
    """
    with tempfile.TemporaryDirectory() as folder:
        functions = load_kernels([case.built.kernel for case in cases], Path(folder), target)
        return [_run(call, case) for call, case in zip(functions, cases, strict=True)]


def run_kernel(
    built: Built, inputs: Sequence[Array], write: Volume, *, target: str = "host"
) -> Array:
    """Run one kernel."""
    return run_kernels([KernelCase(built, tuple(inputs), write)], target=target)[0]


def load_kernels(
    kernels: Sequence[Kernel], folder: Path, target: str = "host"
) -> list[Callable[..., int]]:
    """Compile kernels into `folder/kernels.so` and return their C functions, in order."""
    import tvm

    toolchain = toolchain_for(load_target(target))
    named = {f"k{number}": kernel.function for number, kernel in enumerate(kernels)}
    lowered = lower_kernels(named, tvm.target.Target(toolchain.llvm), folder, prefix="t")
    assert all(not sizes for sizes in lowered.scratch.values()), "scratch outside of the contract"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", toolchain.zig, "-shared"]
    subprocess.run([*command, *lowered.objects, "-lm", "-o", "kernels.so"], cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "kernels.so"))
    return [getattr(library, f"t_{name}") for name in named]


def pack(volume: Volume, image: Array, *, spare: float | int | None = None) -> Array:
    """Lay an image [C, H, W] out as the volume says.

    Args:
        volume: How it lies in memory.
        image: What it holds.
        spare: What lanes beyond the channels hold; without, NaN for floats and 77 for levels,
            which a consumer must not let through.
    """
    if spare is None:
        spare = np.nan if volume.dtype == "float32" else 77
    lanes = volume.blocks * volume.lanes
    full = np.full((lanes, volume.rows, volume.columns), spare, volume.dtype)
    top, left = volume.pads[:2]
    full[: volume.channels] = volume.fill
    full[: volume.channels, top : top + volume.height, left : left + volume.width] = image
    blocked = full.reshape(volume.blocks, volume.lanes, volume.rows, volume.columns)
    return np.ascontiguousarray(blocked.transpose(0, 2, 3, 1)).reshape(-1)


def unpack(volume: Volume, flat: Array) -> Array:
    """Return the image [C, H, W] inside a flat buffer, after checking its padding."""
    blocked = flat.reshape(volume.blocks, volume.rows, volume.columns, volume.lanes)
    full = blocked.transpose(0, 3, 1, 2).reshape(-1, volume.rows, volume.columns)
    full = full[: volume.channels]
    top, left = volume.pads[:2]
    inside = np.zeros(full.shape, bool)
    inside[:, top : top + volume.height, left : left + volume.width] = True
    assert np.all(full[~inside] == volume.fill), "padding is not filled"
    return full[:, top : top + volume.height, left : left + volume.width]


def _run(call: Callable[..., int], case: KernelCase) -> Array:
    kernel = case.built.kernel
    result = aligned(case.write.elements, case.write.dtype)
    scratch = aligned(kernel.scratch_bytes, "uint8") if kernel.scratch_bytes else None
    constants = [aligned_copy(constant) for constant in case.built.constants]
    operands = [aligned_copy(array) for array in case.inputs]
    buffers = [*operands, *constants, result, *([scratch] if scratch is not None else [])]
    pointers = [ctypes.c_void_p(buffer.ctypes.data) for buffer in buffers]
    for begin, end in _ranges(kernel.num_items):
        assert call(*pointers, ctypes.c_int32(begin), ctypes.c_int32(end)) == 0
    _check_guard(result, "result")
    if scratch is not None:
        _check_guard(scratch, "scratch")
    return result


def _ranges(num_items: int) -> list[tuple[int, int]]:
    cuts = sorted({0, num_items // 3, 2 * num_items // 3, num_items})
    return list(itertools.pairwise(cuts))[::-1]


def aligned(elements: int, dtype: str) -> Array:
    """Return a buffer full of garbage, aligned to 64 bytes, with a guard behind it."""
    size = elements * np.dtype(dtype).itemsize
    raw = np.full(size + _GUARD + 64, _GARBAGE, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype)


def aligned_copy(array: Array) -> Array:
    """Return a copy aligned to 64 bytes."""
    copy = aligned(array.size, str(array.dtype))
    copy[:] = array.reshape(-1)
    return copy


def _check_guard(array: Array, what: str) -> None:
    address = array.ctypes.data + array.nbytes
    guard = np.ctypeslib.as_array((ctypes.c_uint8 * _GUARD).from_address(address))
    assert np.all(guard == _GARBAGE), f"a kernel wrote behind its {what}"
