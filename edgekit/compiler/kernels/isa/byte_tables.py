"""Look 32 levels up in a table of 256 bytes with AVX2.

`vpshufb` looks 16 bytes up by the lower half of a level. So every row of 16 values is looked up,
and bit by bit the upper half of the level chooses between rows: 16 shuffles and 15 blends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.kernels.isa.base import Isa

    Expr: TypeAlias = tvm.tirx.PrimExpr
    Buffer: TypeAlias = tvm.tirx.Buffer

WIDTH = 32
_ROW = 16
_LOWER_HALF = 15
_HIGHEST_BIT = -128


def load_rows(table: Buffer) -> list[Expr]:
    """Load the rows of a table, each into both halves of a register."""
    from tvm.tirx.script.builder import ir as T

    rows = []
    for row in range(256 // _ROW):
        values = T.Bind(table[T.ramp(row * _ROW, 1, _ROW)])
        both = T.Shuffle([values, values], list(range(2 * _ROW)))
        rows.append(T.Bind(T.reinterpret("int8x32", both)))
    return rows


def look_up(isa: Isa, rows: list[Expr], levels: Expr, lowest: int, dtype: str) -> Expr:
    """Replace 32 levels.

    Args:
        isa: Calls the instructions.
        rows: From `load_rows`.
        levels: int8 or uint8 vector.
        lowest: Lowest level there is, 0 or -128.
        dtype: Of the values.
    """
    from tvm.tirx.script.builder import ir as T

    places = T.reinterpret("int8x32", levels)
    if lowest:
        places = T.bitwise_xor(places, _bytes(_HIGHEST_BIT))
    places = T.Bind(places)
    lower = T.Bind(places & _bytes(_LOWER_HALF))
    found = [T.Bind(isa.call("llvm.x86.avx2.pshuf.b", "int8x32", row, lower)) for row in rows]
    pairs = T.Bind(T.reinterpret("int16x16", places))
    for bit in range(4, 8):
        # A blend looks at the highest bit of each byte; what comes from its neighbour is below.
        moved = pairs << T.broadcast(T.Cast("int16", T.int32(7 - bit)), 16)
        mask = T.Bind(T.reinterpret("int8x32", moved))
        found = [
            T.Bind(isa.call("llvm.x86.avx2.pblendvb", "int8x32", without, having, mask))
            for without, having in zip(found[::2], found[1::2], strict=True)
        ]
    return T.reinterpret(f"{dtype}x{WIDTH}", found[0])


def _bytes(value: int) -> Expr:
    from tvm.tirx.script.builder import ir as T

    return T.broadcast(T.Cast("int8", T.int32(value)), WIDTH)
