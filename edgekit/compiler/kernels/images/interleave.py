"""Turn vectors of neighbouring pixels into pixels of neighbouring channels, and back.

Both go by zips of two vectors, one step per doubling, which LLVM finds instructions for; a single
shuffle of everything it takes apart value by value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import tvm

    Expr: TypeAlias = tvm.tirx.PrimExpr


def interleave(vectors: Sequence[Expr], length: int) -> Expr:
    """Join vectors value by value: all first values, then all second ones, and so on.

    Args:
        vectors: A power of two of them.
        length: Values in each, at least 2.
    """
    from tvm.tirx.script.builder import ir as T

    if len(vectors) == 1:
        return vectors[0]
    even, odd = interleave(vectors[::2], length), interleave(vectors[1::2], length)
    half = length * len(vectors) // 2
    order = [
        value for pair in zip(range(half), range(half, 2 * half), strict=True) for value in pair
    ]
    return T.Bind(T.Shuffle([even, odd], order))


def deinterleave(vector: Expr, parts: int, length: int) -> list[Expr]:
    """Undo `interleave`: split into `parts` vectors of `length` values."""
    from tvm.tirx.script.builder import ir as T

    if parts == 1:
        return [vector]
    whole = parts * length
    halves = [T.Bind(T.Shuffle([vector], list(range(start, whole, 2)))) for start in (0, 1)]
    even, odd = (deinterleave(half, parts // 2, length) for half in halves)
    return [part for pair in zip(even, odd, strict=True) for part in pair]
