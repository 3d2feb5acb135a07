"""NEON of every 64-bit Arm core: by-element multiply-add, integer products in pairs of 16 bits.

What LLVM makes of these forms, and why they are spelled so:

- A float vector is bound once and its lanes are splat by shuffles: `fmla v.4s, v.4s, v.s[i]`.
- Two products of a level and a weight fit 16 bits when weights are within +-127, so that 16
  channels cost `smull, smlal2, sadalp`. Each output has an accumulator of its own, whose four lanes
  are added at the end.
- Rounding comes before saturation: `fcvtns, sqxtn, sqadd, sqxtn` clamp to the levels of a byte for
  nothing. `edgekit.arithmetic.requantize` says why the bits are the same.
- Four bytes are stored as one 32-bit lane: LLVM takes a vector of four bytes apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.isa.forms import LevelRule, Run, TileShape

if TYPE_CHECKING:
    import tvm

    Expr: TypeAlias = tvm.tirx.PrimExpr
    Buffer: TypeAlias = tvm.tirx.Buffer

_WORD = 4  # levels in one 32-bit lane


class Neon(Isa):
    """Describe NEON without dot products, such as Cortex-A72."""

    level_dtype = "int8"
    weight_limit = 127
    dot_group = 16
    num_partials = 4
    splat_group = 4
    table_width = 16
    float_products = False
    unroll = 28
    word_speed = 0.5

    def __init__(self) -> None:
        super().__init__(lanes=4, num_registers=32)

    @property
    def level_block(self) -> int:
        """Return 16: the levels of one register."""
        return 16

    # ---- what a tile costs

    def holds(self, shape: TileShape) -> bool:
        """Return whether a tile stays in registers.

        With a row of the kernel written out, LLVM loads every input column once and keeps it.
        """
        if shape.is_integer and self.num_partials > 1:
            return shape.pixels * shape.vectors * self.num_partials <= 16
        live = shape.pixels + 1
        if shape.kernel_width > 1:
            reach = (shape.columns - 1) * shape.stride + min(shape.kernel_width, 3)
            live = shape.rows * reach
        return shape.pixels * shape.vectors + live < self.num_registers

    def tile_cycles(self, shape: TileShape, steps: int) -> float:
        """Return how many instructions a tile takes; multiplications fill most of the slots.

        A step of the sums below is what one load of an input brings; loads go in pairs.
        """
        loads = shape.pixels * (0.5 if shape.stride == 1 else 1.0)
        if shape.kernel_width > 1:
            reach = (shape.columns - 1) * shape.stride + shape.kernel_width
            loads = shape.rows * reach / shape.kernel_width / 2
        results = shape.pixels * shape.vectors
        has_partials = shape.is_integer and self.num_partials > 1
        taken = 1 if has_partials else 4
        products = 12 * results if has_partials else 4 * results
        step = products + loads + 2 * shape.vectors + 3 / shape.kernel_width
        finish = 4 if not shape.is_integer else 15 if has_partials else 7
        finish += 8 if shape.is_integer and shape.has_residual else 0
        return steps / taken * step + results * finish + 14

    # ---- float32

    def splats(self, buffer: Buffer, index: Expr | int, count: int) -> list[Expr]:
        """Load `count` neighbouring floats, each into a whole vector."""
        from tvm.tirx.script.builder import ir as T

        if count < self.splat_group:
            return super().splats(buffer, index, count)
        # The fence keeps LLVM from loading the lanes one by one when the last has no use.
        loaded = T.Bind(self.fence(buffer[self.ramp(index)]))
        return [T.Shuffle([loaded], [lane] * self.lanes) for lane in range(count)]

    def maximum(self, first: Expr, second: Expr) -> Expr:
        """Return the larger of each pair of floats."""
        return self._neon("fmax.v4f32", "float32x4", first, second)

    def minimum(self, first: Expr, second: Expr) -> Expr:
        """Return the smaller of each pair of floats."""
        return self._neon("fmin.v4f32", "float32x4", first, second)

    # ---- integer products

    def load_dot(self, buffer: Buffer, index: Expr | int) -> Expr:
        """Load 16 neighbouring levels of one pixel."""
        from tvm.tirx.script.builder import ir as T

        return T.Bind(buffer[self.ramp(index, self.dot_group)])

    def dot(self, accumulator: Expr, x: Expr, weights: Buffer, index: Expr | int) -> Expr:
        """Add the products of 16 channels for one output, spread over four lanes."""
        low, high = self._products(x, weights[self.ramp(index, self.dot_group)])
        return accumulator + self._neon("saddlp.v4i32.v8i16", "int32x4", low + high)

    def combine(self, partials: Sequence[Expr]) -> Expr:
        """Return four outputs, each the sum over the lanes of its accumulator."""
        first, second, third, fourth = partials
        return self._pairwise(self._pairwise(first, second), self._pairwise(third, fourth))

    # ---- products of 16-bit numbers

    def load_words(self, buffer: Buffer, index: Expr | int, count: int) -> list[Expr]:
        """Load 8 neighbouring inputs at a time; products name the lane."""
        from tvm.tirx.script.builder import ir as T

        assert count % 8 == 0, count
        vectors = [T.Bind(buffer[self.ramp(index + start, 8)]) for start in range(0, count, 8)]
        return [T.Shuffle([vector], [lane] * 4) for vector in vectors for lane in range(8)]

    def word_weights(self, buffer: Buffer, index: Expr | int, vectors: int) -> list[Expr]:
        """Load the weights of one input, as halves of registers."""
        from tvm.tirx.script.builder import ir as T

        loaded = [T.Bind(buffer[self.ramp(index + start, 8)]) for start in range(0, 4 * vectors, 8)]
        return [half("int16x4", w) for w in loaded for half in (T.vectorlow, T.vectorhigh)]

    def multiply_words(
        self, accumulators: Sequence[Expr], x: Expr, weights: Sequence[Expr]
    ) -> list[Expr]:
        """Add the products of one input."""
        return [
            total + self._neon("smull.v4i32", "int32x4", w, x)
            for total, w in zip(accumulators, weights, strict=True)
        ]

    # ---- integer products of single channels

    def multiply_taps(
        self, accumulators: Sequence[Expr], taps: Sequence[tuple[Expr, Expr]]
    ) -> list[Expr]:
        """Add products of 16 levels and weights at the same place, two taps at a time."""
        from tvm.tirx.script.builder import ir as T

        totals = list(accumulators)
        for number in range(0, len(taps), 2):
            products = [self._products(x, w) for x, w in taps[number : number + 2]]
            for half, pair in enumerate(zip(*products, strict=True)):
                total = T.Bind(pair[0] + pair[1] if len(pair) == 2 else pair[0])
                for part, take in enumerate((T.vectorlow, T.vectorhigh)):
                    place = 2 * half + part
                    totals[place] = totals[place] + T.Cast("int32x4", take("int16x4", total))
        return totals

    def _products(self, x: Expr, w: Expr) -> list[Expr]:
        """Return the 16-bit products of 16 levels and weights, as two vectors."""
        pairs = zip(halves(x), halves(w), strict=True)
        return [self._neon("smull.v8i16", "int16x8", low, high) for low, high in pairs]

    # ---- tables of all levels

    def load_table(self, table: Buffer) -> list[Expr]:
        """Load the table into 16 registers."""
        from tvm.tirx.script.builder import ir as T

        rows = [table[self.ramp(row * 16, 16)] for row in range(16)]
        return [T.Bind(T.reinterpret("int8x16", row)) for row in rows]

    def look_up(self, table: list[Expr], levels: Expr, lowest: int) -> Expr:
        """Replace 16 levels: `tbl` and `tbx` each know 64 values and leave the rest alone."""
        from tvm.tirx.script.builder import ir as T

        dtype = str(levels.ty.dtype)
        place = T.reinterpret("int8x16", levels)
        if lowest:
            place = T.Bind(place ^ _bytes(lowest, 16))
        found = self._neon("tbl4.v16i8", "int8x16", *table[:4], place)
        for row in (4, 8, 12):
            place = T.Bind(place - _bytes(64, 16))
            found = self._neon("tbx4.v16i8", "int8x16", found, *table[row : row + 4], place)
        return T.reinterpret(dtype, found)

    # ---- between levels and floats

    def load_levels(
        self, buffer: Buffer, index: Expr | int, zero_point: int, count: int = 1
    ) -> list[Expr]:
        """Load `count` neighbouring vectors of levels as int32, minus the zero point."""
        vectors: list[Expr] = []
        while count > len(vectors):
            size = next(size for size in (4, 2, 1) if size <= count - len(vectors))
            place = index + len(vectors) * _WORD
            vectors += _widened(self._levels(buffer, place, size * _WORD), zero_point)[:size]
        return vectors

    def rounded(self, scaled: Expr, rule: LevelRule) -> Expr:
        """Clamp and round to whole numbers, still floats and without the zero point."""
        return self.call("llvm.roundeven.v4f32", "float32x4", self.clamped(scaled, rule))

    def store_levels(self, buffer: Buffer, runs: Sequence[Run], rule: LevelRule) -> None:
        """Round, add the zero point, clamp and store; `buffer` holds `level_dtype`."""
        from tvm.tirx.script.builder import ir as T

        for index, vectors in _pieces(runs):
            if len(vectors) == 1:
                continue
            levels = self._to_levels(vectors, rule)
            T.buffer_store(buffer, levels, [self.ramp(index, len(vectors) * _WORD)])
        words = [(index, vectors[0]) for index, vectors in _pieces(runs) if len(vectors) == 1]
        for number in range(0, len(words), 2):
            self._store_words(buffer, words[number : number + 2], rule)

    def _store_words(
        self, buffer: Buffer, words: Sequence[tuple[Expr | int, Expr]], rule: LevelRule
    ) -> None:
        """Store one or two vectors of four levels, which lie anywhere."""
        from tvm.tirx.script.builder import ir as T

        both = [words[0][1], words[-1][1]]
        lanes = T.Bind(T.reinterpret("int32x2", self._to_levels(both, rule)))
        # A view in words: places of vectors are multiples of four levels.
        view = T.decl_buffer((int(buffer.ty.shape[0]) // _WORD,), "int32", data=buffer.data)
        for lane, (index, _) in enumerate(words):
            T.buffer_store(view, T.Shuffle([lanes], [lane]), [index // _WORD])

    def _to_levels(self, vectors: Sequence[Expr], rule: LevelRule) -> Expr:
        """Turn two or four vectors of scaled values into levels side by side."""
        pairs = [
            self._level_pair(first, second, rule)
            for first, second in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        count = _WORD * len(vectors)
        levels = pairs[0] if len(pairs) == 1 else _joined("int8x16", *pairs)
        if rule.low > -128:
            levels = self.call(
                f"llvm.smax.v{count}i8", f"int8x{count}", levels, _bytes(rule.low, count)
            )
        if rule.high < 127:
            levels = self.call(
                f"llvm.smin.v{count}i8", f"int8x{count}", levels, _bytes(rule.high, count)
            )
        return levels

    def _level_pair(self, first: Expr, second: Expr, rule: LevelRule) -> Expr:
        from tvm.tirx.script.builder import ir as T

        words = [
            self._neon("sqxtn.v4i16", "int16x4", self._neon("fcvtns.v4i32.v4f32", "int32x4", each))
            for each in (first, second)
        ]
        moved = _joined("int16x8", *words)
        if rule.zero_point:
            zero_point = T.broadcast(T.Cast("int16", T.int32(rule.zero_point)), 8)
            moved = self.call("llvm.sadd.sat.v8i16", "int16x8", moved, zero_point)
        return self._neon("sqxtn.v8i8", "int8x8", moved)

    def _levels(self, buffer: Buffer, index: Expr | int, count: int) -> Expr:
        """Load 4, 8 or 16 levels; four come with four others that mean nothing."""
        from tvm.tirx.script.builder import ir as T

        if count > _WORD:
            return T.Bind(buffer[self.ramp(index, count)])
        view = T.decl_buffer((int(buffer.ty.shape[0]) // _WORD,), "int32", data=buffer.data)
        return T.Bind(T.reinterpret("int8x8", T.broadcast(view[index // _WORD], 2)))

    def _pairwise(self, first: Expr, second: Expr) -> Expr:
        return self._neon("addp.v4i32", "int32x4", first, second)

    def _neon(self, name: str, dtype: str, *arguments: Expr) -> Expr:
        return self.call(f"llvm.aarch64.neon.{name}", dtype, *arguments)


def halves(vector: Expr) -> tuple[Expr, Expr]:
    """Return the lower and the upper half of 16 bytes."""
    from tvm.tirx.script.builder import ir as T

    return T.vectorlow("int8x8", vector), T.vectorhigh("int8x8", vector)


def _pieces(runs: Sequence[Run]) -> list[tuple[Expr | int, tuple[Expr, ...]]]:
    """Cut runs into pieces of 16, 8 and 4 levels."""
    pieces = []
    for run in runs:
        start = 0
        for size in (4, 2, 1):
            while start + size <= len(run.vectors):
                pieces.append((run.index + start * _WORD, run.vectors[start : start + size]))
                start += size
    return pieces


def _widened(levels: Expr, zero_point: int) -> list[Expr]:
    """Return 16 levels as four int32 vectors, 8 as two; `_levels` says what 4 are."""
    from tvm.tirx.script.builder import ir as T

    count = 16 if str(levels.ty.dtype) == "int8x16" else 8
    wide = T.Cast(f"int16x{count}", levels)
    if zero_point:
        wide = wide - T.broadcast(T.Cast("int16", T.int32(zero_point)), count)
    wide = T.Bind(wide)
    parts = (
        [wide]
        if count == 8
        else [T.Bind(T.vectorlow("int16x8", wide)), T.Bind(T.vectorhigh("int16x8", wide))]
    )
    return [
        T.Cast("int32x4", half("int16x4", part))
        for part in parts
        for half in (T.vectorlow, T.vectorhigh)
    ]


def _joined(dtype: str, low: Expr, high: Expr) -> Expr:
    from tvm.tirx.script.builder import ir as T

    return T.vectorcombine(dtype, low, high)


def _bytes(value: int, count: int) -> Expr:
    from tvm.tirx.script.builder import ir as T

    return T.broadcast(T.Cast("int8", T.int32(value)), count)
