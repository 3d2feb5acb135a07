"""The reduction of one register tile of a convolution: pixels times output vectors.

LLVM keeps the order of loads. So the smaller operand of a tile is loaded first in each step and
stays in registers, and each part of the larger one is used as soon as it is there; the other way
round, tiles that fit the registers would spill.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from edgekit.compiler.kernels.convolution.cuts import bound, loop
from edgekit.compiler.kernels.convolution.geometry import Layer, Source
from edgekit.compiler.kernels.convolution.result import Pixel
from edgekit.compiler.kernels.draft import Draft
from edgekit.compiler.kernels.isa.base import Isa

if TYPE_CHECKING:
    import tvm

    Expr: TypeAlias = tvm.tirx.PrimExpr
    Buffer: TypeAlias = tvm.tirx.Buffer
    Loaded: TypeAlias = Any  # one expression or several, as the instruction set wants it
    Tap: TypeAlias = tuple[Expr | int, Expr | int, Expr | int]  # input block, kernel row and column


class OutputBlock(NamedTuple):
    """Hold one output block while its code is written.

    Args:
        group: Group of channels.
        first_vector: Number of its first output vector in the whole result.
        vectors: How many it has.
        weights: Where its weights start.
    """

    group: Expr | int
    first_vector: Expr | int
    vectors: int
    weights: Expr | int


class TileCode:
    """Write the reduction of one tile.

    Args:
        layer: What is computed.
        isa: Instruction set.
        draft: The kernel.
        block: The tile's output vectors.
        pixels: Its pixels.
        unroll: Steps written out without a loop.
        hidden: A zero that LLVM does not know, when it must not know how often loops turn.
    """

    def __init__(
        self,
        layer: Layer,
        isa: Isa,
        draft: Draft,
        block: OutputBlock,
        pixels: Sequence[Pixel],
        *,
        unroll: int,
        hidden: Expr | None,
    ) -> None:
        from tvm.tirx.script.builder import ir as T

        self._layer, self._isa, self._draft = layer, isa, draft
        self._block, self._pixels = block, pixels
        self._hidden = hidden
        self._partials = isa.num_partials if layer.is_integer else 1
        self._group = layer.channel_group(isa)
        self._load = isa.dot_load if layer.is_integer else isa.splat_group
        self._unroll = max(unroll // self._load * self._load, self._load)
        self._step_weights = block.vectors * layer.step(isa)
        count = len(pixels) * block.vectors * self._partials
        dtype = "int32" if layer.is_integer else "float32"
        self._sums = T.alloc_buffer((count * isa.lanes,), dtype, scope="local")

    # ---- sums

    def clear(self) -> None:
        """Start all sums: from the bias, or from 0 when partial sums are added up later."""
        from tvm.tirx.script.builder import ir as T

        for vector in range(self._block.vectors):
            start = T.Bind(self._bias(vector)) if self._partials == 1 else self._isa.splat_int(0)
            for pixel in range(len(self._pixels)):
                for partial in range(self._partials):
                    T.buffer_store(self._sums, start, [self._place(pixel, vector, partial)])

    def sum_of(self, pixel: int, vector: int) -> Expr:
        """Return the whole sum of one pixel's vector."""
        partials = [
            self._sums[self._place(pixel, vector, partial)] for partial in range(self._partials)
        ]
        if len(partials) == 1:
            return partials[0]
        return self._isa.combine(partials) + self._bias(vector)

    def _place(self, pixel: int, vector: int, partial: int = 0) -> Expr:
        number = (pixel * self._block.vectors + vector) * self._partials + partial
        return self._isa.ramp(number * self._isa.lanes)

    def _bias(self, vector: int) -> Expr:
        at = (self._block.first_vector + vector) * self._isa.lanes
        return self._draft.constants[1][self._isa.ramp(at)]

    # ---- loops

    def reduce(self) -> None:
        """Add all products."""
        from tvm.tirx.script.builder import ir as T

        start = self._block.weights
        height, width = self._layer.kernel
        for source in self._layer.sources():
            weights = width * self._layer.source_steps(source, self._isa) * self._step_weights
            if self._partials > 1 and height * width == 1 and source.num_blocks > 1:
                # The first products replace the zeros that sums start from.
                self._line(source, 0, 0, start)
                with T.serial(1, source.num_blocks) as number:
                    self._line(source, number, 0, bound(start + number * weights))
            else:
                with self._blocks(source.num_blocks) as number, loop(height) as down:
                    line = bound(start + (number * height + down) * weights)
                    self._line(source, number, down, line)
            start = start + source.num_blocks * height * weights

    def _blocks(self, count: int) -> AbstractContextManager[Expr | int]:
        from tvm.tirx.script.builder import ir as T

        if self._hidden is None:
            return loop(count)
        opaque: AbstractContextManager[Expr | int] = T.serial(0, count + self._hidden)
        return opaque

    def _line(self, source: Source, number: Expr | int, down: Expr | int, weights: Expr) -> None:
        """Add the products of one row of the kernel and one input block."""
        width = self._layer.kernel[1]
        steps = self._layer.source_steps(source, self._isa)
        if steps * width <= self._unroll:
            for right in range(width):
                at = weights + right * steps * self._step_weights
                self._tap(source, (number, down, right), at)
            return
        with loop(width) as right:
            at = bound(weights + right * (steps * self._step_weights))
            self._tap(source, (number, down, right), at)

    def _tap(self, source: Source, tap: Tap, weights: Expr) -> None:
        """Add the products of one element of the kernel and one input block."""
        whole, rest = divmod(source.channels, self._group)
        if rest and self._layer.block_lanes % self._group == 0:
            whole, rest = whole + 1, 0  # lanes beyond the channels meet weights of zero
        inputs = [bound(self._input(source, tap, pixel)) for pixel in self._pixels]
        turns = whole // self._unroll if whole > self._unroll else 0
        if turns:
            size = self._unroll
            with loop(turns) as turn:
                at = bound(weights + turn * (size * self._step_weights))
                self._steps(self._moved(inputs, turn * size), size, at)
        done = turns * self._unroll
        if whole > done:
            at = weights + done * self._step_weights
            self._steps(self._moved(inputs, done), whole - done, at)
        if rest:
            self._rest(self._moved(inputs, whole), rest, weights + whole * self._step_weights)

    def _moved(self, inputs: Sequence[Expr], steps: Expr | int) -> list[Expr]:
        return [index + steps * self._group for index in inputs]

    def _input(self, source: Source, tap: Tap, pixel: Pixel) -> Expr:
        """Return where a pixel's channels of an input block start for an element of the kernel."""
        layer = self._layer
        block = self._block.group * layer.group_blocks + source.block + tap[0]
        row, column = (
            place * stride + step * dilation - origin
            for place, stride, step, dilation, origin in zip(
                pixel, layer.strides, tap[1:], layer.dilations, layer.origin, strict=True
            )
        )
        return layer.x.at(block, row, column)

    # ---- steps

    def _steps(self, inputs: Sequence[Expr], count: int, weights: Expr) -> None:
        """Add the products of `count` steps in a row."""
        x = self._draft.reads[0]
        if self._load == 1:
            for step in range(count):
                self._step(x, self._moved(inputs, step), weights + step * self._step_weights)
            return
        # Loads of whole groups of lanes serve NEON, also where the last lanes have no use.
        is_whole = self._layer.block_lanes % (self._load * self._group) == 0
        for first in range(0, count, self._load):
            number = min(self._load, count - first)
            taken = self._load if is_whole else number
            loaded = [self._loaded(x, index, taken) for index in self._moved(inputs, first)]
            for step in range(number):
                at = weights + (first + step) * self._step_weights
                self._multiply([values[step] for values in loaded], at)

    def _rest(self, inputs: Sequence[Expr], count: int, weights: Expr) -> None:
        """Take the last levels of a matrix's row, where no whole group is left."""
        from tvm.tirx.script.builder import ir as T

        x, dtype = self._draft.reads[0], self._layer.x.dtype
        filled = T.alloc_buffer((len(inputs) * self._group,), dtype, scope="local")
        zero = T.Cast(dtype, T.int32(0))
        for number, index in enumerate(inputs):
            for place in range(self._group):
                value = x[index + place] if place < count else zero
                T.buffer_store(filled, value, [number * self._group + place])
        self._step(filled, [number * self._group for number in range(len(inputs))], weights)

    def _step(self, buffer: Buffer, inputs: Sequence[Expr | int], weights: Expr) -> None:
        """Add the products of one step, with loads in the order registers want."""
        vectors = range(self._block.vectors)
        if len(vectors) > len(inputs):
            self._multiply([self._loaded(buffer, index, 1)[0] for index in inputs], weights)
            return
        ws = [self._weights(weights, vector) for vector in vectors]
        for pixel, index in enumerate(inputs):
            x = self._loaded(buffer, index, 1)[0]
            for vector in vectors:
                self._product(pixel, vector, x, ws[vector])

    def _multiply(self, xs: Sequence[Loaded], weights: Expr) -> None:
        """Add the products of all pixels' inputs, which are there, and each vector's weights."""
        for vector in range(self._block.vectors):
            w = self._weights(weights, vector)
            for pixel, x in enumerate(xs):
                self._product(pixel, vector, x, w)

    def _loaded(self, buffer: Buffer, index: Expr | int, count: int) -> list[Loaded]:
        from tvm.tirx.script.builder import ir as T

        if self._layer.is_integer:
            return self._isa.load_dots(buffer, index, count)
        splats = self._isa.splats(buffer, index, count)
        # Lanes of a bound vector are named by the multiplication; a splat of its own is bound.
        return [T.Bind(splat) for splat in splats] if self._load == 1 else splats

    def _weights(self, start: Expr, vector: int) -> Expr:
        """Return a vector of float weights, or where a vector of levels' weights lies."""
        from tvm.tirx.script.builder import ir as T

        at = start + vector * self._layer.step(self._isa)
        if self._layer.is_integer:
            return at
        return T.Bind(self._draft.constants[0][self._isa.ramp(at)])

    def _product(self, pixel: int, vector: int, x: Loaded, w: Expr) -> None:
        from tvm.tirx.script.builder import ir as T

        isa = self._isa
        if not self._layer.is_integer:
            place = self._place(pixel, vector)
            T.buffer_store(self._sums, isa.multiply_add(self._sums[place], x, w), [place])
            return
        share = self._layer.step(isa) // self._partials
        for partial in range(self._partials):
            place = self._place(pixel, vector, partial)
            packed = self._draft.constants[0]
            total = isa.dot(self._sums[place], x, packed, w + partial * share)
            T.buffer_store(self._sums, total, [place])
