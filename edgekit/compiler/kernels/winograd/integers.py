"""Winograd's filtering of 3x3 windows in whole numbers: exact results from 16-bit operands.

The transforms of inputs are integers anyway. Those of weights have denominators; here each row is
scaled to integers instead, and the transform of outputs makes up for it, so that it yields the
convolution times 24 * 24 for F(4, 3) (2 * 2 for F(2, 3)). All sums are taken modulo 2**32, where an
odd factor has an inverse and a power of two is a shift: what comes out is exact as long as the
convolution itself is below 2**25, which the weights prove (`is_exact`).

Levels of 8 bits grow to at most 100 times as much, weights within +-127 to at most 49 times: both
fit 16 bits.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, sections 4.1
and 4.3, for the transforms; scaled rows and the inverse are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tvm

    Expr: TypeAlias = tvm.tirx.PrimExpr
    Vector: TypeAlias = Expr | NDArray[np.int32]
    Bind: TypeAlias = Callable[[Vector], Vector]
    Constant: TypeAlias = Callable[[int], Vector]

_ROWS: dict[int, list[list[int]]] = {
    2: [[1, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 1]],
    4: [[1, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [1, -2, 4], [0, 0, 1]],
}
_SHIFTS = {2: (1, 1), 4: (3, 2, 1, 1)}
INVERSE = {2: 1, 4: pow(9, -1, 2**32)}
"""What undoes the odd part of the factor, modulo 2**32; below 2**31."""


def integer_weights(weights: NDArray[np.int8], m: int) -> NDArray[np.int16]:
    """Return scaled transformed weights.

    Args:
        weights: [outputs, inputs, 3, 3], within +-127.
        m: Outputs of a tile in each direction, 2 or 4.

    Returns:
        [(m + 2)**2, inputs, outputs].
    """
    rows = np.array(_ROWS[m], np.int32)
    moved = np.einsum("ij,ocjk,lk->ilco", rows, weights.astype(np.int32), rows)
    size = (m + 2) ** 2
    return np.asarray(moved.reshape(size, *moved.shape[2:]), np.int16)


def is_exact(weights: NDArray[np.int8], m: int, largest_level: int) -> bool:
    """Return whether every possible sum of products can be told apart modulo 2**32.

    Args:
        weights: [outputs, inputs, 3, 3].
        m: Outputs of a tile in each direction, 2 or 4.
        largest_level: Largest absolute value of a level: 128 when signed, 255 when not.
    """
    largest = np.abs(weights.astype(np.int64)).sum((1, 2, 3)).max() * largest_level
    return bool(largest < 2 ** (31 - 2 * max(_SHIFTS[m])))


def shift_of(m: int, row: int, column: int) -> int:
    """Return by how many bits an output is too far left."""
    return _SHIFTS[m][row] + _SHIFTS[m][column]


def transform_inputs(d: Sequence[Vector], constant: Constant, bind: Bind) -> list[Vector]:
    """Return the transform of m + 2 vectors.

    Args:
        d: The vectors.
        constant: Makes a vector that holds one number everywhere.
        bind: Gives an intermediate result a name.
    """
    if len(d) == 4:
        return [bind(d[0] - d[2]), bind(d[1] + d[2]), bind(d[2] - d[1]), bind(d[1] - d[3])]
    even, odd = bind(d[4] - d[2] * constant(4)), bind(d[3] - d[1] * constant(4))
    wide_even, wide_odd = bind(d[4] - d[2]), bind((d[3] - d[1]) * constant(2))
    return [
        bind(wide_even + (d[0] - d[2]) * constant(4)),
        bind(even + odd),
        bind(even - odd),
        bind(wide_even + wide_odd),
        bind(wide_even - wide_odd),
        bind(d[5] - d[3] + (d[1] - d[3]) * constant(4)),
    ]


def transform_outputs(x: Sequence[Vector], constant: Constant, bind: Bind) -> list[Vector]:
    """Return the transform of m + 2 vectors: m vectors, scaled as `shift_of` and `INVERSE` say."""
    if len(x) == 4:
        return [bind(x[0] * constant(2) + x[1] + x[2]), bind(x[1] - x[2] - x[3] * constant(2))]
    near_sum, near = bind(x[1] + x[2]), bind(x[1] - x[2])
    far_sum, far = bind(x[3] + x[4]), bind(x[3] - x[4])
    return [
        bind(far_sum - near_sum * constant(4) + x[0] * constant(6)),
        bind(far - near * constant(2)),
        bind(far_sum - near_sum),
        bind(far * constant(2) - near + x[5] * constant(6)),
    ]
