"""Turn a tile's sums into results: residual, activation, requantization, and the stores.

Vectors that lie side by side in memory are handed to the instruction set together: levels are
packed several vectors at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from edgekit.compiler.graph.operators import ToFloat, ToLevels
from edgekit.compiler.kernels.convolution.geometry import Layer
from edgekit.compiler.kernels.convolution.packing import scaled_bound
from edgekit.compiler.kernels.draft import Draft
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.isa.forms import LevelRule, Run
from edgekit.compiler.kernels.values.functions import apply
from edgekit.compiler.kernels.volume import Volume

if TYPE_CHECKING:
    import tvm

    Expr: TypeAlias = tvm.tirx.PrimExpr

SumOf = Callable[[int, int], "Expr"]


class Pixel(NamedTuple):
    """Hold the place of one pixel of the result."""

    row: Expr | int
    column: Expr | int


class _Part(NamedTuple):
    """Name vectors of a tile that lie side by side: (pixel, vector) each."""

    members: list[tuple[int, int]]


class ResultWriter:
    """Write the code behind the reduction of a layer's tiles."""

    def __init__(self, layer: Layer, isa: Isa) -> None:
        self._layer, self._isa = layer, isa
        self._valid = 0
        if layer.y.blocks == 1 and layer.y.lanes % isa.lanes:
            self._valid = layer.y.lanes % isa.lanes

    @property
    def ratio(self) -> int:
        """Return how many vectors make up one block of the result."""
        y = self._layer.y
        return 1 if y.blocks == 1 and y.lanes % self._isa.lanes else y.lanes // self._isa.lanes

    @property
    def _is_one_block(self) -> bool:
        return self._layer.y.blocks == 1

    def common_vectors(self, *counts: int) -> int:
        """Return the largest number of vectors that divides a block and all counts."""
        return 1 if self._is_one_block else math.gcd(self.ratio, *counts)

    def write(
        self,
        draft: Draft,
        vectors: tuple[Expr | int, int],
        pixels: Sequence[Pixel],
        columns: int,
        sum_of: SumOf,
        unit: int,
    ) -> None:
        """Finish and store a tile.

        Args:
            draft: The kernel.
            vectors: First output vector and their number.
            pixels: Pixels of the tile, row by row.
            columns: Pixels in a row.
            sum_of: Gives the sum of (pixel, vector).
            unit: What the first vector of every block is a multiple of.
        """
        from tvm.tirx.script.builder import ir as T

        first, count = vectors
        tile = _Finish(self._layer, self._isa, draft, first, pixels, sum_of, unit)
        if not self._valid:
            tile.store(self._parts(count, len(pixels), columns, unit))
            return
        total = self._layer.group_vectors(self._isa.lanes)
        is_last = T.EQ(T.int32(first) if isinstance(first, int) else first, total - count)
        with T.If(is_last):
            with T.Then():
                if count > 1:
                    tile.store(self._parts(count - 1, len(pixels), columns, unit))
                for pixel in range(len(pixels)):
                    tile.store_few(pixel, count - 1, self._valid)
            with T.Else():
                tile.store(self._parts(count, len(pixels), columns, unit))

    def _parts(self, count: int, num_pixels: int, columns: int, unit: int) -> list[_Part]:
        """Return which vectors of a tile lie side by side."""
        if self._is_one_block and self._layer.y.lanes != self._isa.lanes:
            return [_Part([(p, v) for v in range(count)]) for p in range(num_pixels)]
        parts = []
        for start in range(0, count, unit):
            together = list(range(start, start + unit))
            rows = range(0, num_pixels, columns)
            if unit == self.ratio:
                parts += [
                    _Part([(p, v) for p in range(row, row + columns) for v in together])
                    for row in rows
                ]
            else:
                parts += [_Part([(p, v) for v in together]) for p in range(num_pixels)]
        return parts


