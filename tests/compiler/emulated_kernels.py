"""Run kernels on an emulated 64-bit Arm core and count the instructions each executes.

All kernels become one static program, which needs no root of the board: it reads every buffer from
one file, calls the kernels in order and writes the buffers back.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.compiler.aot.lowering import lower_kernels
from edgekit.compiler.aot.toolchain import toolchain_for
from edgekit.core.places import cache_folder
from edgekit.core.progress import NullProgress
from edgekit.core.target import load_target
from edgekit.devices.emulation.boards import BOARDS
from edgekit.devices.emulation.qemu import PROGRAM, find_qemu
from edgekit.devices.emulation.root import prepare_root
from edgekit.devices.native_build import build_program, host_triple
from tests.compiler.kernel_runner import KernelCase

Array = NDArray[Any]
_GUARD = 64
_GARBAGE = 0xA5
_MARK = 0x656B  # the counter keeps its count at getpriority(0x656B, 0)

emulated = [
    pytest.mark.emulated,
    pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="qemu-user is not installed"),
]
"""Marks of a test that needs the emulator."""

_MAIN = """
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
{prototypes}
static uint8_t *d;
static const int32_t ranges[][3] = {{{ranges}}};
static int call(int32_t kernel, int32_t begin, int32_t end) {{
  switch (kernel) {{
{cases}
  }}
  return 1;
}}
int main(int argc, char **argv) {{
  FILE *file = fopen(argv[1], "rb");
  d = aligned_alloc(64, {size});
  if (!file || !d || fread(d, 1, {size}, file) != {size}) return 2;
  fclose(file);
  for (unsigned i = 0; i < sizeof ranges / sizeof *ranges; i++) {{
    syscall(SYS_getpriority, {mark}, 0);
    const int status = call(ranges[i][0], ranges[i][1], ranges[i][2]);
    syscall(SYS_getpriority, {mark}, 0);
    if (status) return 3;
  }}
  file = fopen(argv[1], "wb");
  return !file || fwrite(d, 1, {size}, file) != {size} || fclose(file);
}}
"""


class Emulated(NamedTuple):
    """Hold the flat result of one case, padding included, and what it took."""

    result: Array
    instructions: int


class _Buffers:
    """One file of aligned buffers, each with a guard behind it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, content: bytes) -> int:
        place = self.size
        part = content + bytes([_GARBAGE]) * _GUARD
        part += bytes([_GARBAGE]) * (-len(part) % 64)
        self._parts.append(part)
        self.size += len(part)
        return place

    def content(self) -> bytes:
        return b"".join(self._parts)


def emulate_kernels(cases: Sequence[KernelCase], target: str = "rpi4") -> list[Emulated]:
    """Compile all kernels at once and run each in three disjoint ranges, last items first.

    Args:
        cases: What to run.
        target: Name of a 64-bit Arm target.
    """
    with tempfile.TemporaryDirectory() as name:
        return _emulate(cases, target, Path(name))


def _emulate(cases: Sequence[KernelCase], target: str, folder: Path) -> list[Emulated]:
    buffers = _Buffers()
    calls, results, ranges = [], [], []
    for number, case in enumerate(cases):
        kernel = case.built.kernel
        places = [buffers.add(array.tobytes()) for array in (*case.inputs, *case.built.constants)]
        size = case.write.elements * np.dtype(case.write.dtype).itemsize
        results.append((buffers.add(bytes([_GARBAGE]) * size), size))
        places.append(results[-1][0])
        if kernel.scratch_bytes:
            places.append(buffers.add(bytes([_GARBAGE]) * kernel.scratch_bytes))
            results.append((places[-1], kernel.scratch_bytes))
        calls.append(", ".join(f"d + {place}" for place in places))
        cuts = sorted({0, kernel.num_items // 3, 2 * kernel.num_items // 3, kernel.num_items})
        ranges += [(number, *cut) for cut in reversed(list(itertools.pairwise(cuts)))]
    program = _build(cases, target, folder, _main(calls, ranges, buffers.size))
    data = folder / "data.bin"
    data.write_bytes(buffers.content())
    marks = _run(program, data, load_target(target).cpu.core, folder)
    raw = data.read_bytes()
    for place, size in results:
        guard = raw[place + size : place + size + _GUARD]
        assert guard == bytes([_GARBAGE]) * _GUARD, "a kernel wrote behind its result or scratch"
    taken = [0] * len(cases)
    for (number, _, _), start, end in zip(ranges, marks[::2], marks[1::2], strict=True):
        taken[number] += end - start
    outputs = iter(results)
    found = []
    for case, count in zip(cases, taken, strict=True):
        place, size = next(outputs)
        if case.built.kernel.scratch_bytes:
            next(outputs)
        found.append(Emulated(np.frombuffer(raw[place : place + size], case.write.dtype), count))
    return found


def _main(calls: Sequence[str], ranges: Sequence[tuple[int, int, int]], size: int) -> str:
    numbers = range(len(calls))
    return _MAIN.format(
        prototypes="\n".join(
            f"int t_k{n}({'void *, ' * calls[n].count('d +')}int32_t, int32_t);" for n in numbers
        ),
        cases="\n".join(f"    case {n}: return t_k{n}({calls[n]}, begin, end);" for n in numbers),
        ranges=", ".join(f"{{{n}, {begin}, {end}}}" for n, begin, end in ranges),
        size=size,
        mark=_MARK,
    )


def _build(cases: Sequence[KernelCase], target: str, folder: Path, main: str) -> Path:
    import tvm

    llvm_target = tvm.target.Target(toolchain_for(load_target(target)).llvm)
    named = {f"k{number}": case.built.kernel.function for number, case in enumerate(cases)}
    lowered = lower_kernels(named, llvm_target, folder, prefix="t")
    assert all(not sizes for sizes in lowered.scratch.values()), "scratch outside of the contract"
    (folder / "main.c").write_text(main, encoding="utf-8")
    # Not static: zig would build musl first, which takes minutes.
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu.2.28"]
    command += ["-O1", "main.c", *map(str, lowered.objects), "-o", "program"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "program"


def _run(program: Path, data: Path, core: str, folder: Path) -> list[int]:
    qemu, counts = find_qemu(), folder / "counts"
    root = prepare_root(BOARDS[core], cache_folder(), NullProgress())
    command = [str(qemu.path), "-cpu", core, "-L", str(root)]
    if qemu.no_counting is None:
        plugin = build_program("counter", host_triple(), cache_folder())
        command += ["-plugin", str(plugin)]
    environment = {**os.environ, "EDGEKIT_COUNT_FILE": str(counts)}
    done = subprocess.run([*command, str(program), str(data)], env=environment, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}"
    return [int(line) for line in counts.read_text(encoding="ascii").split()][:-1]
