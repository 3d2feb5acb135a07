"""NEON with dot products, such as Cortex-A76: 16 products of levels and weights in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from edgekit.compiler.kernels.isa.neon import Neon

if TYPE_CHECKING:
    import tvm

    Expr: TypeAlias = tvm.tirx.PrimExpr
    Buffer: TypeAlias = tvm.tirx.Buffer


class NeonDot(Neon):
    """Describe NEON with `sdot`: 16 channels are loaded at once, four of them make one step."""

    dot_group = 4
    dot_load = 4
    num_partials = 1
    window_pixels = 4
    opaque_loops = True
    word_speed = 0.0

    def load_dots(self, buffer: Buffer, index: Expr | int, count: int) -> list[Expr]:
        """Load `count` neighbouring groups of four levels, each into every lane."""
        from tvm.tirx.script.builder import ir as T

        if count < self.dot_load:
            return super().load_dots(buffer, index, count)
        loaded = T.Bind(T.reinterpret("int32x4", buffer[self.ramp(index, 16)]))
        return [_everywhere(loaded, lane) for lane in range(count)]

    def load_dot(self, buffer: Buffer, index: Expr | int) -> Expr:
        """Load four neighbouring levels into every lane."""
        from tvm.tirx.script.builder import ir as T

        word = T.reinterpret("int32", buffer[self.ramp(index, 4)])
        return T.Bind(T.reinterpret("int8x16", T.broadcast(word, 4)))

    def dot(self, accumulator: Expr, x: Expr, weights: Buffer, index: Expr | int) -> Expr:
        """Add the products of four channels for four outputs."""
        w = weights[self.ramp(index, 16)]
        # The splat comes last: elsewhere LLVM duplicates it instead of naming the lane.
        return self._neon("sdot.v4i32.v16i8", "int32x4", accumulator, w, x)

    def load_window(self, buffer: Buffer, index: Expr | int) -> list[Expr]:
        """Load four neighbouring pixels; `zip` brings each channel's levels together."""
        from tvm.tirx.script.builder import ir as T

        pixels = [T.Bind(buffer[self.ramp(index + 16 * pixel, 16)]) for pixel in range(4)]
        even, odd = self._zip(pixels[0], pixels[2]), self._zip(pixels[1], pixels[3])
        return [both for pair in zip(even, odd, strict=True) for both in self._zip(*pair)]

    def _zip(self, first: Expr, second: Expr) -> list[Expr]:
        """Interleave two vectors of bytes; the fence keeps LLVM from merging zips into `tbl`."""
        from tvm.tirx.script.builder import ir as T

        halves = []
        for start in (0, 8):
            order = [lane + both for lane in range(start, start + 8) for both in (0, 16)]
            zipped = T.reinterpret("float32x4", T.Shuffle([first, second], order))
            halves.append(T.Bind(T.reinterpret("int8x16", self.fence(zipped))))
        return halves

    def combine(self, partials: Sequence[Expr]) -> Expr:
        """Return the one accumulator."""
        return partials[0]


def _everywhere(words: Expr, lane: int) -> Expr:
    from tvm.tirx.script.builder import ir as T

    return T.reinterpret("int8x16", T.Shuffle([words], [lane] * 4))
