"""Conversions of single values or vectors between the numbers at a graph's edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.graph.tensors import Grid
    from edgekit.compiler.kernels.draft import Draft

    Expr: TypeAlias = tvm.tirx.PrimExpr

_MAGIC = 12582912.0  # 1.5 * 2**23, see `isa.base`
_MAGIC_BITS = int(np.float32(_MAGIC).view(np.int32))
_LOWEST = {"int8": -128, "uint8": 0}


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """Convert from one dtype to another.

    Levels of different dtypes are moved by 128 (which flips their highest bit). Floats become
    levels, and levels floats, by a grid.

    Args:
        source: dtype of what is read.
        result: dtype of what is written.
        grid: Of the levels, its zero point as stored in them; None when both are alike.
    """

    source: str
    result: str
    grid: Grid | None = None

    @property
    def constants(self) -> tuple[np.ndarray, ...]:
        """Return the arrays a kernel needs: the scale, from memory.

        TVM would turn a division by a number it sees into a product with its reciprocal.
        """
        return () if self.grid is None else (np.array([self.grid.scale], np.float32),)

    @property
    def is_quantization(self) -> bool:
        """Return whether floats become levels."""
        return self.grid is not None and self.source == "float32"

    def scaled(self, draft: Draft, value: Expr, length: int) -> Expr:
        """Divide floats by the scale."""
        return value / _splat(draft.constants[0][0], length)

    def level(self, draft: Draft, value: Expr, length: int) -> Expr:
        """Return the int32 levels of floats."""
        from tvm.tirx.script.builder import ir as T

        assert self.grid is not None
        low = _LOWEST[self.result] - self.grid.zero_point
        scaled = self.scaled(draft, value, length)
        scaled = T.max(scaled, _splat(T.float32(low), length))
        scaled = T.min(scaled, _splat(T.float32(low + 255), length))
        moved = scaled + _splat(T.float32(_MAGIC), length)
        magic = _splat(T.int32(_MAGIC_BITS - self.grid.zero_point), length)
        return T.reinterpret(_typed("int32", length), moved) - magic

    def apply(self, draft: Draft, value: Expr, length: int) -> Expr:
        """Convert a value, or a vector of `length` values."""
        from tvm.tirx.script.builder import ir as T

        if self.is_quantization:
            return T.Cast(_typed(self.result, length), self.level(draft, value, length))
        if self.grid is not None:
            wide = T.Cast(_typed("int32", length), value)
            moved = wide - _splat(T.int32(self.grid.zero_point), length)
            scale = _splat(draft.constants[0][0], length)
            return T.Cast(_typed("float32", length), moved) * scale
        if self.source == self.result:
            return value
        flipped = T.bitwise_xor(
            T.reinterpret(_typed("int8", length), value),
            _splat(T.Cast("int8", T.int32(-128)), length),
        )
        return T.reinterpret(_typed(self.result, length), flipped)


def _typed(dtype: str, length: int) -> str:
    return f"{dtype}x{length}" if length > 1 else dtype


def _splat(value: Expr, length: int) -> Expr:
    from tvm.tirx.script.builder import ir as T

    return T.broadcast(value, length) if length > 1 else value
