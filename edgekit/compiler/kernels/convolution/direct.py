"""Convolutions and matrix products by constant weights, float32 and levels, on any vector unit.

Items are (output block, lines of the image); the loops of an item are over its tiles, those of a
tile over input blocks, kernel rows, kernel columns and steps (`convolution_tile`). What becomes of
the sums is in `convolution_result`.

Integer accumulators are int32 without any narrower sum in between, whatever the instruction set;
the input's zero point is part of the bias, so padding must hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from edgekit.compiler.graph.operators import Convolution, Dense
from edgekit.compiler.kernels.border import fill_rows
from edgekit.compiler.kernels.convolution.cuts import Cut, bound, cut_evenly, divided
from edgekit.compiler.kernels.convolution.geometry import Layer, layer_of
from edgekit.compiler.kernels.convolution.packing import packed_constants
from edgekit.compiler.kernels.convolution.register_tile import OutputBlock, TileCode
from edgekit.compiler.kernels.convolution.result import Pixel, ResultWriter
from edgekit.compiler.kernels.convolution.tiles import Tile
from edgekit.compiler.kernels.draft import Draft
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.kernel import Built
from edgekit.compiler.kernels.volume import Volume

if TYPE_CHECKING:
    import tvm

    Expr: TypeAlias = tvm.tirx.PrimExpr


def build_convolution(
    op: Convolution | Dense, reads: Sequence[Volume], write: Volume, isa: Isa, tile: Tile
) -> Built:
    """Build the kernel of a convolution or of a matrix product by constant weights.

    Args:
        op: The operator; zero points in terms of `isa.level_dtype`.
        reads: Layouts of the input, padded at least as `required_pads` says, and of the residual
            when there is one. Images in blocks, or few channels with any number of lanes; matrices
            as one block.
        write: Layout of the result; its blocks are `isa.float_block` or `isa.level_block` wide.
        isa: Instruction set.
        tile: How to cut the work.

    Returns:
        The kernel; constants are packed weights, bias, and multipliers for levels.
    """
    layer = layer_of(op, reads, write, isa)
    kernel = _Kernel(layer, isa, tile)
    volumes = [layer.x, *([layer.residual] if layer.residual is not None else [])]
    constants = packed_constants(layer, isa, kernel.blocks.sizes)
    with Draft(volumes, [layer.y], constants) as draft:
        kernel.emit(draft)
    return draft.built(kernel.num_items)


class _Kernel:
    """Write the loops over items and tiles."""

    def __init__(self, layer: Layer, isa: Isa, tile: Tile) -> None:
        self._layer, self._isa, self._tile = layer, isa, tile
        y = layer.y
        self._is_line = y.height == 1
        self._rows = cut_evenly(y.height, min(tile.rows, y.height))
        self._columns = cut_evenly(y.width, min(tile.columns, y.width))
        self._vectors = layer.group_vectors(isa.lanes)
        self._result = ResultWriter(layer, isa)
        unit = self._result.common_vectors(tile.vectors, self._vectors)
        self.blocks = cut_evenly(self._vectors, min(tile.vectors, self._vectors), unit)
        # What the first vector of every output block is a multiple of.
        self._unit = self._result.common_vectors(*self.blocks.sizes, self._vectors)
        lines = self._columns if self._is_line else self._rows
        self._chunks = cut_evenly(lines.count, _tiles_in(tile.lines, lines))
        self.num_items = layer.groups * self.blocks.count * self._chunks.count

    def emit(self, draft: Draft) -> None:
        """Write the whole kernel."""
        from tvm.tirx.script.builder import ir as T

        self._draft = draft
        # Always 0, which LLVM cannot know.
        self._hidden = bound(T.min(draft.begin, 0)) if self._isa.opaque_loops else None
        with draft.items() as item:
            if self._tile.order == "outputs":
                number, chunk = divided(item, self._chunks.count)
            else:
                chunk, number = divided(item, self._layer.groups * self.blocks.count)
            group, place = divided(number, self.blocks.count)
            for kind, piece in enumerate(self.blocks.pieces):
                if len(self.blocks.pieces) == 1:
                    self._item(group, place, piece.size, chunk)
                    continue
                border = self.blocks.pieces[1].first
                with T.If(place < border if kind == 0 else place >= border), T.Then():
                    self._item(group, place, piece.size, chunk)

    def _item(self, group: Expr | int, place: Expr | int, vectors: int, chunk: Expr | int) -> None:
        """Compute one output block of some lines."""
        first = bound(group * self._vectors + self.blocks.start_of(place))
        weights = bound(first * (self._layer.num_steps(self._isa) * self._layer.step(self._isa)))
        block = OutputBlock(group, first, vectors, weights)
        begin = bound(self._chunks.start_of(chunk))
        end = bound(self._chunks.start_of(chunk + 1))
        lines = (0, 1) if self._is_line else (begin, end)
        whole = (begin, end) if self._is_line else (0, self._columns.count)
        for high in self._rows.pieces:
            with self._rows.loop(high, *lines) as row:
                for wide in self._columns.pieces:
                    with self._columns.loop(wide, *whole) as column:
                        self._tile_at(block, row, column, (high.size, wide.size))
        if self._layer.y.is_padded:
            first_row, last_row = (bound(self._rows.start_of(line)) for line in lines)
            self._fill(block, first_row, last_row)

    def _tile_at(
        self, block: OutputBlock, row: Expr | int, column: Expr | int, shape: tuple[int, int]
    ) -> None:
        row, column = bound(row), bound(column)
        rows, columns = shape
        pixels = [
            Pixel(row + down, column + right) for down in range(rows) for right in range(columns)
        ]
        tile = TileCode(
            *(self._layer, self._isa, self._draft, block, pixels),
            unroll=self._tile.unroll,
            hidden=self._hidden,
        )
        tile.clear()
        tile.reduce()
        vectors = (block.first_vector, block.vectors)
        self._result.write(self._draft, vectors, pixels, columns, tile.sum_of, self._unit)

    def _fill(self, block: OutputBlock, first: Expr | int, last: Expr | int) -> None:
        """Fill the padding of those blocks of the result that start in an output block."""
        from tvm.tirx.script.builder import ir as T

        y, ratio = self._layer.y, self._result.ratio
        is_aligned = self._unit % ratio == 0
        for number in range(0, block.vectors, ratio if is_aligned else 1):
            vector = block.first_vector + number
            if is_aligned:
                fill_rows(self._draft.writes[0], y, vector // ratio, first, last)
                continue
            with T.If(T.EQ(vector % ratio, 0)), T.Then():
                fill_rows(self._draft.writes[0], y, vector // ratio, first, last)


def _tiles_in(size: int, lines: Cut) -> int:
    """Return how many tiles of a line cut make up about `size` lines."""
    return min(max(size // lines.pieces[0].size, 1), lines.count)
