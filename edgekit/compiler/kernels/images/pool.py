"""Pool windows of an image: maxima and averages, floats and levels.

What lies outside of the image never counts: padding holds 0, which is above negative values. Where
whole windows lie inside, code is unrolled and neighbouring outputs share what they have in common;
windows at the border are walked by loops over the places that lie inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from edgekit.compiler.kernels.draft import Draft, cut_rows, segments
from edgekit.compiler.kernels.images.pool_values import Averages, Maxima, Values

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.graph.operators import Pool
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.kernel import Built
    from edgekit.compiler.kernels.volume import Volume

    Expr: TypeAlias = tvm.tirx.PrimExpr

_COLUMNS = 4  # outputs computed at once
_MOST_UNROLLED = 49  # places of a window


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """Describe the windows along height or width.

    Args:
        outputs: Outputs.
        inputs: Inputs.
        window: Places of a window.
        stride: Distance of windows.
        dilation: Distance of places.
        pad: Inputs that the first window lacks.
    """

    outputs: int
    inputs: int
    window: int
    stride: int
    dilation: int
    pad: int

    @property
    def whole(self) -> tuple[int, int]:
        """Return the first output whose window lies inside, and the one behind the last such."""
        room = self.inputs - 1 - (self.window - 1) * self.dilation + self.pad
        first = min(-(-self.pad // self.stride), self.outputs)
        return first, max(min(room // self.stride + 1, self.outputs), first)

    def first_input(self, output: Expr | int) -> Expr | int:
        """Return the input at the first place of an output's window."""
        return output * self.stride - self.pad

    def inside(self, output: Expr | int) -> tuple[Expr, Expr]:
        """Return the first place of a window that lies inside and the one behind the last."""
        from tvm.tirx.script.builder import ir as T

        start, step = self.first_input(output), self.dilation
        first = T.max((step - 1 - start) // step, 0)
        last = T.min((self.inputs - start + step - 1) // step, self.window)
        return T.Bind(first), T.Bind(last)


def build_pool(op: Pool, reads: tuple[Volume, ...], write: Volume, isa: Isa) -> Built:
    """Build the kernel of a pooling; items are rows of the result within a block.

    Args:
        op: The operator.
        reads: Layout of the image; its padding is not read.
        write: Layout of the result, blocked alike.
        isa: Instruction set.
    """
    (image,) = reads
    assert image.lanes == write.lanes, (image, write)
    values: Values = Maxima(op, write, isa) if op.mode == "max" else Averages(op, write, isa)
    slices = cut_rows(write.blocks, write.height)
    with Draft(reads, [write], values.constants) as draft, draft.rows(slices) as (block, row):
        _Row(op, image, values, draft, block, row).emit()
    return draft.built(slices.num_items)


class _Row:
    def __init__(
        self, op: Pool, image: Volume, values: Values, draft: Draft, block: Expr, row: Expr
    ) -> None:
        self._op, self._image, self._values, self._draft = op, image, values, draft
        self._block, self._row = block, row
        write = values.write
        self._down, self._right = (
            Axis(
                outputs=(write.height, write.width)[axis],
                inputs=(image.height, image.width)[axis],
                window=op.window[axis],
                stride=op.strides[axis],
                dilation=op.dilations[axis],
                pad=op.pads[axis],
            )
            for axis in (0, 1)
        )

    def emit(self) -> None:
        from tvm.tirx.script.builder import ir as T

        first, last = self._down.whole
        if self._op.window[0] * self._op.window[1] > _MOST_UNROLLED or first == last:
            self._walk_windows(0, self._right.outputs)
        elif (first, last) == (0, self._down.outputs):
            self._middle_row()
        else:
            with T.If(T.And(self._row >= first, self._row < last)):
                with T.Then():
                    self._middle_row()
                with T.Else():
                    self._walk_windows(0, self._right.outputs)

    def _middle_row(self) -> None:
        from tvm.tirx.script.builder import ir as T

        first, last = self._right.whole
        self._walk_windows(0, first)
        for start, number, size in segments(last - first, _COLUMNS):
            with T.serial(0, number) as step:
                self._whole_windows(first + start + step * size, size)
        self._walk_windows(last, self._right.outputs)

    def _index(self, row: Expr | int, column: Expr | int) -> Expr:
        return self._image.at(self._block, row, column)

    def _whole_windows(self, column: Expr, count: int) -> None:
        """Compute neighbouring outputs; each column of inputs is combined once."""
        from tvm.tirx.script.builder import ir as T

        op, right = self._op, self._right
        corner = T.Bind(self._index(self._down.first_input(self._row), right.first_input(column)))
        line, lanes = self._image.columns * self._image.lanes, self._image.lanes
        columns: dict[int, list[Expr]] = {}
        results = []
        for output in range(count):
            total: list[Expr] | None = None
            for place in range(op.window[1]):
                j = output * right.stride + place * right.dilation
                if j not in columns:
                    indices = [
                        corner + i * op.dilations[0] * line + j * lanes for i in range(op.window[0])
                    ]
                    columns[j] = self._values.combined(self._draft.reads[0], indices)
                total = columns[j] if total is None else self._values.joined(total, columns[j])
            assert total is not None
            results.append(total)
        self._values.store(self._draft, self._block, (self._row, column), results)

    def _walk_windows(self, start: int, stop: int) -> None:
        """Compute outputs one by one from the places inside of the image."""
        from tvm.tirx.script.builder import ir as T

        if start == stop:
            return
        with T.serial(start, stop) as column:
            places = self._values.accumulator()
            top, left = self._down.first_input(self._row), self._right.first_input(column)
            with (
                T.serial(*self._down.inside(self._row)) as i,
                T.serial(*self._right.inside(column)) as j,
            ):
                index = self._index(top + i * self._down.dilation, left + j * self._right.dilation)
                places.add(self._draft.reads[0], index)
            self._values.store(self._draft, self._block, (self._row, column), [places.values()])
