"""Cover everything that was seen."""

from __future__ import annotations

from typing import ClassVar

from edgekit.compress.quant.observer import Needs, Range, TensorStatistics
from edgekit.core.options import Options


class MinMax(Options, frozen=True, kw_only=True):
    """Cover the smallest and the largest value; nothing of the calibration data is clipped.

    Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR 2018, without the moving average of training.
    """

    needs: ClassVar[Needs] = "extremes"
    histogram_bins: ClassVar[int] = 0

    def range(self, statistics: TensorStatistics) -> Range:
        """Return the extremes."""
        return statistics.low, statistics.high
