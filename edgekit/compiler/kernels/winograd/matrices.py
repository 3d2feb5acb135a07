"""The matrices of F(2x2, 3x3) and F(4x4, 3x3), weights in their domain, and their arithmetic.

A tile of m x m outputs is At [(G g Gt) * (Bt d B)] A, in which d are the (m + 2)**2 inputs it
depends on and g the 3x3 weights; * multiplies value by value, and the bracket is summed over input
channels. That takes (m + 2)**2 products instead of 9 m**2.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, sections 4.1
and 4.3, interpolation points 0, 1, -1 (2, -2) and infinity.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

TileSize = Literal[2, 4]
Float64 = NDArray[np.float64]

_INPUT: dict[int, list[list[float]]] = {
    2: [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    4: [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
}
_WEIGHTS: dict[int, list[list[float]]] = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}
_OUTPUT: dict[int, list[list[float]]] = {
    2: [[1, 1, 1, 0], [0, 1, -1, -1]],
    4: [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ],
}


def input_matrix(m: TileSize) -> Float64:
    """Return Bt, [m + 2, m + 2]."""
    return np.array(_INPUT[m], np.float64)


def weight_matrix(m: TileSize) -> Float64:
    """Return G, [m + 2, 3]."""
    return np.array(_WEIGHTS[m], np.float64)


def output_matrix(m: TileSize) -> Float64:
    """Return At, [m, m + 2]."""
    return np.array(_OUTPUT[m], np.float64)


def transformed_weights(weights: NDArray[np.float32], m: TileSize) -> NDArray[np.float32]:
    """Return G g Gt of every pair of channels, computed in float64 and rounded once.

    Args:
        weights: [outputs, inputs, 3, 3].
        m: Outputs of a tile in each direction.

    Returns:
        [(m + 2)**2, inputs, outputs].
    """
    matrix = weight_matrix(m)
    outputs, inputs = weights.shape[:2]
    rows = np.einsum("ij,ocjk->iock", matrix, weights.astype(np.float64))
    both = np.einsum("iock,lk->ilco", rows, matrix)
    return np.asarray(both.reshape((m + 2) ** 2, inputs, outputs), np.float32)
