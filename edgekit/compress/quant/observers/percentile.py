"""Clip the tails."""

from __future__ import annotations

from typing import Annotated, ClassVar

from edgekit.compress.quant.observer import Needs, Range, TensorStatistics
from edgekit.core.options import Meta, Options


class Percentile(Options, frozen=True, kw_only=True):
    """Leave out the rarest values on both sides: a few outliers don't coarsen all the others.

    Large tensors are judged by a random sample; 0 stays inside the range in any case.
    """

    needs: ClassVar[Needs] = "sample"
    histogram_bins: ClassVar[int] = 0

    percent: Annotated[
        float, Meta(gt=50, le=100, description="Share below the upper bound; 100 is min-max")
    ] = 99.99

    def range(self, statistics: TensorStatistics) -> Range:
        """Return the percentiles `100 - percent` and `percent`."""
        from edgekit.arithmetic.calibration import percentile_range

        assert statistics.sample is not None
        return percentile_range(statistics.sample, self.percent)
