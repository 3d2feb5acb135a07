"""Clip where rounding and clipping together lose least."""

from __future__ import annotations

from typing import Annotated, ClassVar

from edgekit.compress.quant.observer import Needs, Range, TensorStatistics
from edgekit.core.options import Meta, Options


class Mse(Options, frozen=True, kw_only=True):
    """Shrink the extremes by the factor with the least squared error after quantization.

    Large tensors are judged by a random sample.
    """

    needs: ClassVar[Needs] = "sample"
    histogram_bins: ClassVar[int] = 0

    num_candidates: Annotated[
        int, Meta(ge=2, le=1000, description="Factors tried, evenly up to 1")
    ] = 100

    def range(self, statistics: TensorStatistics) -> Range:
        """Return the shrunk extremes."""
        from edgekit.arithmetic.affine import UINT8
        from edgekit.arithmetic.calibration import mse_range

        assert statistics.sample is not None
        return mse_range(statistics.sample, UINT8, num_candidates=self.num_candidates)
