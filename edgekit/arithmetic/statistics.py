"""Statistics of measurements: percentiles, and intervals that say how far to trust a median."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval, in the unit of the data."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """How two series measured in pairs differ.

    Attributes:
        median: interval of the median of (second - first).
        num_pairs: pairs compared.
        is_significant: the interval leaves out zero.
    """

    median: Interval
    num_pairs: int
    is_significant: bool


def percentile(values: ArrayLike, percent: float) -> float:
    """Give a percentile, interpolating linearly between neighbouring values.

    Args:
        values: at least one finite number.
        percent: 0 to 100.

    Raises:
        ValueError: values is empty or not finite.
    """
    return float(np.percentile(_checked(values), percent))


def bootstrap_median(
    values: ArrayLike, *, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Estimate the median with a percentile bootstrap interval.

    Args:
        values: measurements, taken as independent.
        confidence: share of intervals that should hold the true median.
        num_resamples: resamples drawn.
        seed: seed of the resampling; the same seed gives the same interval.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.
    """
    data = _checked(values)
    rng = np.random.Generator(np.random.PCG64(seed))
    picks = rng.integers(0, len(data), size=(num_resamples, len(data)))
    medians = np.median(data[picks], axis=1)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(medians, [tail, 100.0 - tail])
    return Interval(estimate=float(np.median(data)), low=float(low), high=float(high))


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95, seed: int = 0
) -> PairedDifference:
    """Compare two series measured alternately, run by run.

    Pairing removes what both runs of a pair share: clock, temperature, load.

    Args:
        first: measurements of one variant.
        second: measurements of the other, same length and order.
        confidence: of the interval.
        seed: seed of the resampling.

    Raises:
        ValueError: the series differ in length.
    """
    a, b = _checked(first), _checked(second)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values cannot be paired")
    median = bootstrap_median(b - a, confidence=confidence, seed=seed)
    return PairedDifference(
        median=median, num_pairs=len(a), is_significant=not median.low <= 0.0 <= median.high
    )


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    data = np.asarray(values, np.float64).ravel()
    if not data.size or not np.isfinite(data).all():
        raise ValueError("statistics need at least one value, and finite values only")
    return data
