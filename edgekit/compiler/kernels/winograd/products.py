"""The multiplying part of Winograd: one matrix product over channels at each position of a tile.

Scratch holds transformed inputs and products position by position, in blocks of channels like an
image, so that both are written in long runs and the inner loop reads neighbouring pixels. While a
panel of weights is used, its lines' successors are asked for, a few at every step: weights come
from main memory, and without that a 512-channel layer takes 1.4 times as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from edgekit.compiler.kernels.draft import segments
from edgekit.compiler.kernels.winograd.blocking import Blocking, cut_tiles

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.kernels.isa.base import Isa

    Expr: TypeAlias = tvm.tirx.PrimExpr
    Buffer: TypeAlias = tvm.tirx.Buffer

_LINE = 16  # float32 values in a cache line
_MOST_UNROLLED = 4  # channels; with more, LLVM moves loads ahead until registers run out
_LEVEL_2 = 2  # locality of `llvm.prefetch`: beyond the L1 cache, which the panel in use fills


class Scratch:
    """Address a thread's scratch: transformed inputs, products, a strip of rows.

    Args:
        cut: Sizes of everything.
        isa: Instruction set.
        raw: Flat uint8 buffer.
    """

    def __init__(self, cut: Blocking, isa: Isa, raw: Buffer) -> None:
        from tvm.tirx.script.builder import ir as T

        self._cut, self._isa = cut, isa
        self.values = T.decl_buffer((cut.scratch_values,), "float32", data=raw.data)

    def input_at(self, position: Expr | int, block: Expr | int, tile: Expr | int) -> Expr:
        """Return the index of a transformed input."""
        cut = self._cut
        return position * cut.input_stride + (block * cut.chunk_tiles + tile) * cut.lanes

    def product_at(self, position: Expr | int, block: Expr | int, tile: Expr | int) -> Expr:
        """Return the index of a product; blocks count from the group's first."""
        cut = self._cut
        start = cut.positions * cut.input_stride + position * cut.product_stride
        return start + (block * cut.chunk_tiles + tile) * cut.lanes

    def strip_at(self, row: Expr | int, column: Expr | int) -> Expr:
        """Return the index of a value between the two sweeps over inputs."""
        cut = self._cut
        start = cut.positions * (cut.input_stride + cut.product_stride)
        return start + (row * cut.strip_columns + column) * cut.lanes

    def load(self, index: Expr) -> Expr:
        """Load a vector."""
        return self.values[self._isa.ramp(index)]

    def store(self, index: Expr, value: Expr) -> None:
        """Store a vector."""
        from tvm.tirx.script.builder import ir as T

        T.buffer_store(self.values, value, [self._isa.ramp(index)])


