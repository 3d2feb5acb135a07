"""3x3 convolutions of levels, stride 1, by Winograd's filtering with 16-bit products, bit-exact.

For every chunk of rows of tiles: transform its inputs (all channels) to 16 bits; then for every
panel of output channels multiply at each of the (m + 2)**2 positions, which is a matrix product
over channels with int32 sums, transform the sums back and requantize them as any convolution does.
Items are (chunk, group of panels); whoever starts in the middle of a chunk transforms its inputs
for itself.

Where it pays: F(4, 3) takes a quarter of the products, at 16 bits half of what 8 bits reach at best
in one step, but a third of the steps that a core without 8-bit dot products needs. Weights grow to
eight times their size (F(2, 3): to 3.6 times).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgekit.arithmetic.integer_ops import fold_zero_point
from edgekit.compiler.graph.operators import Convolution, ToLevels
from edgekit.compiler.kernels.border import fill_rows
from edgekit.compiler.kernels.convolution.geometry import layer_of
from edgekit.compiler.kernels.convolution.packing import scaled_bound
from edgekit.compiler.kernels.draft import Draft, segments
from edgekit.compiler.kernels.isa.forms import LevelRule, Run
from edgekit.compiler.kernels.kernel import Built
from edgekit.compiler.kernels.volume import Volume
from edgekit.compiler.kernels.winograd.integers import (
    INVERSE,
    is_exact,
    shift_of,
    transform_inputs,
    transform_outputs,
)
from edgekit.compiler.kernels.winograd.levels_cut import LevelsCut, choose_cut, packed_words

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.kernels.isa.base import Isa

    Expr: TypeAlias = tvm.tirx.PrimExpr
    Buffer: TypeAlias = tvm.tirx.Buffer

_L2_BYTES = 512 * 1024


def is_winograd_levels(op: Convolution, isa: Isa, m: int) -> bool:
    """Return whether a convolution of levels can be computed exactly by Winograd's filtering."""
    plain = op.strides == (1, 1) and op.dilations == (1, 1) and op.groups == 1
    if not plain or not isinstance(op.result, ToLevels) or op.weights.shape[2:] != (3, 3):
        return False
    return is_exact(np.asarray(op.weights, np.int8), m, 128 if isa.level_dtype == "int8" else 255)


def build_winograd_levels(
    op: Convolution,
    reads: Sequence[Volume],
    write: Volume,
    isa: Isa,
    m: int,
    *,
    l2_bytes: int = _L2_BYTES,
) -> Built:
    """Build the kernel of a 3x3 convolution of levels.

    Args:
        op: A convolution for which `is_winograd_levels` holds.
        reads: Layouts of the input, padded at least as `winograd_pads` says, and of the residual
            when there is one; blocks of `isa.level_block` channels.
        write: Layout of the result, likewise in blocks.
        isa: Instruction set.
        m: Outputs of a tile in each direction, 2 or 4.
        l2_bytes: Cache of one core.

    Returns:
        The kernel; constants are packed weights [panel, position, source, step, output, group],
        the bias with the input's zero point in it, and the multipliers.
    """
    assert is_winograd_levels(op, isa, m), op.name
    assert isinstance(op.result, ToLevels)
    weights, sums = np.asarray(op.weights, np.int8), np.asarray(op.bias, np.int32)
    cut = choose_cut(reads[0], write, isa, m, l2_bytes)
    outputs = cut.panels * cut.vectors * isa.lanes
    bias, factors = np.zeros(outputs, np.int32), np.zeros(outputs, np.float32)
    bias[: len(op.bias)] = fold_zero_point(sums, weights, op.input_zero_point)
    factors[: len(op.bias)] = op.result.multipliers
    constants = (packed_words(weights, cut, isa), bias, factors)
    num_sums = cut.positions * cut.chunk_tiles * cut.vectors * isa.lanes
    scratch_bytes = 4 * num_sums + 2 * cut.num_words
    with Draft(reads, [write], constants, scratch_bytes=scratch_bytes) as draft:
        _Kernel(op, reads, write, isa, cut, draft).emit()
    return draft.built(cut.chunks * cut.groups)


