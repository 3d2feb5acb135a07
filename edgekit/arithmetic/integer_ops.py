"""Reference integer operators: u8 or s8 activations times s8 weights into int32.

Zero-point identities, exact in integers and used by every backend:

    sum (x - z_x) w                = sum x w - z_x sum w                       (fold into the bias)
    sum (x - z_x)(w - z_w)         = sum x w - z_x sum w - z_w sum x + n z_x z_w
    sum (x - z_x) w                = sum (x' - z_x') w, x' = x - 128, z_x' = z_x - 128   (rebias)

Inside, numbers are float64, which is exact for them: see `arithmetic.windows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.arithmetic.windows import convolve, windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.integer]


def fold_zero_point(
    bias: NDArray[np.int32], weights: Integers, zero_point: int
) -> NDArray[np.int32]:
    """Move the input's zero point into the bias: bias - z_x * (sum of each output's weights).

    Args:
        bias: int32 [outputs].
        weights: [outputs, ...].
        zero_point: z_x of the input.

    Returns:
        int32 [outputs]; with it, sum x w + bias' equals sum (x - z_x) w + bias, provided padding
        holds the level z_x.
    """
    sums = weights.astype(np.int64).reshape(len(weights), -1).sum(axis=1)
    return _as_int32(bias.astype(np.int64) - zero_point * sums)


def rebias_to_signed(values: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Turn u8 levels into s8 levels (x - 128); the zero point moves by the same 128."""
    return (values.astype(np.int16) - 128).astype(np.int8)


def dense(
    values: Integers, weights: Integers, bias: NDArray[np.int32], zero_point: int
) -> NDArray[np.int32]:
    """Accumulate a fully connected layer: sum (x - z_x) w + bias.

    Args:
        values: u8 or s8 [batch, features].
        weights: s8 [outputs, features], zero point 0.
        bias: int32 [outputs], scale s_x * s_w.
        zero_point: z_x.

    Returns:
        int32 [batch, outputs].
    """
    centred = values.astype(np.float64) - zero_point
    return _as_int32(centred @ weights.astype(np.float64).T + bias)


def matmul(
    left: Integers, left_zero_point: int, right: Integers, right_zero_point: int
) -> NDArray[np.int32]:
    """Multiply two quantized matrices, both with zero points, through the four-term expansion.

    Args:
        left: [rows, inner].
        left_zero_point: its zero point.
        right: [inner, columns].
        right_zero_point: its zero point.

    Returns:
        int32 [rows, columns].
    """
    a, b = left.astype(np.float64), right.astype(np.float64)
    inner = a.shape[1]
    rows, columns = a.sum(axis=1, keepdims=True), b.sum(axis=0, keepdims=True)
    constant = inner * left_zero_point * right_zero_point
    return _as_int32(a @ b - left_zero_point * columns - right_zero_point * rows + constant)


def conv2d(
    values: Integers,
    weights: Integers,
    bias: NDArray[np.int32],
    zero_point: int,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilations: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> NDArray[np.int32]:
    """Accumulate a 2-d convolution: sum (x - z_x) w + bias. Padding is the real value zero.

    Args:
        values: u8 or s8 [batch, channels, height, width].
        weights: s8 [outputs, channels / groups, kernel height, kernel width], zero point 0.
        bias: int32 [outputs], scale s_x * s_w.
        zero_point: z_x, also the level of the padding.
        strides: vertical, horizontal.
        padding: top, left, bottom, right (the order of ONNX `pads`).
        dilations: vertical, horizontal.
        groups: number of channel groups; equal to channels for depthwise.

    Returns:
        int32 [batch, outputs, out height, out width].
    """
    sums = convolve(
        values.astype(np.float64) - zero_point,
        weights.astype(np.float64),
        strides=strides,
        padding=padding,
        dilations=dilations,
        groups=groups,
    )
    return _as_int32(sums + bias.reshape(1, -1, 1, 1))


def window_sums(
    values: Integers,
    zero_point: int,
    window: tuple[int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilations: tuple[int, int] = (1, 1),
) -> NDArray[np.int32]:
    """Accumulate an average: sum (x - z_x) over each window. Padding is the real value zero.

    The count of each window belongs into the multiplier of the requantization that follows:
    m = float32(float64(s_x) / float64(s_y) / count).

    Args:
        values: u8 or s8 [batch, channels, height, width].
        zero_point: z_x.
        window: height and width.
        strides: vertical, horizontal.
        padding: top, left, bottom, right.
        dilations: vertical, horizontal.

    Returns:
        int32 [batch, channels, out height, out width].
    """
    centred = values.astype(np.float64) - zero_point
    seen = windows(centred, window, strides=strides, padding=padding, dilations=dilations)
    return _as_int32(seen.sum(axis=(4, 5)))


def products(
    first: Integers, first_zero_point: int, second: Integers, second_zero_point: int
) -> NDArray[np.int32]:
    """Multiply two quantized tensors value by value: (x_1 - z_1) * (x_2 - z_2).

    Requantized with m = float32(float64(s_1) * float64(s_2) / float64(s_y)).

    Args:
        first: u8 or s8, any shape.
        first_zero_point: z_1.
        second: u8 or s8, broadcast against the first.
        second_zero_point: z_2.

    Returns:
        int32, the broadcast shape.
    """
    return from_zero(first, first_zero_point) * from_zero(second, second_zero_point)


def from_zero(values: Integers, zero_point: int) -> NDArray[np.int32]:
    """Subtract the zero point: x - z_x, what moving levels to another grid requantizes.

    Requantized with m = float32(float64(s_x) / float64(s_y)).

    Args:
        values: u8 or s8, any shape.
        zero_point: z_x.

    Returns:
        int32, same shape.
    """
    return values.astype(np.int32) - np.int32(zero_point)


def _as_int32(values: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.int32]:
    if values.size and float(np.abs(values).max()) >= 2**31:
        raise OverflowError(f"accumulator {np.abs(values).max():.0f} does not fit int32")
    return values.astype(np.int32)