class Products:
    """Write the code that multiplies a chunk's inputs with a group's weights.

    Args:
        cut: How the work is cut.
        isa: Instruction set.
        scratch: Where inputs lie and products go.
        weights: Flat buffer, packed by groups, positions, panels, inputs.
    """

    def __init__(self, cut: Blocking, isa: Isa, scratch: Scratch, weights: Buffer) -> None:
        self._cut, self._isa, self._scratch, self._weights = cut, isa, scratch, weights

    def emit(self, chunk: Expr, group: Expr) -> None:
        """Loop over positions and panels."""
        from tvm.tirx.script.builder import ir as T

        cut = self._cut
        whole, rest = divmod(cut.output_blocks, cut.vectors)
        block_weights = cut.inputs * cut.lanes
        panels = T.Bind(T.min(cut.group_panels, whole - group * cut.group_panels))
        blocks = T.min(cut.group_blocks, cut.output_blocks - group * cut.group_blocks)
        position_weights = T.Bind(blocks * block_weights)
        first = T.Bind(group * (cut.group_blocks * cut.positions * block_weights))
        with T.serial(0, cut.positions) as position:
            start = T.Bind(first + position * position_weights)
            with T.serial(0, panels) as panel:
                weights = T.Bind(start + panel * (cut.vectors * block_weights))
                self._panel(chunk, (position, panel * cut.vectors, weights), cut.vectors)
            if rest:
                with T.If(T.EQ(group, cut.groups - 1)), T.Then():
                    weights = T.Bind(start + panels * (cut.vectors * block_weights))
                    self._panel(chunk, (position, panels * cut.vectors, weights), rest)

    def _panel(self, chunk: Expr, place: tuple[Expr, Expr, Expr], vectors: int) -> None:
        from tvm.tirx.script.builder import ir as T

        cut = self._cut
        if cut.last_tiles == cut.chunk_tiles:
            self._tiles(cut.chunk_tiles, place, vectors)
            return
        with T.If(chunk < cut.chunks - 1):
            with T.Then():
                self._tiles(cut.chunk_tiles, place, vectors)
            with T.Else():
                self._tiles(cut.last_tiles, place, vectors)

    def _tiles(self, count: int, place: tuple[Expr, Expr, Expr], vectors: int) -> None:
        from tvm.tirx.script.builder import ir as T

        size = self._cut.pixels
        whole, rest = cut_tiles(count, size)
        pieces = whole + len(rest)
        if whole:
            with T.serial(0, whole) as piece:
                self._tile(place, piece * size, (size, vectors), (piece, pieces))
        first = whole * size
        for number, pixels in enumerate(rest):
            self._tile(place, first, (pixels, vectors), (whole + number, pieces))
            first += pixels

    def _tile(
        self,
        place: tuple[Expr, Expr, Expr],
        tile: Expr | int,
        shape: tuple[int, int],
        share: tuple[Expr | int, int],
    ) -> None:
        """Sum a register tile over all input channels.

        Args:
            place: Position, first block of the panel within the group, index of its weights.
            tile: First tile of the chunk.
            shape: Pixels and vectors.
            share: Which part, of how many, of the next panel to ask for.
        """
        from tvm.tirx.script.builder import ir as T

        cut, (position, block, weights) = self._cut, place
        pixels, vectors = shape
        sums = T.alloc_buffer((pixels * vectors * cut.lanes,), "float32", scope="local")
        rows = [
            [self._isa.ramp((pixel * vectors + vector) * cut.lanes) for vector in range(vectors)]
            for pixel in range(pixels)
        ]
        for index in (index for row in rows for index in row):
            T.buffer_store(sums, self._isa.splat(0), [index])
        whole, rest = divmod(cut.inputs, cut.lanes)
        for start, number, channels in ((0, whole, cut.lanes), (whole, 1, rest)):
            if number and channels:
                with T.serial(0, number) as step:
                    source = start + step
                    self._ask_ahead(weights, source, vectors, share)
                    inputs = [
                        self._scratch.input_at(position, source, tile + pixel)
                        for pixel in range(pixels)
                    ]
                    at = weights + source * (cut.lanes * vectors * cut.lanes)
                    self._block(inputs, at, channels, sums, rows)
        for pixel, row in enumerate(rows):
            for vector, index in enumerate(row):
                product = self._scratch.product_at(position, block + vector, tile + pixel)
                self._scratch.store(product, sums[index])

    def _block(
        self,
        inputs: list[Expr],
        weights: Expr,
        channels: int,
        sums: Buffer,
        rows: list[list[Expr]],
    ) -> None:
        """Add the products of the first channels of one block of inputs."""
        from tvm.tirx.script.builder import ir as T

        width = len(rows[0]) * self._cut.lanes
        for start, number, size in segments(channels, _MOST_UNROLLED):
            with T.serial(0, number) as step:
                first = start + step * size
                places = [at + first for at in inputs]
                self._steps(places, weights + first * width, size, sums, rows)

    def _steps(
        self,
        inputs: list[Expr],
        weights: Expr,
        channels: int,
        sums: Buffer,
        rows: list[list[Expr]],
    ) -> None:
        from tvm.tirx.script.builder import ir as T

        isa, lanes, vectors = self._isa, self._cut.lanes, len(rows[0])
        for first in range(0, channels, isa.splat_group):
            count = min(isa.splat_group, channels - first)
            values = [isa.splats(self._scratch.values, at + first, count) for at in inputs]
            for step in range(count):
                at = weights + (first + step) * vectors * lanes
                panel = [
                    T.Bind(self._weights[isa.ramp(at + vector * lanes)])
                    for vector in range(vectors)
                ]
                for value, row in zip(values, rows, strict=True):
                    x = T.Bind(value[step]) if isa.splat_group == 1 else value[step]
                    for w, index in zip(panel, row, strict=True):
                        T.buffer_store(sums, isa.multiply_add(sums[index], x, w), [index])

    def _ask_ahead(
        self, weights: Expr, source: Expr, vectors: int, share: tuple[Expr | int, int]
    ) -> None:
        """Ask for a share of what lies one panel behind this block of weights.

        Behind the very last panel that is other memory, or none: such requests do nothing.
        """
        from tvm.tirx.script.builder import ir as T

        cut, (piece, pieces) = self._cut, share
        block = vectors * cut.lanes * cut.lanes
        lines = -(-block // (_LINE * pieces))
        first = weights + vectors * cut.lanes * cut.inputs + source * block
        for number in range(lines):
            index = first + (piece * lines + number) * _LINE
            address = T.address_of(self._weights[index])
            T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch.p0", address, 0, _LEVEL_2, 1))
