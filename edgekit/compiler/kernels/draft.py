"""A kernel while it is being written: parameters, loops over items, and rows cut into pieces.

Kernels share work by items, pieces of the result's rows within one block of channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self, TypeAlias

import msgspec
import numpy as np

from edgekit.compiler.kernels.border import fill_rows
from edgekit.compiler.kernels.kernel import Built, Kernel

if TYPE_CHECKING:
    from types import TracebackType

    import tvm

    from edgekit.compiler.kernels.volume import Volume

    Buffer: TypeAlias = tvm.tirx.Buffer
    Expr: TypeAlias = tvm.tirx.PrimExpr

_WANTED_ITEMS = 16  # enough for eight threads to share evenly


class Slices(msgspec.Struct, frozen=True):
    """Cut the rows of every block into pieces of `step` rows.

    Args:
        blocks: Blocks of channels.
        height: Rows of each.
        step: Rows of a piece; the last one of a block may have fewer.
    """

    blocks: int
    height: int
    step: int

    @property
    def pieces(self) -> int:
        """Return how many pieces a block has."""
        return -(-self.height // self.step)

    @property
    def num_items(self) -> int:
        """Return how many pieces there are."""
        return self.blocks * self.pieces

    def piece(self, item: Expr) -> tuple[Expr, Expr | int, Expr | int]:
        """Return block, first row and row behind the last one of an item."""
        from tvm.tirx.script.builder import ir as T

        if self.pieces == 1:
            return item, 0, self.height
        block = T.Bind(item // self.pieces)
        first = T.Bind((item % self.pieces) * self.step)
        if self.height % self.step == 0:
            return block, first, first + self.step
        return block, first, T.Bind(T.min(first + self.step, self.height))


def cut_rows(blocks: int, height: int, *, multiple: int = 1) -> Slices:
    """Cut blocks into just enough pieces for several threads.

    Args:
        blocks: Blocks of channels.
        height: Rows of each.
        multiple: Rows of a register tile; pieces are whole tiles.
    """
    pieces = min(-(-_WANTED_ITEMS // blocks), max(height // multiple, 1))
    step = -(-height // pieces)
    return Slices(blocks, height, min(-(-step // multiple) * multiple, height))


def segments(count: int, size: int) -> list[tuple[int, int, int]]:
    """Cut `count` into pieces of `size` and a rest: (start, how many, size) of each kind."""
    whole, rest = divmod(count, size)
    cut = [(0, whole, size), (whole * size, 1, rest)]
    return [(start, number, length) for start, number, length in cut if number and length]


class Draft:
    """Write one kernel; use as a context, then ask for what was built.

    Args:
        reads: Layouts of the operands.
        constants: Arrays the kernel is called with.
        writes: Layouts of the results.
        scratch_bytes: Scratch of each thread.

    Attributes:
        reads: Flat buffers of the operands.
        constants: Flat buffers of the constants.
        writes: Flat buffers of the results.
        scratch: Flat uint8 buffer, when there is scratch.
        begin: First item.
        end: Item behind the last one.
    """

    def __init__(
        self,
        reads: Sequence[Volume],
        writes: Sequence[Volume],
        constants: Sequence[np.ndarray] = (),
        *,
        scratch_bytes: int = 0,
    ) -> None:
        self._scratch_bytes = scratch_bytes
        self._layouts = (tuple(reads), tuple(writes))
        self._arrays = tuple(np.ascontiguousarray(array) for array in constants)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        from tvm.script.ir_builder import IRBuilder
        from tvm.tirx.script.builder import ir as T

        self._builder = self._stack.enter_context(IRBuilder())
        self._stack.enter_context(T.prim_func())
        T.func_attr({"tirx.noalias": True})
        reads, writes = self._layouts
        self.reads = [
            T.arg(f"x{number}", T.buffer((volume.elements,), volume.dtype))
            for number, volume in enumerate(reads)
        ]
        self.constants = [
            T.arg(f"c{number}", T.buffer((array.size,), str(array.dtype)))
            for number, array in enumerate(self._arrays)
        ]
        self.writes = [
            T.arg(f"y{number}", T.buffer((volume.elements,), volume.dtype))
            for number, volume in enumerate(writes)
        ]
        if self._scratch_bytes:
            self.scratch = T.arg("scratch", T.buffer((self._scratch_bytes,), "uint8"))
        self.begin: Expr = T.arg("begin", T.int32())
        self.end: Expr = T.arg("end", T.int32())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    @contextmanager
    def items(self) -> Iterator[Expr]:
        """Loop over the items this call computes."""
        from tvm.tirx.script.builder import ir as T

        with T.serial(self.begin, self.end) as item:
            yield item

    @contextmanager
    def rows(self, slices: Slices) -> Iterator[tuple[Expr, Expr]]:
        """Loop over block and row of every item; then fill the padding of the first result."""
        from tvm.tirx.script.builder import ir as T

        with self.items() as item:
            block, first, last = slices.piece(item)
            with T.serial(first, last) as row:
                yield block, row
            fill_rows(self.writes[0], self._layouts[1][0], block, first, last)

    def built(self, num_items: int) -> Built:
        """Return the finished kernel."""
        kernel = Kernel(
            function=self._builder.get(),
            num_items=num_items,
            scratch_bytes=self._scratch_bytes,
        )
        return Built(kernel=kernel, constants=self._arrays)
