"""3x3 convolutions of stride 1 by Winograd's minimal filtering, float32.

For every chunk of tiles: transform its inputs (all channels), then for every group of output
channels multiply at each of the (m + 2)**2 positions, and transform the products back. All of it
stays in the thread's scratch; packed weights stream past once per chunk.

Why items are (chunk, group): small images with many channels have one chunk only. Threads then
share its groups, and each transforms the chunk's inputs for itself, which costs little there.

Inputs are transformed in two sweeps with a strip of rows between them in the L1 cache: neighbouring
tiles overlap by two columns, whose vertical transforms are computed once, and the (m + 2)**2 values
of a tile, more than there are registers, never live at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.compiler.graph.operators import Convolution
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.border import fill_rows
from edgekit.compiler.kernels.draft import Draft
from edgekit.compiler.kernels.kernel import Built
from edgekit.compiler.kernels.values.functions import apply
from edgekit.compiler.kernels.volume import Volume
from edgekit.compiler.kernels.winograd.blocking import Blocking, choose_blocking
from edgekit.compiler.kernels.winograd.matrices import TileSize, transformed_weights
from edgekit.compiler.kernels.winograd.products import Products, Scratch
from edgekit.compiler.kernels.winograd.transforms import transformed_inputs, transformed_outputs

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.kernels.isa.base import Isa

    Expr: TypeAlias = tvm.tirx.PrimExpr

_L2_BYTES = 512 * 1024


def is_winograd(op: Convolution) -> bool:
    """Return whether a convolution is a float32 3x3 one that Winograd can compute."""
    plain = op.strides == (1, 1) and op.dilations == (1, 1) and op.groups == 1
    return plain and op.weights.dtype == np.float32 and op.weights.shape[2:] == (3, 3)


def winograd_pads(op: Convolution, x: Tensor, y: Tensor, m: TileSize) -> tuple[int, int, int, int]:
    """Return the least padding (top, left, bottom, right) of the input: up to whole tiles.

    Args:
        op: The convolution.
        x: What it reads, [1, C, H, W].
        y: What it writes, [1, K, OH, OW].
        m: Outputs of a tile in each direction.
    """
    top, left = op.pads[:2]
    rows, columns = (-(-size // m) * m + 2 for size in y.shape[2:])
    return top, left, max(rows - top - x.shape[2], 0), max(columns - left - x.shape[3], 0)


def build_winograd(
    op: Convolution,
    reads: Sequence[Volume],
    write: Volume,
    isa: Isa,
    m: TileSize,
    *,
    l2_bytes: int = _L2_BYTES,
    blocking: Blocking | None = None,
) -> Built:
    """Build the kernel of a 3x3 convolution.

    Args:
        op: A convolution for which `is_winograd` holds.
        reads: Layouts of the input, padded at least as `winograd_pads` says, and of the residual
            when there is one; blocks of `isa.lanes` channels.
        write: Layout of the result, likewise in blocks.
        isa: Instruction set.
        m: Outputs of a tile in each direction, 2 or 4.
        l2_bytes: Cache of one core.
        blocking: How to cut the work, when not as `choose_blocking` would.

    Returns:
        The kernel; its constants are packed weights and the bias.
    """
    assert is_winograd(op), op.name
    assert all(volume.lanes == isa.lanes for volume in (*reads, write)), (reads, write)
    outputs, inputs = op.weights.shape[:2]
    cut = blocking or choose_blocking(
        isa,
        m=m,
        inputs=inputs,
        outputs=outputs,
        image=(write.height, write.width),
        l2_bytes=l2_bytes,
    )
    bias = np.zeros(cut.output_blocks * cut.lanes, np.float32)
    bias[:outputs] = op.bias
    constants = (packed_weights(op.weights.astype(np.float32), m, cut), bias)
    with Draft(reads, [write], constants, scratch_bytes=4 * cut.scratch_values) as draft:
        _Winograd(op, (*reads, write), isa, cut, draft).emit()
    return draft.built(cut.chunks * cut.groups)


def packed_weights(weights: NDArray[np.float32], m: TileSize, cut: Blocking) -> NDArray[np.float32]:
    """Return transformed weights in the order in which the kernel reads them.

    Args:
        weights: [outputs, inputs, 3, 3].
        m: Outputs of a tile in each direction.
        cut: How the work is cut.

    Returns:
        Flat: groups, positions, panels, inputs, outputs of a panel; zeros fill the last vector.
    """
    full = np.zeros((cut.positions, cut.inputs, cut.output_blocks * cut.lanes), np.float32)
    full[:, :, : cut.outputs] = transformed_weights(weights, m)
    parts = []
    for group in _cut_outputs(full, cut.group_blocks * cut.lanes):
        panels = _cut_outputs(group, cut.vectors * cut.lanes)
        rows = [panel.reshape(cut.positions, -1) for panel in panels]
        parts.append(np.concatenate(rows, axis=1).reshape(-1))
    return np.concatenate(parts)


def _cut_outputs(weights: NDArray[np.float32], size: int) -> list[NDArray[np.float32]]:
    return np.split(weights, range(size, weights.shape[2], size), axis=2)


class _Winograd:
    def __init__(
        self, op: Convolution, volumes: Sequence[Volume], isa: Isa, cut: Blocking, draft: Draft
    ) -> None:
        self._op, self._isa, self._cut, self._draft = op, isa, cut, draft
        self._x, *residuals, self._y = volumes
        self._residual = residuals[0] if residuals else None
        self._scratch = Scratch(cut, isa, draft.scratch)

    def emit(self) -> None:
        from tvm.tirx.script.builder import ir as T

        cut = self._cut
        products = Products(cut, self._isa, self._scratch, self._draft.constants[0])
        with self._draft.items() as item:
            chunk, group = T.Bind(item // cut.groups), T.Bind(item % cut.groups)
            first = T.Bind(chunk * cut.chunk_rows)
            rows = T.Bind(T.min(cut.chunk_rows, cut.grid[0] - first))
            with T.If(T.Or(T.EQ(item, self._draft.begin), T.EQ(group, 0))), T.Then():
                self._transform_inputs(first, rows)
            products.emit(chunk, group)
            self._transform_products(first, rows, group)

    # ---- inputs

    def _transform_inputs(self, first: Expr, rows: Expr) -> None:
        from tvm.tirx.script.builder import ir as T

        with T.serial(0, self._cut.input_blocks) as block, T.serial(0, rows) as row:
            self._fill_strip(block, (first + row) * self._cut.m)
            self._empty_strip(block, row)

    def _fill_strip(self, block: Expr, line: Expr) -> None:
        """Transform the columns of a row of tiles."""
        from tvm.tirx.script.builder import ir as T

        x, (top, left) = self._draft.reads[0], self._op.pads[:2]
        with T.serial(0, self._cut.strip_columns) as column:
            values = [
                T.Bind(x[self._isa.ramp(self._x.at(block, line + row - top, column - left))])
                for row in range(self._cut.m + 2)
            ]
            for row, value in enumerate(transformed_inputs(self._isa, values)):
                self._scratch.store(self._scratch.strip_at(row, column), value)

    def _empty_strip(self, block: Expr, row: Expr) -> None:
        """Transform the rows of each tile."""
        from tvm.tirx.script.builder import ir as T

        cut, scratch, size = self._cut, self._scratch, self._cut.m + 2
        with T.serial(0, size) as high, T.serial(0, cut.grid[1]) as column:
            values = [
                T.Bind(scratch.load(scratch.strip_at(high, column * cut.m + wide)))
                for wide in range(size)
            ]
            tile = row * cut.grid[1] + column
            for wide, value in enumerate(transformed_inputs(self._isa, values)):
                scratch.store(scratch.input_at(high * size + wide, block, tile), value)

    # ---- products

    def _transform_products(self, first: Expr, rows: Expr, group: Expr) -> None:
        from tvm.tirx.script.builder import ir as T

        cut, y = self._cut, self._y
        start = T.Bind(group * cut.group_blocks)
        blocks = T.Bind(T.min(cut.group_blocks, cut.output_blocks - start))
        whole, left = divmod(y.height, cut.m)
        last = T.min((first + rows) * cut.m, y.height)
        with T.serial(0, blocks) as block:
            with T.serial(0, T.min(rows, whole - first)) as row:
                self._row_of_tiles(first, row, (start, block), cut.m)
            if left:
                with T.If(T.EQ(first + rows, cut.grid[0])), T.Then():
                    self._row_of_tiles(first, rows - 1, (start, block), left)
            fill_rows(self._draft.writes[0], y, start + block, first * cut.m, last)

    def _row_of_tiles(self, first: Expr, row: Expr, place: tuple[Expr, Expr], high: int) -> None:
        from tvm.tirx.script.builder import ir as T

        cut = self._cut
        whole, left = divmod(self._y.width, cut.m)
        with T.serial(0, whole) as column:
            self._result((first, row), column, place, (high, cut.m))
        if left:
            self._result((first, row), whole, place, (high, left))

    def _result(
        self,
        rows: tuple[Expr, Expr],
        column: Expr | int,
        place: tuple[Expr, Expr],
        shape: tuple[int, int],
    ) -> None:
        """Transform the products of one tile.

        Args:
            rows: First row of the chunk, row of tiles within it.
            column: Column of tiles.
            place: First block of the group, block within it.
            shape: Rows and columns of the tile that the image has.
        """
        cut, isa = self._cut, self._isa
        block = place[0] + place[1]
        columns = self._columns(rows[1] * cut.grid[1] + column, place[1], block)
        for high in range(shape[0]):
            results = transformed_outputs(isa, [values[high] for values in columns])
            row = sum(rows) * cut.m + high
            for wide, value in enumerate(results[: shape[1]]):
                self._finish(block, row, column * cut.m + wide, value)

    def _columns(self, tile: Expr, inner: Expr, block: Expr) -> list[list[Expr]]:
        """Transform each column of a tile's products."""
        from tvm.tirx.script.builder import ir as T

        size, scratch = self._cut.m + 2, self._scratch
        columns = []
        for wide in range(size):
            values = []
            for high in range(size):
                value = scratch.load(scratch.product_at(high * size + wide, inner, tile))
                if high == wide == 1:
                    # The transform spreads this product over all outputs with factor 1.
                    bias = self._draft.constants[1][self._isa.ramp(block * self._cut.lanes)]
                    value = value + bias
                values.append(T.Bind(value))
            columns.append(transformed_outputs(self._isa, values))
        return columns

    def _finish(self, block: Expr, row: Expr, column: Expr, value: Expr) -> None:
        from tvm.tirx.script.builder import ir as T

        isa = self._isa
        if self._residual is not None:
            value = value + self._draft.reads[1][isa.ramp(self._residual.at(block, row, column))]
        if self._op.activation is not None:
            value = apply(self._op.activation, value, isa)
        T.buffer_store(self._draft.writes[0], value, [isa.ramp(self._y.at(block, row, column))])
