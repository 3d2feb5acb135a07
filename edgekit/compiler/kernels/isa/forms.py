"""What kernels tell instruction sets: levels wanted, vectors to store, shapes of register tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    import tvm

    Expr: TypeAlias = tvm.tirx.PrimExpr


class LevelRule(msgspec.Struct, frozen=True, kw_only=True):
    """Say which levels floats become, in terms of `Isa.level_dtype`.

    Args:
        zero_point: Added after rounding.
        low: Smallest level.
        high: Largest level.
        limit: Bound on the absolute value of what is rounded, where one is known; instruction
            sets leave clamps out that it and saturation make useless.
    """

    zero_point: int
    low: int
    high: int
    limit: float = float("inf")


class Run(msgspec.Struct, frozen=True, eq=False):
    """Hold vectors that lie side by side in memory.

    Args:
        index: Of the first value.
        vectors: One or more float32 vectors of `lanes` values, scaled but not rounded.
    """

    index: Expr | int
    vectors: tuple[Expr, ...]


class TileShape(msgspec.Struct, frozen=True, kw_only=True):
    """State what a register tile of a convolution holds and reads.

    Args:
        rows: Rows of pixels.
        columns: Columns of pixels.
        vectors: Output vectors of each pixel.
        kernel_width: Columns of the kernel.
        stride: Columns between two windows.
        is_integer: Whether levels are multiplied.
        has_residual: Whether something is added to the results.
    """

    rows: int
    columns: int
    vectors: int
    kernel_width: int = 1
    stride: int = 1
    is_integer: bool = False
    has_residual: bool = False

    @property
    def pixels(self) -> int:
        """Return the number of pixels."""
        return self.rows * self.columns
