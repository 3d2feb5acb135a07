"""x86-64 with AVX-512 and VNNI: sixteen lanes, 32 registers, unsigned levels.

`vpdpbusd` multiplies four unsigned levels by four signed weights and adds all to an int32 lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from edgekit.compiler.kernels.isa import byte_tables
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.isa.forms import LevelRule, Run

if TYPE_CHECKING:
    import tvm

    Expr: TypeAlias = tvm.tirx.PrimExpr
    Buffer: TypeAlias = tvm.tirx.Buffer

_LARGEST_CONVERTED = 2.0**30  # vcvtps2dq turns what int32 cannot hold into its smallest value
_CURRENT_ROUNDING = 4
_ALL = 0xFFFF
_HIGHEST_LEVEL = 255


class Avx512Vnni(Isa):
    """Describe AVX-512 with VNNI."""

    level_dtype = "uint8"
    dot_group = 4
    window_pixels = 4
    float_products = False
    table_width = byte_tables.WIDTH

    def __init__(self) -> None:
        super().__init__(lanes=16, num_registers=32)

    # ---- integer products

    def load_dot(self, buffer: Buffer, index: Expr | int) -> Expr:
        """Load four neighbouring levels into every lane."""
        from tvm.tirx.script.builder import ir as T

        word = T.reinterpret("int32", buffer[self.ramp(index, 4)])
        return T.Bind(T.reinterpret("int8x64", T.broadcast(word, 16)))

    def dot(self, accumulator: Expr, x: Expr, weights: Buffer, index: Expr | int) -> Expr:
        """Add four products to each of sixteen outputs."""
        taken = weights[self.ramp(index, 64)]
        return self.call("llvm.x86.avx512.vpdpbusd.512", "int32x16", accumulator, x, taken)

    def load_window(self, buffer: Buffer, index: Expr | int) -> list[Expr]:
        """Load four neighbouring pixels: `vpermd` parts the channels, `vpshufb` turns them."""
        from tvm.tirx.script.builder import ir as T

        words = T.Bind(T.reinterpret("int32x16", buffer[self.ramp(index, 64)]))
        parted = T.Shuffle([words], [4 * pixel + part for part in range(4) for pixel in range(4)])
        parted = T.Bind(T.reinterpret("int8x64", parted))
        order = [
            part + 4 * pixel + c
            for part in range(0, 64, 16)
            for c in range(4)
            for pixel in range(4)
        ]
        return [T.Bind(T.Shuffle([parted], order))]

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
        return self.call("llvm.roundeven.v16f32", "float32x16", self.clamped(scaled, rule))

    def store_levels(self, buffer: Buffer, runs: Sequence[Run], rule: LevelRule) -> None:
        """Round, add the zero point, clamp and store, up to four vectors at once."""
        from tvm.tirx.script.builder import ir as T

        for run in runs:
            start = 0
            for size in (4, 2, 1):
                while start + size <= len(run.vectors):
                    scaled = run.vectors[start : start + size]
                    levels = self._one(scaled[0], rule) if size == 1 else self._packed(scaled, rule)
                    place = self.ramp(run.index + start * self.lanes, size * self.lanes)
                    T.buffer_store(buffer, levels, [place])
                    start += size

    def _whole(self, scaled: Expr, rule: LevelRule) -> Expr:
        """Round to int32."""
        from tvm.tirx.script.builder import ir as T

        if not rule.limit < _LARGEST_CONVERTED:
            scaled = self.clamped(scaled, rule)
        mask = T.Cast("int16", T.int32(_ALL - 2**16))
        return self.call(
            *("llvm.x86.avx512.mask.cvtps2dq.512", "int32x16"),
            *(scaled, self.splat_int(0), mask, T.int32(_CURRENT_ROUNDING)),
        )

    def _one(self, scaled: Expr, rule: LevelRule) -> Expr:
        """Turn one vector into levels; `vpmovdb` narrows it."""
        from tvm.tirx.script.builder import ir as T

        level = self._whole(scaled, rule)
        if rule.zero_point:
            level = level + self.splat_int(rule.zero_point)
        level = T.max(T.Bind(level), self.splat_int(rule.low))
        level = T.min(T.Bind(level), self.splat_int(rule.high))
        return T.Cast("uint8x16", level)

    def _packed(self, scaled: Sequence[Expr], rule: LevelRule) -> Expr:
        """Turn two or four vectors into levels side by side by saturating packs.

        Packs work within quarters of 128 bits and leave each quarter's groups of four in the order
        of the vectors; one `vpermd` puts them in order.
        """
        from tvm.tirx.script.builder import ir as T

        words = [T.Bind(self._whole(each, rule)) for each in scaled]
        halves = [
            self._moved(first, second, rule)
            for first, second in zip(words[::2], words[1::2], strict=True)
        ]
        packed = self.call("llvm.x86.avx512.packuswb.512", "int8x64", halves[0], halves[-1])
        groups = T.Bind(T.reinterpret("int32x16", packed))
        order = [4 * quarter + vector for vector in range(len(words)) for quarter in range(4)]
        count = self.lanes * len(words)
        levels = T.reinterpret(f"uint8x{count}", T.Shuffle([groups], order))
        for bound, word, is_needed in (
            (rule.low, "umax", rule.low > 0),
            (rule.high, "umin", rule.high < _HIGHEST_LEVEL),
        ):
            if is_needed:
                limit = T.broadcast(T.Cast("uint8", T.int32(bound)), count)
                levels = self.call(f"llvm.{word}.v{count}i8", f"uint8x{count}", levels, limit)
        return levels

    def _moved(self, first: Expr, second: Expr, rule: LevelRule) -> Expr:
        """Pack two vectors into 16 bits and add the zero point."""
        from tvm.tirx.script.builder import ir as T

        packed = self.call("llvm.x86.avx512.packssdw.512", "int16x32", first, second)
        if rule.zero_point:
            zero_point = T.broadcast(T.Cast("int16", T.int32(rule.zero_point)), 32)
            packed = self.call("llvm.sadd.sat.v32i16", "int16x32", packed, zero_point)
        return T.Bind(packed)
