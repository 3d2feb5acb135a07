"""The project's definition of requantization, bit for bit.

Every kernel (C, NEON, AVX, generated) and every checker equals this file. For one accumulator

    acc   int32, bias and zero points already added
    m     float32 = float32(float64(s_x) * float64(s_w) / float64(s_y)), one per output channel
    z_y   int32, the output's zero point; lo, hi the output's levels

the output level is

    f = float32(acc)            int32 -> float32, rounded to nearest, ties to even
    p = f * m                   ONE float32 multiplication, rounded to nearest, ties to even
    c = min(max(p, lo - z_y), hi - z_y)      in float32; both bounds are small integers, so exact
    r = round(c)                to an integer, ties to even
    q = int(r) + z_y            in int32; already within lo..hi

In C, in the default rounding mode and without contraction of floating point expressions:

    float p = (float)acc * m;
    p = fmaxf(p, (float)(lo - z_y)); p = fminf(p, (float)(hi - z_y));
    q = (int32_t)nearbyintf(p) + z_y;

Forms that give the same bits, and why:
- AVX: `cvtdq2ps, mulps, maxps, minps`, then `+ 12582912.0f` and an integer subtraction. After the
  clamp |p| < 2^22, where adding 1.5 * 2^23 rounds to an integer, ties to even. The clamp must stand
  between product and sum: fused into one multiply-add, the product would not be rounded, and ties
  would fall differently.
- NEON: `scvtf, fmul, fcvtns, sqxtn, sqadd(z_y), sqxtn`. Rounding first and saturating later is the
  same, because rounding is monotonic and the bounds are integers; 16 bits are enough, because
  |z_y| <= 255.
- A plain conversion of an unclamped p is NOT the same on x86: it yields INT_MIN beyond 2^31.

Why a float multiplier and not a fixed-point one: all targets have a float unit, the multiply is one
instruction in eight lanes, and a 24-bit significand is finer than the result needs. The result
differs from exact real arithmetic by at most one level, and only next to a tie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from edgekit.arithmetic.affine import Levels


def multiplier(
    input_scale: ArrayLike, weight_scale: ArrayLike, output_scale: ArrayLike
) -> NDArray[np.float32]:
    """Give the float32 multiplier m of the definition.

    Args:
        input_scale: float32 scalar s_x.
        weight_scale: float32 scalar or [channels] s_w; 1 for operators without weights.
        output_scale: float32 scalar s_y.

    Returns:
        [] or [channels].
    """
    x, w, y = (
        np.asarray(s, np.float32).astype(np.float64)
        for s in (input_scale, weight_scale, output_scale)
    )
    return np.asarray(x * w / y, np.float32)


def requantize(
    accumulators: NDArray[np.int32],
    multipliers: NDArray[np.float32] | np.float32,
    zero_point: int,
    levels: Levels,
    *,
    axis: int | None = None,
) -> NDArray[np.integer]:
    """Turn int32 accumulators into output levels, as defined at the top of this module.

    Args:
        accumulators: int32, any shape.
        multipliers: [] or [channels].
        zero_point: the output's zero point.
        levels: the output's levels.
        axis: the channel axis of the accumulators when multipliers is 1-d.

    Returns:
        Same shape, `levels.dtype`.
    """
    if accumulators.dtype != np.int32:
        raise TypeError(f"accumulators are {accumulators.dtype}, must be int32")
    shape = [1] * accumulators.ndim
    if axis is not None:
        shape[axis] = -1
    factors = np.asarray(multipliers, np.float32).reshape(shape)
    with np.errstate(over="ignore"):  # an infinite product saturates
        product = accumulators.astype(np.float32) * factors
    return _to_levels(product, zero_point, levels)


def requantized_add(
    first: NDArray[np.integer],
    first_zero_point: int,
    first_multiplier: np.float32,
    second: NDArray[np.integer],
    second_zero_point: int,
    second_multiplier: np.float32,
    zero_point: int,
    levels: Levels,
) -> NDArray[np.integer]:
    """Add two quantized tensors into a third grid.

    With m_i = float32(float64(s_i) / float64(s_y)), in this order and each operation rounded to
    float32 (no fused multiply-add):

        p_1 = float32(q_1 - z_1) * m_1
        p_2 = float32(q_2 - z_2) * m_2
        p = p_1 + p_2
        then clamp, round and shift as in requantization

    A convolution followed by a residual is therefore requantized twice, first to its own output
    grid and then here, as the QDQ form of the graph says.

    Args:
        first: levels q_1, any shape.
        first_zero_point: z_1.
        first_multiplier: m_1.
        second: levels q_2, same shape.
        second_zero_point: z_2.
        second_multiplier: m_2.
        zero_point: z_y of the output.
        levels: the output's levels.

    Returns:
        Same shape, `levels.dtype`.
    """
    left = (first.astype(np.int32) - first_zero_point).astype(np.float32)
    right = (second.astype(np.int32) - second_zero_point).astype(np.float32)
    total = left * np.float32(first_multiplier) + right * np.float32(second_multiplier)
    return _to_levels(total, zero_point, levels)


def _to_levels(scaled: NDArray[np.float32], zero_point: int, levels: Levels) -> NDArray[np.integer]:
    low, high = np.float32(levels.low - zero_point), np.float32(levels.high - zero_point)
    rounded = np.rint(np.minimum(np.maximum(scaled, low), high))
    return (rounded.astype(np.int32) + np.int32(zero_point)).astype(levels.dtype)