class _Kernel:
    def __init__(
        self,
        op: Convolution,
        reads: Sequence[Volume],
        write: Volume,
        isa: Isa,
        cut: LevelsCut,
        draft: Draft,
    ) -> None:
        from tvm.tirx.script.builder import ir as T

        assert isinstance(op.result, ToLevels)
        self._op, self._isa, self._cut, self._draft = op, isa, cut, draft
        self._result = op.result
        self._limit = scaled_bound(layer_of(op, reads, write, isa))
        self._x, self._y = reads[0], write
        self._residual = reads[1] if len(reads) > 1 else None
        self._panel_outputs = cut.vectors * isa.lanes
        self._num_sums = cut.positions * cut.chunk_tiles * self._panel_outputs
        words = 2 * self._num_sums + cut.num_words
        self._sums = T.decl_buffer((words // 2,), "int32", data=draft.scratch.data)
        self._words = T.decl_buffer((words,), "int16", data=draft.scratch.data)

    def emit(self) -> None:
        from tvm.tirx.script.builder import ir as T

        cut = self._cut
        with self._draft.items() as item:
            chunk, group = T.Bind(item // cut.groups), T.Bind(item % cut.groups)
            first = T.Bind(chunk * cut.rows)
            rows = T.Bind(T.min(cut.rows, cut.grid[0] - first))
            with T.If(T.Or(T.EQ(item, self._draft.begin), T.EQ(group, 0))), T.Then():
                self._transform_inputs(first, rows)
            start = T.Bind(group * cut.group_panels)
            stop = T.Bind(T.min(start + cut.group_panels, cut.panels))
            with T.serial(start, stop) as panel:
                self._multiply(chunk, panel)
                self._transform_sums(first, rows, panel)
            self._fill(first, rows, start, stop)

    # ---- inputs

    def _transform_inputs(self, first: Expr, rows: Expr) -> None:
        from tvm.tirx.script.builder import ir as T

        cut = self._cut
        with (
            T.serial(0, cut.sources) as source,
            T.serial(0, rows) as row,
            T.serial(0, cut.grid[1]) as column,
        ):
            self._transform_tile(source, first, row, column)

    def _transform_tile(self, source: Expr, first: Expr, row: Expr, column: Expr) -> None:
        from tvm.tirx.script.builder import ir as T

        cut, (top, left) = self._cut, self._op.pads[:2]
        parts = self._x.lanes // cut.width
        lane = source % parts * cut.width
        corner = T.Bind(
            self._x.at(source // parts, (first + row) * cut.m - top, column * cut.m - left) + lane
        )
        columns = []
        for wide in range(cut.size):
            places = [
                corner + (high * self._x.columns + wide) * self._x.lanes for high in range(cut.size)
            ]
            levels = [T.Bind(self._widened(place)) for place in places]
            columns.append(transform_inputs(levels, self._words_constant, T.Bind))
        tile = T.Bind(row * cut.grid[1] + column)
        for high in range(cut.size):
            values = transform_inputs(
                [values[high] for values in columns], self._words_constant, T.Bind
            )
            for wide, value in enumerate(values):
                place = self._word(high * cut.size + wide, source, tile)
                T.buffer_store(self._words, value, [T.ramp(place, 1, cut.width)])

    def _widened(self, place: Expr) -> Expr:
        from tvm.tirx.script.builder import ir as T

        width = self._cut.width
        return T.Cast(f"int16x{width}", self._draft.reads[0][T.ramp(place, 1, width)])

    def _words_constant(self, value: int) -> Expr:
        from tvm.tirx.script.builder import ir as T

        return T.broadcast(T.Cast("int16", T.int32(value)), self._cut.width)

    def _word(self, position: Expr | int, source: Expr | int, tile: Expr | int) -> Expr:
        cut = self._cut
        line = (position * cut.sources + source) * cut.chunk_tiles + tile
        return 2 * self._num_sums + line * cut.width

    # ---- products

    def _sum(self, position: Expr | int, tile: Expr | int) -> Expr:
        return (position * self._cut.chunk_tiles + tile) * self._panel_outputs

    def _multiply(self, chunk: Expr, panel: Expr) -> None:
        from tvm.tirx.script.builder import ir as T

        cut = self._cut
        usual = cut.chunk_tiles
        last = (cut.grid[0] - (cut.chunks - 1) * cut.rows) * cut.grid[1]
        size = cut.sources * cut.width * self._panel_outputs
        with T.serial(0, cut.positions) as position:
            weights = T.Bind((panel * cut.positions + position) * size)
            if last == usual:
                self._pieces(position, weights, usual)
            else:
                with T.If(chunk < cut.chunks - 1):
                    with T.Then():
                        self._pieces(position, weights, usual)
                    with T.Else():
                        self._pieces(position, weights, last)

    def _pieces(self, position: Expr, weights: Expr, tiles: int) -> None:
        from tvm.tirx.script.builder import ir as T

        for start, number, size in segments(tiles, self._cut.tiles):
            with T.serial(0, number) as piece:
                self._piece(position, weights, start + piece * size, size)

    def _piece(self, position: Expr, weights: Expr, tile: Expr, tiles: int) -> None:
        """Sum the products of some tiles and one panel over all input channels."""
        from tvm.tirx.script.builder import ir as T

        cut, isa = self._cut, self._isa
        sums = T.alloc_buffer((tiles * self._panel_outputs,), "int32", scope="local")
        places = [
            [isa.ramp((number * cut.vectors + part) * isa.lanes) for part in range(cut.vectors)]
            for number in range(tiles)
        ]
        for place in (place for row in places for place in row):
            T.buffer_store(sums, isa.splat_int(0), [place])
        steps = cut.width // isa.word_group
        packed = self._draft.constants[0]
        with T.serial(0, cut.sources) as source:
            inputs = [
                isa.load_words(self._words, self._word(position, source, tile + number), cut.width)
                for number in range(tiles)
            ]
            for step in range(steps):
                index = weights + (source * steps + step) * self._panel_outputs * isa.word_group
                factors = isa.word_weights(packed, index, cut.vectors)
                for x, row in zip(inputs, places, strict=True):
                    before = [sums[place] for place in row]
                    after = isa.multiply_words(before, x[step], factors)
                    for place, total in zip(row, after, strict=True):
                        T.buffer_store(sums, total, [place])
        for number, row in enumerate(places):
            for part, place in enumerate(row):
                target = self._sum(position, tile + number) + part * isa.lanes
                T.buffer_store(self._sums, sums[place], [isa.ramp(target)])

    # ---- results

    def _transform_sums(self, first: Expr, rows: Expr, panel: Expr) -> None:
        from tvm.tirx.script.builder import ir as T

        cut = self._cut
        whole, rest = divmod(self._y.height, cut.m)
        inner = T.Bind(T.min(rows, whole - first)) if rest else rows
        parts = self._y.lanes // self._isa.lanes
        vectors = T.Bind(T.min(cut.vectors, self._y.blocks * parts - panel * cut.vectors))
        with T.serial(0, vectors) as part:
            with T.serial(0, inner) as row:
                self._row_of_tiles(first, row, panel, part, cut.m)
            if rest:
                with T.If(T.EQ(first + rows, cut.grid[0])), T.Then():
                    self._row_of_tiles(first, rows - 1, panel, part, rest)

    def _row_of_tiles(self, first: Expr, row: Expr, panel: Expr, part: Expr, high: int) -> None:
        from tvm.tirx.script.builder import ir as T

        cut = self._cut
        for start, number, wide in segments(self._y.width, cut.m):
            with T.serial(0, number) as step:
                column = start // cut.m + step
                self._finish_tile(first, row, column, panel, part, (high, wide))

    def _finish_tile(
        self,
        first: Expr,
        row: Expr,
        column: Expr,
        panel: Expr,
        part: Expr,
        shape: tuple[int, int],
    ) -> None:
        """Transform the sums of one tile and one vector, of which `shape` pixels exist."""
        from tvm.tirx.script.builder import ir as T

        cut, isa = self._cut, self._isa
        vector = T.Bind(panel * cut.vectors + part)
        start = T.Bind(self._sum(0, row * cut.grid[1] + column) + part * isa.lanes)
        bias = T.Bind(self._draft.constants[1][isa.ramp(vector * isa.lanes)])
        factor = T.Bind(self._draft.constants[2][isa.ramp(vector * isa.lanes)])
        columns = []
        for wide in range(cut.size):
            values = [
                T.Bind(self._sums[isa.ramp(start + self._sum(high * cut.size + wide, 0))])
                for high in range(cut.size)
            ]
            columns.append(transform_outputs(values, isa.splat_int, T.Bind))
        for high in range(shape[0]):
            totals = transform_outputs([values[high] for values in columns], isa.splat_int, T.Bind)
            scaled = [
                isa.fence(isa.to_float(self._exact(total, high, wide) + bias) * factor)
                for wide, total in enumerate(totals[: shape[1]])
            ]
            line = (first + row) * cut.m + high
            self._store(vector, line, column * cut.m, scaled)

    def _exact(self, total: Expr, high: int, wide: int) -> Expr:
        """Return the convolution that a transformed sum stands for."""
        isa, m = self._isa, self._cut.m
        if INVERSE[m] != 1:
            total = total * isa.splat_int(INVERSE[m])
        return total >> isa.splat_int(shift_of(m, high, wide))

    def _store(self, vector: Expr, row: Expr, column: Expr, scaled: Sequence[Expr]) -> None:
        """Requantize a vector of channels at neighbouring pixels of one row."""
        isa, add = self._isa, self._op.add
        result = self._result
        rule = LevelRule(
            zero_point=result.zero_point,
            low=result.low,
            high=result.high,
            limit=self._limit,
        )
        if add is not None:
            assert self._residual is not None
            sums = []
            for number, value in enumerate(scaled):
                index = self._place(self._residual, vector, row, column + number)
                (other,) = isa.load_levels(self._draft.reads[1], index, add.second_zero_point)
                left = isa.rounded(value, rule) * isa.splat(add.first_multiplier)
                right = isa.to_float(other) * isa.splat(add.second_multiplier)
                sums.append(isa.fence(left) + isa.fence(right))
            scaled = sums
            rule = LevelRule(zero_point=add.zero_point, low=add.low, high=add.high)
        runs = [
            Run(self._place(self._y, vector, row, column + number), (value,))
            for number, value in enumerate(scaled)
        ]
        isa.store_levels(self._draft.writes[0], runs, rule)

    def _place(self, volume: Volume, vector: Expr, row: Expr, column: Expr) -> Expr:
        parts = volume.lanes // self._isa.lanes
        return volume.at(vector // parts, row, column) + vector % parts * self._isa.lanes

    def _fill(self, first: Expr, rows: Expr, start: Expr, stop: Expr) -> None:
        """Fill the padding of the blocks whose last vector lies in this item's panels."""
        from tvm.tirx.script.builder import ir as T

        cut = self._cut
        parts = self._y.lanes // self._isa.lanes
        end = T.min((first + rows) * cut.m, self._y.height)
        done = T.Bind(start * cut.vectors // parts)
        blocks = T.Bind(T.min(T.truncdiv(stop * cut.vectors, parts), self._y.blocks))
        last = T.Select(T.EQ(stop, cut.panels), self._y.blocks, blocks)
        with T.serial(done, last) as block:
            fill_rows(self._draft.writes[0], self._y, block, first * cut.m, end)
