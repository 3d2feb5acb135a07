"""Depthwise products of levels, exact in int32: tap by tap, or four neighbouring inputs at once.

Windows: the inputs an output row needs lie side by side in memory. Four neighbouring pixels of a
block are turned so that each channel's four levels lie together; one step of an integer dot product
then takes four taps. A kernel of three columns leaves one place of a window empty, so the same
window serves two outputs, whose weights are placed one apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from edgekit.compiler.kernels.depthwise.packing import by_block, level_constants, window_weights
from edgekit.compiler.kernels.depthwise.tile import ColumnPiece, TileAt, even_pieces, rows_of

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.kernels.convolution.geometry import Layer
    from edgekit.compiler.kernels.draft import Draft
    from edgekit.compiler.kernels.isa.base import Isa, Loaded

    Buffer: TypeAlias = tvm.tirx.Buffer
    Expr: TypeAlias = tvm.tirx.PrimExpr

_MOST_PRODUCTS = 36  # of a tile, unrolled
_MOST_DOTS = 96


class LevelTaps:
    """Multiply levels and weights tap by tap, as the instruction set does it best."""

    def __init__(self, layer: Layer, isa: Isa) -> None:
        self._layer, self._isa = layer, isa
        self.constants = [by_block(layer.weights, layer.x), *level_constants(layer)]

    def pieces(self, columns: int) -> list[ColumnPiece]:
        """Cut a row into tiles."""
        return even_pieces(self._layer.y.width, columns)

    def sums(self, draft: Draft, tile: TileAt) -> list[list[Expr]]:
        """Write the code of a tile and return each pixel's vectors."""
        from tvm.tirx.script.builder import ir as T

        layer, isa = self._layer, self._isa
        lanes = layer.x.lanes
        height, width = layer.kernel
        pixels = [(r, c) for r in range(tile.rows) for c in range(tile.columns)]
        totals = Totals(draft, isa, tile, lanes)
        at = T.Bind(tile.first_input(layer))
        weights = T.Bind(tile.block * (height * width * lanes))
        line = layer.x.columns * lanes
        loaded: dict[tuple[int, int], Expr] = {}

        def input_at(kh: Expr | int, row: int, column: int) -> Expr:
            """Load an input once, where its place is known."""
            i = row * layer.strides[0] + kh * layer.dilations[0]
            index = isa.ramp(at + i * line + column * lanes, lanes)
            if not isinstance(i, int):
                return T.Bind(draft.reads[0][index])
            if (i, column) not in loaded:
                loaded[i, column] = T.Bind(draft.reads[0][index])
            return loaded[i, column]

        def add_rows(rows: list[Expr | int]) -> None:
            taps = [(kh, kw) for kh in rows for kw in range(width)]
            factors = [
                T.Bind(draft.constants[0][isa.ramp(weights + (kh * width + kw) * lanes, lanes)])
                for kh, kw in taps
            ]
            for number, (r, c) in enumerate(pixels):
                inputs = [
                    input_at(kh, r, c * layer.strides[1] + kw * layer.dilations[1])
                    for kh, kw in taps
                ]
                sums = isa.multiply_taps(totals.of(number), list(zip(inputs, factors, strict=True)))
                totals.store(number, sums)

        if height * width * len(pixels) <= _MOST_PRODUCTS:
            add_rows(list(range(height)))
        else:
            with T.serial(0, height) as kh:
                add_rows([kh])
        return totals.all()


class Totals:
    """Hold the int32 accumulators of a tile; they start with the bias."""

    def __init__(self, draft: Draft, isa: Isa, tile: TileAt, lanes: int) -> None:
        from tvm.tirx.script.builder import ir as T

        self._isa, self._parts = isa, lanes // isa.lanes
        self._pixels = tile.rows * tile.columns
        size = self._pixels * lanes
        self._buffer = T.alloc_buffer((size,), "int32", scope="local")
        bias = [
            T.Bind(draft.constants[1][isa.ramp(tile.block * lanes + part * isa.lanes)])
            for part in range(self._parts)
        ]
        for pixel in range(self._pixels):
            self.store(pixel, bias)

    def of(self, pixel: int) -> list[Expr]:
        """Return a pixel's vectors."""
        return [self._buffer[place] for place in self._places(pixel)]

    def all(self) -> list[list[Expr]]:
        """Return every pixel's vectors."""
        return [self.of(pixel) for pixel in range(self._pixels)]

    def store(self, pixel: int, vectors: list[Expr]) -> None:
        """Replace a pixel's vectors."""
        from tvm.tirx.script.builder import ir as T

        for place, vector in zip(self._places(pixel), vectors, strict=True):
            T.buffer_store(self._buffer, vector, [place])

    def add_dots(
        self, pixel: int, inputs: list[Loaded], weights: Buffer, index: Expr | int
    ) -> None:
        """Add the dot products of a window."""
        from tvm.tirx.script.builder import ir as T

        isa = self._isa
        size = isa.lanes * isa.window_pixels
        for part, place in enumerate(self._places(pixel)):
            total = isa.dot(self._buffer[place], inputs[part], weights, index + part * size)
            T.buffer_store(self._buffer, total, [place])

    def _places(self, pixel: int) -> list[Expr]:
        lanes = self._isa.lanes
        first = pixel * self._parts
        return [self._isa.ramp((first + part) * lanes) for part in range(self._parts)]


