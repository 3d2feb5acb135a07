"""Clip where the quantized distribution stays closest to the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from edgekit.compress.quant.observer import Needs, Range, TensorStatistics
from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class KlCalib(Options, frozen=True, kw_only=True):
    """Choose the threshold with the least relative entropy between the values and their levels.

    A histogram of magnitudes is cut at every threshold, its tail moved into the last bin, and
    compared with itself merged to `num_levels` levels.

    Source: the entropy calibration of TensorRT (S. Migacz, GTC 2017) as in caffe-int8-convert-tools
    and ncnn; `edgekit.arithmetic.calibration.kl_threshold` states where it departs from them.
    `max_clipped` is ours: with few values per bin (class scores of some hundred samples) a
    threshold that clips nearly all of them can look perfect.
    """

    needs: ClassVar[Needs] = "histogram"

    num_bins: Annotated[int, Meta(ge=256, le=16_384, description="Bins of the histogram")] = 2048
    num_levels: (
        Annotated[
            int,
            Meta(
                ge=16,
                le=256,
                description="Levels on one side of zero; by default 256 for tensors without "
                "negative values and 128 for others, which is what uint8 has",
            ),
        ]
        | None
    ) = None

    max_clipped: Annotated[
        float, Meta(ge=0, le=1, description="Largest share of the values to clip")
    ] = 0.01

    def __post_init__(self) -> None:
        """Refuse more levels than bins."""
        if self.num_levels is not None and self.num_levels >= self.num_bins:
            raise InputError(
                f"num_levels is {self.num_levels}",
                expected=f"fewer than num_bins, {self.num_bins}",
            )

    @property
    def histogram_bins(self) -> int:
        """Return the number of bins."""
        return self.num_bins

    def range(self, statistics: TensorStatistics) -> Range:
        """Return the extremes, clipped at the threshold."""
        from edgekit.arithmetic.calibration import kl_range

        counts = statistics.counts
        assert counts is not None
        default = 256 if statistics.low >= 0.0 else 128
        low, high = kl_range(
            counts,
            statistics.low,
            statistics.high,
            num_levels=min(self.num_levels or default, self.num_bins),
        )
        least = self._least_threshold(counts, max(abs(statistics.low), abs(statistics.high)))
        return max(statistics.low, min(low, -least)), min(statistics.high, max(high, least))

    def _least_threshold(self, counts: NDArray[np.int64], reach: float) -> float:
        """Return the upper edge of the first bin above which at most `max_clipped` lies."""
        above = counts.sum() - counts.cumsum()
        num_bins = int((above > self.max_clipped * counts.sum()).sum()) + 1
        return reach * min(num_bins, len(counts)) / len(counts)
