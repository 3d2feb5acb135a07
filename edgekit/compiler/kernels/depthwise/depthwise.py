"""Convolve every channel with a kernel of its own: float32 by register tiles, levels exactly.

A loaded vector of inputs meets every output of the tile that uses it. A tile's rows of inputs are
unrolled while the code stays small; the rows of a large kernel are a loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np

from edgekit.compiler.kernels.border import fill_rows
from edgekit.compiler.kernels.convolution.result import Pixel, ResultWriter
from edgekit.compiler.kernels.depthwise.levels import LevelTaps, LevelWindows, fits_windows
from edgekit.compiler.kernels.depthwise.packing import (
    by_block,
    depthwise_layer,
    largest_sum,
    level_constants,
)
from edgekit.compiler.kernels.depthwise.tile import (
    ColumnPiece,
    TileAt,
    columns_of,
    even_pieces,
    rows_of,
)
from edgekit.compiler.kernels.draft import Draft, cut_rows

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.graph.operators import Convolution
    from edgekit.compiler.kernels.convolution.geometry import Layer
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.kernel import Built
    from edgekit.compiler.kernels.volume import Volume

    Expr: TypeAlias = tvm.tirx.PrimExpr

_MOST_PRODUCTS = 200  # of a tile, unrolled
_EXACT_BELOW = 2.0**24  # whole numbers up to here are float32 values


class RegisterTile(msgspec.Struct, frozen=True):
    """Say how many outputs of a block are computed at once."""

    rows: int
    columns: int


def build_depthwise(
    op: Convolution,
    reads: tuple[Volume, ...],
    write: Volume,
    isa: Isa,
    tile: RegisterTile | None = None,
) -> Built:
    """Build the kernel of a depthwise convolution; items are rows of one block of channels.

    Args:
        op: The operator, with as many groups as channels and outputs; zero points in terms of
            `isa.level_dtype`.
        reads: Layouts of the input, padded at least as `required_pads` says, and of the residual
            when there is one.
        write: Layout of the result.
        isa: Instruction set.
        tile: Outputs computed at once; chosen by shape when left out.

    Returns:
        The kernel; constants are packed weights, bias, and multipliers for levels.
    """
    assert op.weights.shape[1] == 1, op.weights.shape
    assert len(op.weights) == op.groups == reads[0].channels, op.weights.shape
    layer = depthwise_layer(op, reads, write)
    tile = tile or choose_register_tile(layer, isa)
    method: FloatTaps | LevelTaps | LevelWindows
    if not layer.is_integer or uses_floats(layer, isa):
        method = FloatTaps(layer, isa)
    elif fits_windows(layer, isa, tile.columns):
        method = LevelWindows(layer, isa)
    else:
        method = LevelTaps(layer, isa)
    return _build(layer, isa, tile, method)


def uses_floats(layer: Layer, isa: Isa) -> bool:
    """Return whether levels are multiplied as floats: as long as every sum is exact in float32.

    Windows of four inputs are as fast for rows of three or four taps, and slower for five, which
    take two windows.
    """
    pixels = isa.window_pixels
    fills_windows = pixels > 0 and -layer.kernel[1] % pixels <= 1
    if not isa.float_products or fills_windows or layer.x.lanes != isa.lanes:
        return False
    return largest_sum(layer) < _EXACT_BELOW


def choose_register_tile(layer: Layer, isa: Isa) -> RegisterTile:
    """Choose a tile by the shape of a layer and the number of registers."""
    height, width = layer.y.height, layer.y.width
    if layer.is_integer and not uses_floats(layer, isa):
        rows, columns = _level_tile(layer, isa)
        return RegisterTile(min(rows, height), min(columns, width))
    is_small, is_strided = layer.kernel[1] <= 3, layer.strides[1] > 1
    if isa.num_registers < 32 and is_small and (layer.is_integer or is_strided):
        rows, columns = (2, 4) if layer.is_integer else (2, 2)
    elif isa.num_registers < 32 or not is_small:
        rows, columns = 1, 7
    else:
        rows, columns = (2, 4) if is_strided else (2, 7)
    return RegisterTile(min(rows, height), min(columns, width))


def _level_tile(layer: Layer, isa: Isa) -> tuple[int, int]:
    is_small = layer.kernel[0] <= 3
    if isa.level_block > isa.lanes:
        # A pixel takes several accumulators: two rows only where they share what is loaded.
        return (2, 2) if isa.window_pixels or not is_small else (1, 2)
    return (4 if is_small and layer.y.height >= 8 else 2), 4


def _build(
    layer: Layer, isa: Isa, tile: RegisterTile, method: FloatTaps | LevelTaps | LevelWindows
) -> Built:
    from tvm.tirx.script.builder import ir as T

    write, parts = layer.y, layer.x.lanes // isa.lanes
    slices = cut_rows(layer.x.blocks, write.height, multiple=tile.rows)
    writer = ResultWriter(layer, isa)
    reads = [layer.x, *([layer.residual] if layer.residual is not None else [])]
    unit = min(parts, writer.ratio)
    ratio = layer.x.lanes // write.lanes

    with Draft(reads, [write], method.constants) as draft, draft.items() as item:
        block, first, last = slices.piece(item)

        def compute(place: TileAt) -> None:
            sums = method.sums(draft, place)
            pixels = [
                Pixel(place.row + r, place.column + c)
                for r in range(place.rows)
                for c in range(place.columns)
            ]
            vectors = (block * parts, parts)
            writer.write(draft, vectors, pixels, place.columns, lambda p, v: sums[p][v], unit)

        def line(row: Expr | int, rows: int) -> None:
            for piece in method.pieces(tile.columns):
                with T.serial(0, piece.count) as index:
                    compute(
                        TileAt(
                            block=block,
                            row=row,
                            column=piece.start + index * piece.size,
                            rows=rows,
                            columns=piece.size,
                            shift=piece.shift,
                        )
                    )

        whole, rest = divmod(write.height, tile.rows)
        if whole:
            with T.serial(0, (last - first) // tile.rows) as index:
                line(first + index * tile.rows, tile.rows)
        if rest:
            with T.If(T.EQ(last, write.height)), T.Then():
                line(write.height - rest, rest)
        for part in range(ratio):
            fill_rows(draft.writes[0], write, block * ratio + part, first, last)
    return draft.built(slices.num_items)


class FloatTaps:
    """Multiply float32 inputs and weights tap by tap; levels and their weights become floats."""

    def __init__(self, layer: Layer, isa: Isa) -> None:
        self._layer, self._isa = layer, isa
        weights = by_block(layer.weights.astype(np.float32), layer.x)
        if layer.is_integer:
            bias, factors = level_constants(layer)
            self.constants = [weights, bias.astype(np.float32), factors]
        else:
            self.constants = [weights, by_block(layer.bias, layer.x)]

    def pieces(self, columns: int) -> list[ColumnPiece]:
        """Cut a row into tiles."""
        return even_pieces(self._layer.y.width, columns)

    def sums(self, draft: Draft, tile: TileAt) -> list[list[Expr]]:
        """Write the code of a tile and return each pixel's vectors."""
        from tvm.tirx.script.builder import ir as T

        layer, lanes = self._layer, self._isa.lanes
        rows, columns = tile.rows, tile.columns
        height, width = layer.kernel
        places = [self._isa.ramp(number * lanes) for number in range(rows * columns)]
        totals = T.alloc_buffer((rows * columns * lanes,), "float32", scope="local")
        start = T.Bind(draft.constants[1][self._isa.ramp(tile.block * lanes)])
        for place in places:
            T.buffer_store(totals, start, [place])
        at = T.Bind(tile.first_input(layer))
        weights = T.Bind(tile.block * (height * width * lanes))
        line = layer.x.columns * lanes

        def row_of_inputs(index: Expr, uses: list[tuple[int, Expr | int]]) -> None:
            """Multiply one row of inputs; `uses` are (row of the tile, row of the kernel)."""
            factors = {
                (r, kw): T.Bind(
                    draft.constants[0][self._isa.ramp(weights + (kh * width + kw) * lanes)]
                )
                for r, kh in uses
                for kw in range(width)
            }
            for j, taps in columns_of(layer, columns).items():
                value = T.Bind(self._input(draft, index + j * lanes))
                for r, _ in uses:
                    for c, kw in taps:
                        place = places[r * columns + c]
                        total = self._isa.multiply_add(totals[place], value, factors[r, kw])
                        T.buffer_store(totals, total, [place])

        if height * width * rows * columns <= _MOST_PRODUCTS:
            for i, uses in rows_of(layer, rows).items():
                row_of_inputs(at + i * line, uses)
        else:
            with T.serial(0, height) as kh:
                for r in range(rows):
                    i = r * layer.strides[0] + kh * layer.dilations[0]
                    row_of_inputs(at + i * line, [(r, kh)])
        return [[totals[place]] for place in places]

    def _input(self, draft: Draft, index: Expr) -> Expr:
        if not self._layer.is_integer:
            return draft.reads[0][self._isa.ramp(index)]
        (levels,) = self._isa.load_levels(draft.reads[0], index, 0)
        return self._isa.to_float(levels)
