"""What poolings make of the values in a window."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgekit.compiler.kernels.isa.forms import LevelRule, Run

if TYPE_CHECKING:
    import tvm
    from numpy.typing import NDArray

    from edgekit.compiler.graph.operators import Pool
    from edgekit.compiler.kernels.draft import Draft
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.volume import Volume

    Buffer: TypeAlias = tvm.tirx.Buffer
    Expr: TypeAlias = tvm.tirx.PrimExpr
    Pixel: TypeAlias = list[Expr]  # the vectors of one pixel


class Values(ABC):
    """Load, combine and store the values of windows; a pixel may take several vectors."""

    constants: list[NDArray[Any]]

    def __init__(self, op: Pool, write: Volume, isa: Isa) -> None:
        self.op, self.write, self.isa = op, write, isa
        self.constants = []

    @abstractmethod
    def load(self, buffer: Buffer, index: Expr) -> Pixel:
        """Load a pixel of a block."""

    @abstractmethod
    def joined(self, first: Pixel, second: Pixel) -> Pixel:
        """Combine the values of two places."""

    @abstractmethod
    def neutral(self) -> Pixel:
        """Return what changes nothing it is combined with."""

    @abstractmethod
    def store(
        self,
        draft: Draft,
        block: Expr,
        corner: tuple[Expr, Expr],
        pixels: list[Pixel],
    ) -> None:
        """Finish and store neighbouring pixels of a row."""

    def combined(self, buffer: Buffer, indices: list[Expr]) -> Pixel:
        """Combine the pixels at some places, and bind what comes out."""
        from tvm.tirx.script.builder import ir as T

        total = self.load(buffer, indices[0])
        for index in indices[1:]:
            total = self.joined(total, self.load(buffer, index))
        return [T.Bind(vector) for vector in total]

    def accumulator(self) -> Accumulator:
        """Return an accumulator for a loop over places."""
        return Accumulator(self)


class Accumulator:
    """Hold a pixel in a local buffer."""

    def __init__(self, values: Values) -> None:
        from tvm.tirx.script.builder import ir as T

        self._values = values
        start = values.neutral()
        lanes = values.write.lanes
        self._places = [
            T.ramp(number * (lanes // len(start)), 1, lanes // len(start))
            for number in range(len(start))
        ]
        dtype = str(start[0].ty.dtype).split("x")[0]
        self._buffer = T.alloc_buffer((lanes,), dtype, scope="local")
        self._store(start)

    def add(self, buffer: Buffer, index: Expr) -> None:
        """Combine with one more place."""
        self._store(self._values.joined(self.values(), self._values.load(buffer, index)))

    def values(self) -> Pixel:
        """Return what was combined."""
        return [self._buffer[place] for place in self._places]

    def _store(self, pixel: Pixel) -> None:
        from tvm.tirx.script.builder import ir as T

        for place, vector in zip(self._places, pixel, strict=True):
            T.buffer_store(self._buffer, vector, [place])


class Maxima(Values):
    """Take the largest value; levels are compared as they are, a whole pixel at a time."""

    def load(self, buffer: Buffer, index: Expr) -> Pixel:
        """Load a pixel of a block."""
        from tvm.tirx.script.builder import ir as T

        return [T.Bind(buffer[T.ramp(index, 1, self.write.lanes)])]

    def joined(self, first: Pixel, second: Pixel) -> Pixel:
        """Return the larger values."""
        from tvm.tirx.script.builder import ir as T

        is_float = self.write.dtype == "float32" and self.write.lanes == self.isa.lanes
        larger = self.isa.maximum if is_float else T.max
        return [larger(a, b) for a, b in zip(first, second, strict=True)]

    def neutral(self) -> Pixel:
        """Return the lowest values there are."""
        from tvm.tirx.script.builder import ir as T

        return [T.broadcast(T.min_value(self.write.dtype), self.write.lanes)]

    def store(
        self,
        draft: Draft,
        block: Expr,
        corner: tuple[Expr, Expr],
        pixels: list[Pixel],
    ) -> None:
        """Store neighbouring pixels of a row."""
        from tvm.tirx.script.builder import ir as T

        index = T.Bind(self.write.at(block, *corner))
        lanes = self.write.lanes
        for number, (vector,) in enumerate(pixels):
            T.buffer_store(draft.writes[0], vector, [T.ramp(index + number * lanes, 1, lanes)])


class Averages(Values):
    """Add values up and divide; levels are summed in int32 and requantized."""

    def __init__(self, op: Pool, write: Volume, isa: Isa) -> None:
        super().__init__(op, write, isa)
        factors = (
            np.asarray(op.divisors, np.float32) if op.result is None else op.result.multipliers
        )
        flat = factors.reshape(-1)
        self._common = float(flat[0]) if bool((flat == flat[0]).all()) else None
        if self._common is None:
            self.constants = [flat]

    def load(self, buffer: Buffer, index: Expr) -> Pixel:
        """Load a pixel of a block: floats, or int32 levels without their zero point."""
        isa = self.isa
        parts = self.write.lanes // isa.lanes
        if self.write.dtype != "float32":
            return isa.load_levels(buffer, index, self.op.input_zero_point, parts)
        return [buffer[isa.ramp(index + part * isa.lanes)] for part in range(parts)]

    def joined(self, first: Pixel, second: Pixel) -> Pixel:
        """Return the sums."""
        return [a + b for a, b in zip(first, second, strict=True)]

    def neutral(self) -> Pixel:
        """Return zeros."""
        isa = self.isa
        zero = isa.splat(0) if self.write.dtype == "float32" else isa.splat_int(0)
        return [zero] * (self.write.lanes // isa.lanes)

    def store(
        self,
        draft: Draft,
        block: Expr,
        corner: tuple[Expr, Expr],
        pixels: list[Pixel],
    ) -> None:
        """Divide or requantize, and store neighbouring pixels of a row."""
        from tvm.tirx.script.builder import ir as T

        isa, result = self.isa, self.op.result
        index = T.Bind(self.write.at(block, *corner))
        factors = [
            self._factor(draft, corner[0], corner[1] + number) for number in range(len(pixels))
        ]
        if result is None:
            vectors = [v / f for pixel, f in zip(pixels, factors, strict=True) for v in pixel]
            for number, vector in enumerate(vectors):
                place = isa.ramp(index + number * isa.lanes)
                T.buffer_store(draft.writes[0], vector, [place])
            return
        scaled = tuple(
            isa.to_float(v) * f for pixel, f in zip(pixels, factors, strict=True) for v in pixel
        )
        rule = LevelRule(zero_point=result.zero_point, low=result.low, high=result.high)
        isa.store_levels(draft.writes[0], [Run(index, scaled)], rule)

    def _factor(self, draft: Draft, row: Expr, column: Expr) -> Expr:
        from tvm.tirx.script.builder import ir as T

        if self._common is not None:
            return self.isa.splat(self._common)
        value = draft.constants[0][row * self.write.width + column]
        return T.broadcast(value, self.isa.lanes)
