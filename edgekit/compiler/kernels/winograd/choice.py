"""Whether Winograd pays for a convolution: time, weights' size and rounding error.

Time counts half cycles of a core that multiplies and adds two vectors per cycle: arithmetic, the
transforms, and weights from main memory, which mostly hide each other. Measured on Zen 3 (AVX2) in
ms, weights in no cache: 128 channels at 28x28 take 2.5 directly, 1.3 by F(2, 3), 0.78 by F(4, 3);
512 channels at 7x7 take 1.7 by F(2, 3) and 3.2 by F(4, 3), which reads 38 MB of weights.

Error is measured, not bounded: bounds from the matrices' norms are hundreds of times what happens.
Random inputs behind a ReLU, whose mean is not zero, show the cancellation that makes F(4, 3) less
exact where weights take differences of neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekit.compiler.graph.operators import Convolution
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.winograd.floats import is_winograd
from edgekit.compiler.kernels.winograd.matrices import (
    TileSize,
    input_matrix,
    output_matrix,
    transformed_weights,
)

if TYPE_CHECKING:
    from edgekit.compiler.kernels.isa.base import Isa

ERROR_BUDGET = 1e-4
"""Largest `winograd_error` that is taken, relative to the output's range."""

_WORTH = 1.15  # Winograd must be that much faster than direct, F(4, 3) than F(2, 3)
_MEMORY_BYTES = 2.5  # main memory gives one core in half a cycle
_DIRECT_SHARE = 0.9  # of the peak that direct convolution reaches
_PRODUCT_SHARE = 0.95
_INPUT_STEPS = {2: 90, 4: 210}  # half cycles for a vector of channels of one tile, measured
_OUTPUT_STEPS = {2: 50, 4: 140}
_SAMPLE_TILES = 3  # in each direction
_SAMPLE_OUTPUTS = 16


def choose_winograd(
    op: Convolution,
    x: Tensor,
    y: Tensor,
    isa: Isa,
    *,
    sizes: tuple[TileSize, ...] = (2, 4),
    error_budget: float = ERROR_BUDGET,
) -> TileSize | None:
    """Return which Winograd algorithm computes a convolution, None for direct convolution.

    A larger tile multiplies the weights, so it must be clearly faster than the smaller one.

    Args:
        op: A convolution.
        x: What it reads, [1, C, H, W].
        y: What it writes, [1, K, OH, OW].
        isa: Instruction set.
        sizes: Tiles that may be used.
        error_budget: Largest `winograd_error`.
    """
    if not is_winograd(op):
        return None
    chosen: TileSize | None = None
    best = 1.0
    for m in sorted(sizes):
        gain = winograd_gain(op, x, y, isa, m)
        if gain >= best * _WORTH and winograd_error(op, m) <= error_budget:
            chosen, best = m, gain
    return chosen


def winograd_gain(op: Convolution, x: Tensor, y: Tensor, isa: Isa, m: TileSize) -> float:
    """Estimate how many times faster than direct convolution Winograd is.

    Args:
        op: A convolution for which `is_winograd` holds.
        x: What it reads, [1, C, H, W].
        y: What it writes, [1, K, OH, OW].
        isa: Instruction set.
        m: Outputs of a tile in each direction.
    """
    (inputs, *_), (outputs, height, width) = x.shape[1:], y.shape[1:]
    input_blocks, output_blocks = -(-inputs // isa.lanes), -(-outputs // isa.lanes)
    direct = _overlapped(
        9 * height * width * inputs * output_blocks / _DIRECT_SHARE, op.weights.nbytes
    )
    tiles = -(-height // m) * -(-width // m)
    products = (m + 2) ** 2 * inputs * output_blocks / _PRODUCT_SHARE
    transforms = _INPUT_STEPS[m] * input_blocks + _OUTPUT_STEPS[m] * output_blocks
    return direct / _overlapped(tiles * (products + transforms), weights_bytes(op, m))


def _overlapped(steps: float, size: int) -> float:
    """Return the time of arithmetic and of reading weights, which mostly hide each other."""
    return float(np.cbrt(steps**3 + (size / _MEMORY_BYTES) ** 3))


def weights_bytes(op: Convolution, m: TileSize) -> int:
    """Return the size of the transformed weights, without what fills the last vector."""
    outputs, inputs = op.weights.shape[:2]
    return int(4 * (m + 2) ** 2 * outputs * inputs)


def winograd_error(op: Convolution, m: TileSize, *, seed: int = 0) -> float:
    """Return the largest error of float32 Winograd on random inputs over the output's range.

    Args:
        op: A convolution for which `is_winograd` holds; some of its outputs are looked at.
        m: Outputs of a tile in each direction.
        seed: Of the inputs.
    """
    outputs, inputs = op.weights.shape[:2]
    taken = np.linspace(0, outputs - 1, min(outputs, _SAMPLE_OUTPUTS)).astype(int)
    weights = op.weights[taken].astype(np.float32)
    side = _SAMPLE_TILES * m + 2
    noise = np.random.default_rng(seed).standard_normal((inputs, side, side))
    image = np.maximum(noise, 0).astype(np.float32)
    exact = _direct(image.astype(np.float64), weights.astype(np.float64))
    span = np.abs(exact).max()
    error = np.abs(winograd_in_numpy(image, weights, m) - exact).max()
    return float(error / span) if span else 0.0


def winograd_in_numpy(
    image: NDArray[np.float32], weights: NDArray[np.float32], m: TileSize
) -> NDArray[np.float32]:
    """Compute a 3x3 convolution as the kernels do, in float32 throughout.

    Args:
        image: [C, H, W], of whole tiles and their surroundings: H - 2 and W - 2 are multiples of m.
        weights: [K, C, 3, 3].
        m: Outputs of a tile in each direction.

    Returns:
        [K, H - 2, W - 2].
    """
    forward, back = input_matrix(m).astype(np.float32), output_matrix(m).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(image, (m + 2, m + 2), axis=(1, 2))
    tiles = windows[:, ::m, ::m]
    moved = np.einsum("ij,chwjk->chwik", forward, tiles)
    moved = np.einsum("chwik,lk->ilhwc", moved, forward)
    size, high, wide = m + 2, tiles.shape[1], tiles.shape[2]
    factors = transformed_weights(weights, m)
    products = moved.reshape(size * size, high * wide, -1) @ factors
    squares = products.reshape(size, size, high, wide, -1)
    results = np.einsum("ij,jkhwo->ikhwo", back, squares)
    results = np.einsum("ikhwo,lk->ohiwl", results, back)
    return np.asarray(results.reshape(-1, high * m, wide * m), np.float32)


def _direct(image: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = (size - 2 for size in image.shape[1:])
    total = np.zeros((len(weights), rows, columns))
    for i in range(3):
        for j in range(3):
            window = image[:, i : i + rows, j : j + columns]
            total += np.tensordot(weights[:, :, i, j], window, 1)
    return total
