"""Every vector step a kernel needs, spelled for any CPU; instruction sets override what they can.

All methods run inside an IRBuilder function and take and give TIR expressions; `f` is a float32
vector of `lanes` values, `i` an int32 one. LLVM turns these plain forms into whatever a CPU has, so
this class alone runs everywhere (ARMv7, SSE); subclasses name instructions LLVM would not find.

Levels inside a library all have `level_dtype`: a `uint8` model is moved by -128, zero points
with it, where signed levels are faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np

from edgekit.compiler.kernels.isa.forms import LevelRule, Run, TileShape

if TYPE_CHECKING:
    import tvm

    Expr: TypeAlias = tvm.tirx.PrimExpr
    Buffer: TypeAlias = tvm.tirx.Buffer
    Loaded: TypeAlias = Any  # one expression or several, as the instruction set wants it

_MAGIC = 12582912.0  # 1.5 * 2**23: adding it rounds |x| < 2**22 to an integer, ties to even


class Isa:
    """Describe one instruction set; this one is plain vectors that LLVM lowers for any CPU.

    Args:
        lanes: float32 values in a vector.
        num_registers: Vector registers.
    """

    level_dtype: ClassVar[Literal["uint8", "int8"]] = "int8"
    weight_limit: ClassVar[int] = 128
    """Largest absolute value of an int8 weight that `dot` takes."""
    dot_group: ClassVar[int] = 4
    """Input channels one integer step reduces; they lie side by side in memory."""
    num_partials: ClassVar[int] = 1
    """Accumulators an output vector is spread over until `combine`."""
    dot_load: ClassVar[int] = 1
    """Groups of `dot_group` channels that one `load_dots` takes at most."""
    splat_group: ClassVar[int] = 1
    """Input channels one float step loads at once."""
    window_pixels: ClassVar[int] = 0
    """Neighbouring pixels `load_window` takes; 0 where there is none."""
    float_products: ClassVar[bool] = True
    """Whether levels and weights are multiplied fastest as floats, channel by channel."""
    table_width: ClassVar[int] = 1
    """Levels one `look_up` replaces."""

    def __init__(self, lanes: int = 4, num_registers: int = 16) -> None:
        self.lanes = lanes
        self.num_registers = num_registers

    @property
    def level_block(self) -> int:
        """Return how many channels of levels lie side by side in a blocked image."""
        return self.lanes

    @property
    def float_block(self) -> int:
        """Return how many channels of floats lie side by side in a blocked image."""
        return self.lanes

    # ---- what a tile costs

    def fits(self, pixels: int, vectors: int, *, is_integer: bool) -> bool:
        """Return whether a tile of a convolution stays in registers.

        Args:
            pixels: Pixels of the tile.
            vectors: Output vectors of each.
            is_integer: Whether it multiplies levels.
        """
        partials = self.num_partials if is_integer else 1
        # The smaller operand of a step is kept, the larger one passes through one register.
        used = pixels * vectors * partials + min(pixels, vectors) + 1
        return used <= self.num_registers

    def step_cycles(self, pixels: int, vectors: int, *, is_integer: bool) -> float:
        """Return about how many cycles one step of a tile takes on a core of this kind."""
        partials = self.num_partials if is_integer else 1
        return max(pixels * vectors * partials / 2, (pixels + vectors) / 2, 4.0) + 0.4

    unroll: ClassVar[int] = 8
    """Steps of a reduction that are written out without a loop."""
    opaque_loops: ClassVar[bool] = False
    """Whether LLVM must not know how often loops over channels turn: it would write out short ones,
    move all of their weights before the loop over pixels and put them on the stack."""

    def holds(self, shape: TileShape) -> bool:
        """Return whether a tile stays in registers, whatever its kernel is."""
        return self.fits(shape.pixels, shape.vectors, is_integer=shape.is_integer)

    def tile_cycles(self, shape: TileShape, steps: int) -> float:
        """Return about how many cycles a tile takes, when the caches keep up.

        Args:
            shape: The tile.
            steps: Steps of its reduction.
        """
        pixels, vectors = shape.pixels, shape.vectors
        step = self.step_cycles(pixels, vectors, is_integer=shape.is_integer)
        return steps * step + 8 + 2.0 * pixels * vectors

    # ---- small words

    def ramp(self, index: Expr | int, count: int | None = None) -> Expr:
        """Return `count` (else `lanes`) indices in a row."""
        from tvm.tirx.script.builder import ir as T

        return T.ramp(index, 1, count or self.lanes)

    def splat(self, value: float) -> Expr:
        """Return a float constant in every lane."""
        from tvm.tirx.script.builder import ir as T

        return T.broadcast(T.float32(float(np.float32(value))), self.lanes)

    def splat_int(self, value: int) -> Expr:
        """Return an int32 constant in every lane."""
        from tvm.tirx.script.builder import ir as T

        return T.broadcast(T.int32(int(value)), self.lanes)

    def call(self, name: str, dtype: str, *arguments: Expr) -> Expr:
        """Call a pure LLVM intrinsic."""
        from tvm.tirx.script.builder import ir as T

        return T.call_llvm_pure_intrin(dtype, name, *arguments)

    def fence(self, value: Expr) -> Expr:
        """Keep LLVM from contracting a product with the sum that follows."""
        return self.call("llvm.arithmetic.fence", f"float32x{self.lanes}", value)

    # ---- float32

    def splats(self, buffer: Buffer, index: Expr | int, count: int) -> list[Expr]:
        """Load `count` neighbouring floats (at most `splat_group`), each into a whole vector."""
        from tvm.tirx.script.builder import ir as T

        return [T.broadcast(buffer[index + number], self.lanes) for number in range(count)]

    def multiply_add(self, accumulator: Expr, x: Expr, w: Expr) -> Expr:
        """Return accumulator + x * w."""
        return accumulator + x * w

    def maximum(self, first: Expr, second: Expr) -> Expr:
        """Return the larger of each pair of floats."""
        from tvm.tirx.script.builder import ir as T

        return T.max(first, second)

    def minimum(self, first: Expr, second: Expr) -> Expr:
        """Return the smaller of each pair of floats."""
        from tvm.tirx.script.builder import ir as T

        return T.min(first, second)

    # ---- integer products

    def load_dot(self, buffer: Buffer, index: Expr | int) -> Loaded:
        """Load `dot_group` neighbouring levels of one pixel in the form `dot` wants; bind it."""
        from tvm.tirx.script.builder import ir as T

        return T.Bind(buffer[self.ramp(index, self.dot_group)])

    def load_dots(self, buffer: Buffer, index: Expr | int, count: int) -> list[Loaded]:
        """Load `count` neighbouring groups (at most `dot_load`), each as `load_dot` does.

        As with `splats`, one load serves them all where the instruction set can name a lane; so
        loops over channels go in steps of `dot_load` groups, and weights are read group by group.
        """
        return [self.load_dot(buffer, index + number * self.dot_group) for number in range(count)]

    def dot(self, accumulator: Expr, x: Loaded, weights: Buffer, index: Expr | int) -> Expr:
        """Add the products of `x` and `lanes / num_partials` outputs' weights.

        Args:
            accumulator: int32 vector.
            x: From `load_dot`.
            weights: Packed [.., lanes, dot_group] (each output's group lies together).
            index: Of this vector's weights; partial number p starts at
                `index + p * lanes * dot_group / num_partials`.

        Returns:
            The new accumulator, exact in int32 for weights within +-127.
        """
        from tvm.tirx.script.builder import ir as T

        wide, count = f"int32x{self.lanes}", self.lanes * self.dot_group
        taken = T.Bind(weights[self.ramp(index, count)])
        total = accumulator
        for number in range(self.dot_group):
            one = T.Cast("int32", T.Shuffle([x], [number]))
            every = T.Shuffle([taken], list(range(number, count, self.dot_group)))
            total = total + T.broadcast(one, self.lanes) * T.Cast(wide, every)
        return total

    def combine(self, partials: Sequence[Expr]) -> Expr:
        """Return the int32 vector of outputs that the partial accumulators stand for."""
        return partials[0]

    # ---- products of 16-bit numbers

    word_group: ClassVar[int] = 1
    """Neighbouring 16-bit inputs one step reduces."""
    word_speed: ClassVar[float] = 0.0
    """Products of 16 bits in the time of one product of levels; 0 where they are never used."""
    word_lanes: ClassVar[int] = 8
    """16-bit numbers of a vector in which inputs are made."""

    @property
    def word_tile(self) -> tuple[int, int]:
        """Return the int32 vectors of outputs, an even number, and the inputs a tile sums."""
        return (4, 5) if self.num_registers >= 32 else (2, 5)

    def load_words(self, buffer: Buffer, index: Expr | int, count: int) -> list[Loaded]:
        """Load `count` neighbouring inputs, `word_group` of them into every lane."""
        from tvm.tirx.script.builder import ir as T

        return [
            T.Bind(T.broadcast(T.Cast("int32", buffer[index + number]), self.lanes))
            for number in range(count)
        ]

    def word_weights(self, buffer: Buffer, index: Expr | int, vectors: int) -> list[Expr]:
        """Load weights [vectors * lanes, word_group] of one step."""
        from tvm.tirx.script.builder import ir as T

        wide = f"int32x{self.lanes}"
        return [
            T.Bind(T.Cast(wide, buffer[self.ramp(index + number * self.lanes)]))
            for number in range(vectors)
        ]

    def multiply_words(
        self, accumulators: Sequence[Expr], x: Loaded, weights: Sequence[Expr]
    ) -> list[Expr]:
        """Add the products of one step, modulo 2**32.

        Args:
            accumulators: int32 vectors of outputs.
            x: One of what `load_words` returns.
            weights: What `word_weights` returns.
        """
        return [total + x * w for total, w in zip(accumulators, weights, strict=True)]

    # ---- integer products of single channels

    def multiply_taps(
        self, accumulators: Sequence[Expr], taps: Sequence[tuple[Expr, Expr]]
    ) -> list[Expr]:
        """Add products of levels and weights at the same place, for depthwise convolutions.

        Args:
            accumulators: int32 vectors of `level_block` values in all.
            taps: Per tap a vector of `level_block` levels and one of as many weights, both as they
                lie in memory and bound.

        Returns:
            The new accumulators, exact in int32 for weights within +-127.
        """
        from tvm.tirx.script.builder import ir as T

        totals = list(accumulators)
        wide = f"int32x{self.lanes}"
        for x, w in taps:
            pairs = zip(self.parts(x), self.parts(w), strict=True)
            for number, (levels, factors) in enumerate(pairs):
                totals[number] = totals[number] + T.Cast(wide, levels) * T.Cast(wide, factors)
        return totals

    def load_window(self, buffer: Buffer, index: Expr | int) -> list[Loaded]:
        """Load `window_pixels` neighbouring pixels of a block in the form `dot` wants.

        Args:
            buffer: Levels.
            index: Of the first pixel's first channel.

        Returns:
            For every `lanes` channels what `dot` takes: each channel's levels lie together.
        """
        raise NotImplementedError

    def parts(self, vector: Expr) -> list[Expr]:
        """Cut a vector of `level_block` values into vectors of `lanes`."""
        from tvm.tirx.script.builder import ir as T

        count = self.level_block // self.lanes
        if count == 1:
            return [vector]
        starts = range(0, self.level_block, self.lanes)
        return [T.Shuffle([vector], list(range(start, start + self.lanes))) for start in starts]

    # ---- tables of all levels

    def load_table(self, table: Buffer) -> Loaded:
        """Load what `look_up` wants to have at hand; once, before the loop.

        Args:
            table: 256 values of one byte, the one for the lowest level first.
        """
        return table

    def look_up(self, table: Loaded, levels: Expr, lowest: int) -> Expr:
        """Replace `table_width` levels by the values of a table.

        Args:
            table: From `load_table`.
            levels: One level, or a vector of them.
            lowest: Lowest level there is, 0 or -128.
        """
        from tvm.tirx.script.builder import ir as T

        return table[T.Cast("int32", levels) - lowest]

    # ---- between levels and floats

    def to_float(self, value: Expr) -> Expr:
        """Convert int32 to float32, rounded to nearest even."""
        from tvm.tirx.script.builder import ir as T

        return T.Cast(f"float32x{self.lanes}", value)

    def load_levels(
        self, buffer: Buffer, index: Expr | int, zero_point: int, count: int = 1
    ) -> list[Expr]:
        """Load `count` neighbouring vectors of levels as int32, minus the zero point."""
        from tvm.tirx.script.builder import ir as T

        wide = f"int32x{self.lanes}"
        return [
            T.Cast(wide, buffer[self.ramp(index + number * self.lanes)])
            - self.splat_int(zero_point)
            for number in range(count)
        ]

    def clamped(self, scaled: Expr, rule: LevelRule) -> Expr:
        """Clamp scaled values to what the rule's levels stand for, zero point not yet added."""
        low = self.splat(rule.low - rule.zero_point)
        high = self.splat(rule.high - rule.zero_point)
        return self.minimum(self.maximum(scaled, low), high)

    def rounded(self, scaled: Expr, rule: LevelRule) -> Expr:
        """Clamp and round to whole numbers, still floats and without the zero point."""
        moved = self.fence(self.clamped(scaled, rule) + self.splat(_MAGIC))
        return moved - self.splat(_MAGIC)

    def store_levels(self, buffer: Buffer, runs: Sequence[Run], rule: LevelRule) -> None:
        """Clamp, round, add the zero point and store; `buffer` holds `level_dtype`."""
        from tvm.tirx.script.builder import ir as T

        whole, narrow = f"int32x{self.lanes}", f"{self.level_dtype}x{self.lanes}"
        for run in runs:
            for number, scaled in enumerate(run.vectors):
                moved = self.clamped(scaled, rule) + self.splat(_MAGIC)
                magic = int(np.float32(_MAGIC).view(np.int32)) - rule.zero_point
                level = T.reinterpret(whole, moved) - self.splat_int(magic)
                index = self.ramp(run.index + number * self.lanes)
                T.buffer_store(buffer, T.Cast(narrow, level), [index])
