"""Whether Winograd with 16-bit products pays for a convolution of levels; the bits are the same.

Time is counted in multiply-adds of direct convolution: 16-bit products by how fast they are in
comparison, transforms per tile and channel, and weights from main memory, which mostly hide behind
the rest. Measured on Zen 3 (AVX2) in ms, direct against F(4, 3) and F(2, 3): 64 channels at 56x56
1.89, 0.64, 0.90; 256 channels at 14x14 2.77, 0.88, 0.98; 512 channels at 7x7 2.63, 1.56, 1.52.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.compiler.graph.operators import Convolution
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.winograd.levels import is_winograd_levels
from edgekit.compiler.kernels.winograd.matrices import TileSize

if TYPE_CHECKING:
    from edgekit.compiler.kernels.isa.base import Isa

_WORTH = 1.15  # Winograd must be that much faster than direct, F(4, 3) than F(2, 3)
_TRANSFORMS = {2: 130, 4: 600}
_PER_BYTE = 3.6


def choose_winograd_levels(
    op: Convolution, x: Tensor, y: Tensor, isa: Isa, *, sizes: tuple[TileSize, ...] = (2, 4)
) -> TileSize | None:
    """Return which Winograd algorithm computes a convolution of levels, None for direct.

    Args:
        op: A convolution.
        x: What it reads, [1, C, H, W].
        y: What it writes, [1, K, OH, OW].
        isa: Instruction set.
        sizes: Tiles that may be used.
    """
    chosen: TileSize | None = None
    best = 1.0
    for m in sorted(sizes):
        if not is_winograd_levels(op, isa, m):
            continue
        gain = levels_gain(op, x, y, isa, m)
        if gain >= best * _WORTH:
            chosen, best = m, gain
    return chosen


def levels_gain(op: Convolution, x: Tensor, y: Tensor, isa: Isa, m: TileSize) -> float:
    """Estimate how many times faster than direct convolution Winograd is; 0 where it never is.

    Args:
        op: A 3x3 convolution of stride 1.
        x: What it reads, [1, C, H, W].
        y: What it writes, [1, K, OH, OW].
        isa: Instruction set.
        m: Outputs of a tile in each direction.
    """
    if not isa.word_speed:
        return 0.0
    (inputs, *_), (outputs, height, width) = x.shape[1:], y.shape[1:]
    direct = _overlapped(9 * height * width * inputs * outputs, op.weights.nbytes)
    tiles = -(-height // m) * -(-width // m)
    products = tiles * (m + 2) ** 2 * inputs * outputs / isa.word_speed
    moves = _TRANSFORMS[m] * tiles * (inputs + outputs)
    return direct / _overlapped(products + moves, levels_weights_bytes(op, m))


def levels_weights_bytes(op: Convolution, m: TileSize) -> int:
    """Return the size of the transformed weights, without what fills the last panel."""
    outputs, inputs = op.weights.shape[:2]
    return int(2 * (m + 2) ** 2 * outputs * inputs)


def _overlapped(steps: float, size: int) -> float:
    return float(np.cbrt(steps**3 + (size * _PER_BYTE) ** 3))