class _Finish:
    def __init__(
        self,
        layer: Layer,
        isa: Isa,
        draft: Draft,
        first: Expr | int,
        pixels: Sequence[Pixel],
        sum_of: SumOf,
        unit: int,
    ) -> None:
        self._layer, self._isa, self._draft = layer, isa, draft
        self._first, self._pixels, self._sum_of, self._unit = first, pixels, sum_of, unit

    def store(self, parts: Sequence[_Part]) -> None:
        from tvm.tirx.script.builder import ir as T

        layer, y = self._layer, self._draft.writes[0]
        if isinstance(layer.result, ToLevels):
            runs = [self._run(part) for part in parts]
            self._isa.store_levels(y, runs, self._last_rule())
            return
        for part in parts:
            for pixel, vector in part.members:
                residual = None
                if layer.residual is not None:
                    at = self._index(layer.residual, pixel, vector)
                    residual = self._draft.reads[1][self._isa.ramp(at)]
                value = self._float(self._sum_of(pixel, vector), vector, residual)
                T.buffer_store(y, value, [self._isa.ramp(self._index(layer.y, pixel, vector))])

    def store_few(self, pixel: int, vector: int, count: int) -> None:
        """Store the first values of a vector; a matrix's row need not end with a whole one."""
        from tvm.tirx.script.builder import ir as T

        layer, isa = self._layer, self._isa
        values = T.alloc_buffer((isa.lanes,), layer.y.dtype, scope="local")
        read = None
        if layer.residual is not None:
            read = T.alloc_buffer((isa.lanes,), layer.residual.dtype, scope="local")
            at = self._index(layer.residual, pixel, vector)
            for lane in range(isa.lanes):
                value = self._draft.reads[1][at + min(lane, count - 1)]
                T.buffer_store(read, value, [lane])
        if isinstance(layer.result, ToLevels):
            added = None
            if read is not None:
                assert layer.add is not None
                added = isa.load_levels(read, 0, layer.add.second_zero_point)[0]
            scaled = self._scaled(pixel, vector, added)
            isa.store_levels(values, [Run(0, (scaled,))], self._last_rule())
        else:
            residual = None if read is None else read[isa.ramp(0)]
            value = self._float(self._sum_of(pixel, vector), vector, residual)
            T.buffer_store(values, value, [isa.ramp(0)])
        at = self._index(layer.y, pixel, vector)
        for lane in range(count):
            T.buffer_store(self._draft.writes[0], values[lane], [at + lane])

    # ---- values

    def _float(self, total: Expr, vector: int, residual: Expr | None) -> Expr:
        layer = self._layer
        if isinstance(layer.result, ToFloat):
            total = self._isa.to_float(total) * self._factors(vector)
        if residual is not None:
            total = total + residual
        if layer.activation is not None:
            total = apply(layer.activation, total, self._isa)
        return total

    def _factors(self, vector: int) -> Expr:
        at = (self._first + vector) * self._isa.lanes
        return self._draft.constants[2][self._isa.ramp(at)]

    def _run(self, part: _Part) -> Run:
        layer = self._layer
        pixel, vector = part.members[0]
        added: Sequence[Expr | None] = [None] * len(part.members)
        if layer.residual is not None:
            assert layer.add is not None
            at = self._index(layer.residual, pixel, vector)
            added = self._isa.load_levels(
                self._draft.reads[1], at, layer.add.second_zero_point, len(part.members)
            )
        scaled = [
            self._scaled(*member, levels)
            for member, levels in zip(part.members, added, strict=True)
        ]
        return Run(self._index(layer.y, pixel, vector), tuple(scaled))

    def _scaled(self, pixel: int, vector: int, added: Expr | None) -> Expr:
        """Return what is left to be rounded."""
        from tvm.tirx.script.builder import ir as T

        layer, isa = self._layer, self._isa
        total = isa.to_float(self._sum_of(pixel, vector))
        scaled = T.Bind(isa.fence(total * self._factors(vector)))
        if added is None:
            return scaled
        assert layer.add is not None
        own = isa.rounded(scaled, self._own_rule()) * isa.splat(layer.add.first_multiplier)
        other = isa.to_float(added) * isa.splat(layer.add.second_multiplier)
        return T.Bind(isa.fence(own) + isa.fence(other))

    def _own_rule(self) -> LevelRule:
        result = self._layer.result
        assert isinstance(result, ToLevels)
        return LevelRule(
            zero_point=result.zero_point,
            low=result.low,
            high=result.high,
            limit=scaled_bound(self._layer),
        )

    def _last_rule(self) -> LevelRule:
        add = self._layer.add
        if add is None:
            return self._own_rule()
        reach = 256 * (abs(add.first_multiplier) + abs(add.second_multiplier))
        return LevelRule(zero_point=add.zero_point, low=add.low, high=add.high, limit=reach)

    # ---- places

    def _index(self, volume: Volume, pixel: int, vector: int) -> Expr | int:
        """Return where the first value of a pixel's vector lies."""
        place, lanes = self._pixels[pixel], self._isa.lanes
        if volume.blocks == 1:
            return volume.at(0, *place) + (self._first + vector) * lanes
        ratio = volume.lanes // lanes
        if self._unit == ratio:
            block = self._first // ratio + vector // ratio
            return volume.at(block, *place) + vector % ratio * lanes
        number = self._first + vector
        return volume.at(number // ratio, *place) + number % ratio * lanes