class Shape(NamedTuple):
    """Hold how outputs share windows.

    Args:
        windows: Windows side by side that hold all inputs of an output row.
        offsets: Places an output's first input may have within them.
        outputs: Neighbouring outputs that share them.
        spare: Inputs read behind the last one needed.
    """

    windows: int
    offsets: int
    outputs: int
    spare: int


def window_shape(layer: Layer, pixels: int) -> Shape:
    """Return how outputs share windows of `pixels` inputs."""
    width, stride = layer.kernel[1], layer.strides[1]
    windows = -(-width // pixels)
    offsets = windows * pixels - width + 1
    outputs = (offsets - 1) // stride + 1
    return Shape(windows, offsets, outputs, windows * pixels - (outputs - 1) * stride - width)


def fits_windows(layer: Layer, isa: Isa, columns: int) -> bool:
    """Return whether windows pay and never reach out of a row in memory."""
    if not isa.window_pixels or layer.dilations[1] != 1:
        return False
    shape = window_shape(layer, isa.window_pixels)
    if isa.level_block > isa.lanes and (shape.outputs == 1 or shape.windows > 1):
        return False  # turning that many vectors costs more than it saves
    if layer.y.width < shape.outputs:
        return False
    last = _pieces(layer, shape, columns)[-1]
    first_input = last.start * layer.strides[1] - layer.origin[1] - last.shift
    return first_input >= -layer.x.pads[1] and last.shift <= shape.spare


def _pieces(layer: Layer, shape: Shape, columns: int) -> list[ColumnPiece]:
    """Cut a row into groups of outputs that share windows; the last tile may repeat some.

    Its windows start further left when they would end behind the row.
    """
    width, stride, outputs = layer.y.width, layer.strides[1], shape.outputs
    size = min(max(columns, outputs), width) // outputs * outputs
    count, rest = divmod(width, size)
    cut = [ColumnPiece(0, count, size)]
    if rest:
        tail = -(-rest // outputs) * outputs
        cut.append(ColumnPiece(width - tail, 1, tail))
    needed = (width - 1) * stride - layer.origin[1] + layer.kernel[1]
    room = layer.x.width + layer.x.pads[3] - needed
    if room >= shape.spare:
        return cut
    last = cut.pop()
    if last.count > 1:
        cut.append(ColumnPiece(last.start, last.count - 1, size))
    start = last.start + (last.count - 1) * last.size
    return [*cut, ColumnPiece(start, 1, last.size, shape.spare - room)]


class LevelWindows:
    """Multiply windows of neighbouring inputs by integer dot products."""

    def __init__(self, layer: Layer, isa: Isa) -> None:
        self._layer, self._isa = layer, isa
        self._shape = shape = window_shape(layer, isa.window_pixels)
        weights = window_weights(layer, shape.offsets, shape.windows, isa.window_pixels)
        self.constants = [weights, *level_constants(layer)]

    def pieces(self, columns: int) -> list[ColumnPiece]:
        """Cut a row into tiles."""
        return _pieces(self._layer, self._shape, columns)

    def sums(self, draft: Draft, tile: TileAt) -> list[list[Expr]]:
        """Write the code of a tile and return each pixel's vectors."""
        from tvm.tirx.script.builder import ir as T

        layer, lanes = self._layer, self._layer.x.lanes
        totals = Totals(draft, self._isa, tile, lanes)
        at = T.Bind(tile.first_input(layer) - tile.shift * lanes)
        line = layer.x.columns * lanes
        steps = layer.kernel[0] * self._shape.windows * tile.rows * tile.columns
        if steps <= _MOST_DOTS:
            for i, uses in rows_of(layer, tile.rows).items():
                self._add_row(draft, tile, totals, at + i * line, uses)
        else:
            with T.serial(0, layer.kernel[0]) as kh:
                for r in range(tile.rows):
                    i = r * layer.strides[0] + kh * layer.dilations[0]
                    self._add_row(draft, tile, totals, at + i * line, [(r, kh)])
        return totals.all()

    def _add_row(
        self,
        draft: Draft,
        tile: TileAt,
        totals: Totals,
        at: Expr,
        uses: list[tuple[int, Expr | int]],
    ) -> None:
        """Add the products of one row of inputs to every output that uses it."""
        layer, isa, shape = self._layer, self._isa, self._shape
        size = layer.x.lanes * isa.window_pixels
        stride = layer.strides[1]
        for group in range(0, tile.columns, shape.outputs):
            for window in range(shape.windows):
                place = group * stride + window * isa.window_pixels
                inputs = isa.load_window(draft.reads[0], at + place * layer.x.lanes)
                for r, kh in uses:
                    row = tile.block * layer.kernel[0] + kh
                    for output in range(shape.outputs):
                        offset = row * shape.offsets + output * stride + tile.shift
                        weights = (offset * shape.windows + window) * size
                        totals.add_dots(
                            r * tile.columns + group + output, inputs, draft.constants[0], weights
                        )
