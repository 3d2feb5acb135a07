"""Convolutions and windows over images in float64, the ground of every reference operator.

Why float64: products of levels and weights and all their partial sums are integers below 2^53, so
a float64 matrix product is exact in any order of summation, and numpy has no fast integer one.
For real values it is the more precise yardstick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What the unfolded windows of one band of rows may take: stays near the caches, never fills memory.
_BAND_BYTES = 1 << 25


def windows(
    values: NDArray[np.float64],
    window: tuple[int, int],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilations: tuple[int, int] = (1, 1),
    fill: float = 0.0,
) -> NDArray[np.float64]:
    """Give every window of an image as a view.

    Args:
        values: [batch, channels, height, width].
        window: height and width of a window.
        strides: vertical, horizontal.
        padding: top, left, bottom, right.
        dilations: vertical, horizontal.
        fill: value of the padding.

    Returns:
        [batch, channels, out height, out width, window height, window width], read-only.
    """
    top, left, bottom, right = padding
    around = ((0, 0), (0, 0), (top, bottom), (left, right))
    padded = np.pad(values, around, constant_values=fill) if any(padding) else values
    reach = tuple((k - 1) * d + 1 for k, d in zip(window, dilations, strict=True))
    everywhere = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    return everywhere[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]


def convolve(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilations: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> NDArray[np.float64]:
    """Correlate an image with kernels, padding it by zeros.

    Args:
        values: [batch, channels, height, width].
        weights: [outputs, channels / groups, kernel height, kernel width].
        strides: vertical, horizontal.
        padding: top, left, bottom, right (the order of ONNX `pads`).
        dilations: vertical, horizontal.
        groups: number of channel groups; equal to channels for depthwise.

    Returns:
        [batch, outputs, out height, out width].

    Raises:
        ValueError: channels, weights and groups do not fit together.
    """
    outputs, inner, height, width = weights.shape
    if values.shape[1] != groups * inner or outputs % groups:
        raise ValueError(f"{values.shape[1]} channels, weights {weights.shape}, groups {groups}")
    patches = windows(
        values, (height, width), strides=strides, padding=padding, dilations=dilations
    )
    batch, _, rows, columns = patches.shape[:4]
    taps = inner * height * width
    kernels = weights.reshape(groups, outputs // groups, taps)
    sums = np.empty((batch, groups, outputs // groups, rows, columns), np.float64)
    band = max(1, _BAND_BYTES // (8 * groups * taps * columns))
    for image in range(batch):
        for start in range(0, rows, band):
            part = patches[image, :, start : start + band]
            count = part.shape[1]
            unfolded = part.transpose(0, 3, 4, 1, 2).reshape(groups, taps, count * columns)
            sums[image, :, :, start : start + count] = _products(kernels, unfolded).reshape(
                groups, -1, count, columns
            )
    return sums.reshape(batch, outputs, rows, columns)


def _products(kernels: NDArray[np.float64], unfolded: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(kernels) > 1 and kernels.shape[1] == 1:
        # A matrix product per group of one row each spends its time on calls.
        sums: NDArray[np.float64] = np.einsum("gt,gtp->gp", kernels[:, 0], unfolded)
        return sums[:, None]
    return kernels @ unfolded
