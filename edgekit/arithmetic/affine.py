"""Affine quantization: real value = scale * (level - zero point).

Why float64 for choosing parameters: `high - low` of two large float32 values can overflow, and the
stored float32 scale should be the correctly rounded one. Everything that a device repeats
(`quantize`, `dequantize`) is float32, operation by operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.errors import StageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Beyond this a tensor has diverged; below the scale's floor 1/scale is no longer a float32.
_LARGEST_RANGE = 1e30
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The integers a quantized tensor may hold: `low`..`high` inclusive, stored as `dtype`."""

    dtype: str
    low: int
    high: int

    @property
    def count(self) -> int:
        """How many levels there are."""
        return self.high - self.low + 1

    @property
    def middle(self) -> int:
        """The zero point of a symmetric grid: 0 when signed, the upper middle when unsigned."""
        return 0 if self.low < 0 else (self.high + 1) // 2


UINT8 = Levels(dtype="uint8", low=0, high=255)
INT8 = Levels(dtype="int8", low=-128, high=127)
#: Weights stay within +-127, so that a pair of products of signed bytes fits 16 bits.
INT8_WEIGHTS = Levels(dtype="int8", low=-127, high=127)


def levels_for(bits: int, *, signed: bool, narrow: bool = False) -> Levels:
    """Give the levels of a `bits`-bit integer, stored in 8 bits.

    Args:
        bits: 2 to 8.
        signed: two's complement when true.
        narrow: leave out the most negative level of a signed type, so that the grid is symmetric.

    Raises:
        ValueError: bits out of range, or a narrow unsigned type.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits is {bits}, must be 2 to 8")
    if not signed:
        if narrow:
            raise ValueError("an unsigned type has no narrow form")
        return Levels(dtype="uint8", low=0, high=2**bits - 1)
    half = 2 ** (bits - 1)
    return Levels(dtype="int8", low=1 - half if narrow else -half, high=half - 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class AffineGrid:
    """Scale and zero point of one tensor (0-d arrays) or of each channel (1-d) along `axis`.

    Attributes:
        scale: float32, positive, [] or [channels].
        zero_point: int32, same shape, within the levels.
        levels: the integers in use.
        axis: the channel axis of the tensor; None for per-tensor grids.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    levels: Levels
    axis: int | None = None

    def parts_for(self, ndim: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Give scale and zero point shaped to broadcast against a tensor of `ndim` dimensions."""
        if self.axis is None:
            return self.scale, self.zero_point
        shape = [1] * ndim
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


def grid_from_range(
    low: ArrayLike,
    high: ArrayLike,
    levels: Levels,
    *,
    symmetric: bool = False,
    axis: int | None = None,
) -> AffineGrid:
    """Choose scale and zero point so that `low`..`high` is covered and 0.0 is a level.

    The range is first widened to contain 0, since padding and ReLU produce exact zeros. A range
    without extent gets scale 1.

    Args:
        low: smallest values, [] or [channels].
        high: largest values, same shape.
        levels: the integers to map to.
        symmetric: fix the zero point at `levels.middle`.
        axis: the channel axis; needed exactly when low and high are 1-d.

    Raises:
        StageError: a bound is NaN, infinite or absurdly large, or low is above high.

    Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", section 3, "nudged" zero points.
    """
    low64, high64 = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if low64.shape != high64.shape or low64.ndim != (0 if axis is None else 1):
        raise ValueError(f"ranges of shape {low64.shape}, {high64.shape} do not fit axis {axis}")
    _check_range(low64, high64)
    low64, high64 = np.minimum(low64, 0.0), np.maximum(high64, 0.0)
    if symmetric:
        reach = min(levels.high - levels.middle, levels.middle - levels.low)
        scale = _as_scale(np.maximum(-low64, high64) / reach)
        zero_point = np.full(scale.shape, levels.middle)
    else:
        scale = _as_scale((high64 - low64) / (levels.high - levels.low))
        zero_point = np.rint(levels.low - low64 / scale.astype(np.float64))
    clipped = np.clip(zero_point, levels.low, levels.high).astype(np.int32)
    return AffineGrid(scale=scale, zero_point=clipped, levels=levels, axis=axis)


def weight_grid(
    weights: NDArray[np.float32], levels: Levels = INT8_WEIGHTS, *, axis: int | None = 0
) -> AffineGrid:
    """Choose the symmetric grid of a weight tensor from its largest magnitudes.

    Args:
        weights: any shape.
        levels: the integers to map to.
        axis: one scale per index along this axis (0: output channels); None for one scale.
    """
    over = None if axis is None else tuple(i for i in range(weights.ndim) if i != axis)
    reach = np.abs(weights).max(axis=over, initial=0.0)
    return grid_from_range(-reach, reach, levels, symmetric=True, axis=axis)


def quantize(values: NDArray[np.floating], grid: AffineGrid) -> NDArray[np.integer]:
    """Map real values to levels: round(values / scale) half to even, add the zero point, saturate.

    The division is one float32 operation; saturation happens before the conversion to integer, so
    values of any size are safe.

    Args:
        values: any shape; converted to float32 first.
        grid: where to map to.

    Returns:
        Same shape, `grid.levels.dtype`.

    Raises:
        StageError: values hold NaN.

    Source: ONNX QuantizeLinear.
    """
    scale, zero_point = grid.parts_for(values.ndim)
    with np.errstate(over="ignore"):  # beyond float32: saturates below
        scaled = np.rint(values.astype(np.float32) / scale)
    if np.isnan(scaled).any():
        raise StageError("quantizing a tensor", found="NaN values", expected="finite values")
    saturated = np.clip(scaled, grid.levels.low - zero_point, grid.levels.high - zero_point)
    quantized: NDArray[np.integer] = (saturated.astype(np.int32) + zero_point).astype(
        grid.levels.dtype
    )
    return quantized


def dequantize(values: NDArray[np.integer], grid: AffineGrid) -> NDArray[np.float32]:
    """Map levels back to real values: float32(level - zero point) * scale.

    Args:
        values: levels, any shape.
        grid: the grid they were quantized with.

    Returns:
        Same shape, float32.

    Source: ONNX DequantizeLinear.
    """
    scale, zero_point = grid.parts_for(values.ndim)
    return (values.astype(np.int32) - zero_point).astype(np.float32) * scale


def fake_quantize(values: NDArray[np.floating], grid: AffineGrid) -> NDArray[np.float32]:
    """Round real values to the grid: dequantize(quantize(values))."""
    return dequantize(quantize(values, grid), grid)


def _check_range(low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    for bound in (low, high):
        if not bool(np.all(np.abs(bound) <= _LARGEST_RANGE)):  # false for NaN too
            raise StageError(
                "choosing a quantization range",
                found=f"a bound of {bound[~(np.abs(bound) <= _LARGEST_RANGE)].flat[0]}",
                expected=f"finite values up to {_LARGEST_RANGE:g}",
                hint="The model has diverged or holds NaN: look at the stage before.",
            )
    if bool(np.any(low > high)):
        raise StageError(
            "choosing a quantization range",
            found=f"a smallest value {low[low > high].flat[0]:g} above the largest",
            expected="smallest <= largest",
        )


def _as_scale(scale: NDArray[np.float64]) -> NDArray[np.float32]:
    bounded = np.where(scale == 0.0, 1.0, np.maximum(scale, _SMALLEST_SCALE))
    return np.asarray(bounded, np.float32)
