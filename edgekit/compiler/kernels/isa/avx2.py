"""x86-64 with AVX2 and FMA: eight lanes, sixteen registers, signed levels.

Integer products without VNNI, exact: `vpmaddubsw` wants one unsigned factor and adds two products
in 16 bits. With |x| <= 128 as the unsigned one and the sign of x moved to the weight (`vpsignb`),
two products stay within 2 * 128 * 127 < 2**15. Then `vpmaddwd` with ones widens to 32 bits.

Levels are packed by saturating instructions, which clamp for nothing: `vcvtps2dq`, `vpackssdw`,
`vpaddsw` (zero point), `vpacksswb`. Packing works within halves of 128 bits; one `vpermd` puts the
groups of four in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from edgekit.compiler.kernels.isa import byte_tables
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.isa.forms import LevelRule, Run

if TYPE_CHECKING:
    import tvm

    Expr: TypeAlias = tvm.tirx.PrimExpr
    Buffer: TypeAlias = tvm.tirx.Buffer

_LARGEST_CONVERTED = 2.0**30  # vcvtps2dq turns what int32 cannot hold into its smallest value
_GROUPS = {1: [0, 4], 2: [0, 4, 1, 5], 4: [0, 4, 1, 5, 2, 6, 3, 7]}


class SignedGroup(NamedTuple):
    """Hold four levels of a pixel in every lane, and their absolute values."""

    levels: Expr
    absolute: Expr


class Avx2(Isa):
    """Describe AVX2 with FMA and without VNNI."""

    level_dtype = "int8"
    weight_limit = 127
    dot_group = 4
    window_pixels = 4
    table_width = byte_tables.WIDTH

    def __init__(self) -> None:
        super().__init__(lanes=8, num_registers=16)

    # ---- what a tile costs

    def fits(self, pixels: int, vectors: int, *, is_integer: bool) -> bool:
        """Return whether a tile stays in registers.

        Levels of a pixel take two (with their absolute values); products and the ones another two.
        """
        if not is_integer:
            return super().fits(pixels, vectors, is_integer=False)
        kept = vectors + 2 if vectors <= pixels else 2 * pixels + 2
        return pixels * vectors + kept + 2 <= self.num_registers

    def step_cycles(self, pixels: int, vectors: int, *, is_integer: bool) -> float:
        """Return cycles of one step as measured on Zen 3.

        Products of levels are bound by issue slots; tiles of one vector, which load an input for
        every multiplication, by loads, of which it does not reach two in every cycle.
        """
        if is_integer:
            return 1.25 * pixels * vectors + 0.35 * pixels + 0.25 * vectors
        loads = 0.6 * (pixels + vectors)
        return max(super().step_cycles(pixels, vectors, is_integer=False), loads)

    # ---- products of 16-bit numbers

    word_group = 2
    word_speed = 1.25
    word_tile = (2, 5)

    def load_words(self, buffer: Buffer, index: Expr | int, count: int) -> list[Expr]:
        """Load `count` neighbouring inputs, two of them into every lane."""
        from tvm.tirx.script.builder import ir as T

        pairs = [buffer[self.ramp(index + start, 2)] for start in range(0, count, 2)]
        words = [T.broadcast(T.reinterpret("int32", pair), 8) for pair in pairs]
        return [T.reinterpret("int16x16", word) for word in words]

    def word_weights(self, buffer: Buffer, index: Expr | int, vectors: int) -> list[Expr]:
        """Load the weights of two inputs."""
        from tvm.tirx.script.builder import ir as T

        starts = range(0, 16 * vectors, 16)
        return [T.Bind(buffer[self.ramp(index + start, 16)]) for start in starts]

    def multiply_words(
        self, accumulators: Sequence[Expr], x: Expr, weights: Sequence[Expr]
    ) -> list[Expr]:
        """Add the products of two inputs: `vpmaddwd, vpaddd`."""
        return [
            total + self.call("llvm.x86.avx2.pmadd.wd", "int32x8", w, x)
            for total, w in zip(accumulators, weights, strict=True)
        ]

    # ---- integer products

    def load_dot(self, buffer: Buffer, index: Expr | int) -> SignedGroup:
        """Load four neighbouring levels into every lane, and take their absolute values."""
        from tvm.tirx.script.builder import ir as T

        word = T.reinterpret("int32", buffer[self.ramp(index, 4)])
        levels = T.Bind(T.reinterpret("int8x32", T.broadcast(word, 8)))
        return SignedGroup(levels, T.Bind(self._sign(levels, levels)))

    def dot(self, accumulator: Expr, x: SignedGroup, weights: Buffer, index: Expr | int) -> Expr:
        """Add four products to each of eight outputs."""
        from tvm.tirx.script.builder import ir as T

        signed = self._sign(weights[self.ramp(index, 32)], x.levels)
        pairs = self.call("llvm.x86.avx2.pmadd.ub.sw", "int16x16", x.absolute, signed)
        ones = T.broadcast(T.Cast("int16", T.int32(1)), 16)
        total = accumulator + self.call("llvm.x86.avx2.pmadd.wd", "int32x8", pairs, ones)
        # LLVM would add up the products of several steps first, which takes more registers.
        return T.reinterpret("int32x8", self.fence(T.reinterpret("float32x8", total)))

    def load_window(self, buffer: Buffer, index: Expr | int) -> list[SignedGroup]:
        """Load four neighbouring pixels: `vpermd` parts the channels, `vpshufb` turns them."""
        from tvm.tirx.script.builder import ir as T

        words = T.Bind(T.reinterpret("int32x8", buffer[self.ramp(index, 32)]))
        parted = T.Bind(T.reinterpret("int8x32", T.Shuffle([words], [0, 2, 4, 6, 1, 3, 5, 7])))
        order = [half + 4 * pixel + c for half in (0, 16) for c in range(4) for pixel in range(4)]
        levels = T.Bind(T.Shuffle([parted], order))
        return [SignedGroup(levels, T.Bind(self._sign(levels, levels)))]

    def _sign(self, value: Expr, sign: Expr) -> Expr:
        return self.call("llvm.x86.avx2.psign.b", "int8x32", value, sign)

    # ---- tables of all levels

    def load_table(self, table: Buffer) -> list[Expr]:
        """Load the rows of a table."""
        return byte_tables.load_rows(table)

    def look_up(self, table: list[Expr], levels: Expr, lowest: int) -> Expr:
        """Replace 32 levels by the values of a table."""
        return byte_tables.look_up(self, table, levels, lowest, self.level_dtype)

    # ---- between levels and floats

    def rounded(self, scaled: Expr, rule: LevelRule) -> Expr:
        """Clamp and round to whole numbers, still floats and without the zero point."""
        return self.call("llvm.roundeven.v8f32", "float32x8", self.clamped(scaled, rule))

    def store_levels(self, buffer: Buffer, runs: Sequence[Run], rule: LevelRule) -> None:
        """Round, add the zero point, clamp and store, up to four vectors at once."""
        from tvm.tirx.script.builder import ir as T

        for run in runs:
            start = 0
            for size in (4, 2, 1):
                while start + size <= len(run.vectors):
                    levels = self._levels(run.vectors[start : start + size], rule)
                    place = self.ramp(run.index + start * self.lanes, size * self.lanes)
                    T.buffer_store(buffer, levels, [place])
                    start += size

    def _levels(self, scaled: Sequence[Expr], rule: LevelRule) -> Expr:
        """Turn one, two or four vectors into levels side by side."""
        from tvm.tirx.script.builder import ir as T

        if not rule.limit < _LARGEST_CONVERTED:
            scaled = [self.clamped(each, rule) for each in scaled]
        words = [
            T.Bind(self.call("llvm.x86.avx.cvt.ps2dq.256", "int32x8", each)) for each in scaled
        ]
        halves = [
            self._moved(words[number], words[min(number + 1, len(words) - 1)], rule)
            for number in range(0, len(words), 2)
        ]
        packed = self.call("llvm.x86.avx2.packsswb", "int8x32", halves[0], halves[-1])
        count = 8 * len(scaled)
        ordered = T.Shuffle([T.Bind(T.reinterpret("int32x8", packed))], _GROUPS[len(scaled)])
        levels = T.reinterpret(f"int8x{count}", ordered)
        for bound, word, needed in (
            (rule.low, "smax", rule.low > -128),
            (rule.high, "smin", rule.high < 127),
        ):
            if needed:
                limit = T.broadcast(T.Cast("int8", T.int32(bound)), count)
                levels = self.call(f"llvm.{word}.v{count}i8", f"int8x{count}", levels, limit)
        return levels

    def _moved(self, first: Expr, second: Expr, rule: LevelRule) -> Expr:
        """Pack two vectors into 16 bits and add the zero point."""
        from tvm.tirx.script.builder import ir as T

        packed = self.call("llvm.x86.avx2.packssdw", "int16x16", first, second)
        if rule.zero_point:
            zero_point = T.broadcast(T.Cast("int16", T.int32(rule.zero_point)), 16)
            packed = self.call("llvm.sadd.sat.v16i16", "int16x16", packed, zero_point)
        return T.Bind(packed)
