"""What an observer is given and what it gives: statistics of one activation, a range to cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Needs = Literal["extremes", "histogram", "sample"]
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorStatistics:
    """Hold what calibration saw of one activation.

    Attributes:
        low: Smallest value.
        high: Largest value.
        counts: Histogram of magnitudes over [0, max(|low|, |high|)], int64 (bins,); only for
            observers that need it.
        sample: Values, float32 (n,): all of them, or a random part of a large tensor; only for
            observers that need it.
    """

    low: float
    high: float
    counts: NDArray[np.int64] | None = None
    sample: NDArray[np.float32] | None = None


class Observer(Protocol):
    """Choose the range of an activation; implementers are options structs in `observers/`."""

    @property
    def needs(self) -> Needs:
        """What must be collected besides the extremes."""
        ...

    @property
    def histogram_bins(self) -> int:
        """Bins of the histogram; 0 for observers that need none."""
        ...

    def range(self, statistics: TensorStatistics) -> Range:
        """Return the smallest and largest value to represent.

        Raises:
            StageError: The values are not finite.
        """
        ...
