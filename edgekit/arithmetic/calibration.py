"""Numpy references for choosing the range of an activation from calibration data.

Each function gives `(low, high)` in real values; `affine.grid_from_range` turns that into a scale.
The KL search needs only counts, so that data can be streamed: one pass for the extremes, a second
one adding up `abs_histogram` batch by batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.arithmetic.affine import fake_quantize, grid_from_range
from edgekit.core.errors import StageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.arithmetic.affine import Levels

    Floats = NDArray[np.floating]

_SMOOTHING = 1e-6


def min_max_range(values: Floats) -> tuple[float, float]:
    """Give the smallest and largest value.

    Raises:
        StageError: values is empty or not finite.
    """
    data = _checked(values)
    return float(data.min()), float(data.max())


def percentile_range(values: Floats, percent: float) -> tuple[float, float]:
    """Cut the tails: the values below which (100 - percent)% and percent% of the data lie.

    Args:
        values: any shape.
        percent: above 50, up to 100 (which is min-max).

    Raises:
        StageError: values is empty or not finite.
    """
    if not 50.0 < percent <= 100.0:
        raise ValueError(f"percent is {percent}, must be above 50 and up to 100")
    low, high = np.percentile(_checked(values), [100.0 - percent, percent])
    return float(low), float(high)


def mse_range(
    values: Floats, levels: Levels, *, symmetric: bool = False, num_candidates: int = 100
) -> tuple[float, float]:
    """Shrink min-max by the common factor that loses least to rounding and clipping together.

    Args:
        values: any shape; sample large tensors first, the cost is one pass per candidate.
        levels: the integers the range will be mapped to.
        symmetric: as in `grid_from_range`.
        num_candidates: factors tried, evenly from 1/num_candidates to 1; ties go to the larger.

    Raises:
        StageError: values is empty or not finite.
    """
    data = _checked(values).astype(np.float32)
    low, high = min_max_range(data)
    best, best_error = 1.0, np.inf
    for step in range(num_candidates, 0, -1):
        factor = step / num_candidates
        grid = grid_from_range(
            min(low, 0.0) * factor, max(high, 0.0) * factor, levels, symmetric=symmetric
        )
        error = float(np.square((fake_quantize(data, grid) - data).astype(np.float64)).sum())
        if error < best_error:
            best, best_error = factor, error
    return low * best, high * best


def abs_histogram(values: Floats, absmax: float, num_bins: int = 2048) -> NDArray[np.int64]:
    """Count |values| in `num_bins` equal bins over [0, absmax].

    Magnitudes rather than values: a histogram over [0, max] would silently drop the negative half
    of a signed tensor.

    Args:
        values: any shape.
        absmax: the largest magnitude of the whole calibration set, from the first pass.
        num_bins: bins.

    Returns:
        int64 [num_bins]; histograms of several batches add up.

    Raises:
        StageError: values is empty, not finite, or exceeds absmax.
    """
    magnitudes = np.abs(_checked(values).astype(np.float64)).ravel()
    if magnitudes.max() > absmax:
        raise StageError(
            "collecting a histogram",
            found=f"a magnitude of {magnitudes.max():g}",
            expected=f"at most {absmax:g}, the largest of the first pass",
            hint="Both passes must see the same data.",
        )
    if absmax == 0.0:
        return np.bincount([0], weights=[len(magnitudes)], minlength=num_bins).astype(np.int64)
    index = np.minimum((magnitudes * (num_bins / absmax)).astype(np.int64), num_bins - 1)
    return np.bincount(index, minlength=num_bins).astype(np.int64)


def kl_threshold(counts: NDArray[np.integer], absmax: float, num_levels: int = 128) -> float:
    """Find the clipping threshold that keeps the distribution closest, by relative entropy.

    For every t from `num_levels` to the number of bins: P is the first t bins with everything
    beyond added to the last one; Q is the first t bins merged into `num_levels` groups, each
    group's mass spread evenly over the bins where P is not zero. The t with the smallest
    KL(P || Q) wins, the larger t on a tie.

    Args:
        counts: histogram of magnitudes over [0, absmax], [bins].
        absmax: upper edge of the histogram.
        num_levels: positive levels of the integer type: 128 for int8, 256 for unsigned data.

    Returns:
        The threshold, above 0 and up to absmax; 0 when absmax is 0 (a dead tensor).

    Raises:
        StageError: the histogram is empty.

    Source: the entropy calibration of TensorRT, S. Migacz, GTC 2017, as reimplemented for Caffe
        and ncnn. Departures: the last group takes all of its bins; P and Q are mixed with the same
        small uniform part instead of replacing zeros by a constant, so both stay distributions;
        bin 0 is left out (exact zeros cost nothing at any threshold) unless it is all there is.
    """
    mass = counts.astype(np.float64)
    if counts.ndim != 1 or not mass.sum() > 0.0:
        raise StageError(
            "calibrating by relative entropy", found="an empty histogram", expected="some counts"
        )
    if absmax == 0.0 or not mass[1:].any() or num_levels >= len(mass):
        return absmax
    mass[0] = 0.0
    best_bins, best_divergence = len(mass), np.inf
    for num_bins in range(len(mass), num_levels - 1, -1):
        divergence = _divergence(mass, num_bins, num_levels)
        if divergence < best_divergence:
            best_bins, best_divergence = num_bins, divergence
    return absmax * (best_bins / len(mass))


def kl_range(
    counts: NDArray[np.integer], low: float, high: float, num_levels: int = 128
) -> tuple[float, float]:
    """Clip the extremes of a tensor at its KL threshold.

    Args:
        counts: histogram of magnitudes over [0, max(|low|, |high|)].
        low: smallest value seen.
        high: largest value seen.
        num_levels: as in `kl_threshold`.
    """
    threshold = kl_threshold(counts, max(abs(low), abs(high)), num_levels)
    return max(low, -threshold), min(high, threshold)


def _divergence(mass: NDArray[np.float64], num_bins: int, num_levels: int) -> float:
    kept = mass[:num_bins]
    reference = kept.copy()
    reference[-1] += mass[num_bins:].sum()
    if not kept.any():
        return float("inf")
    starts = np.arange(num_levels) * num_bins // num_levels
    widths = np.diff(np.append(starts, num_bins))
    is_used = reference > 0.0
    groups = np.add.reduceat(kept, starts)
    users = np.maximum(np.add.reduceat(is_used.astype(np.float64), starts), 1.0)
    merged = np.repeat(groups / users, widths) * is_used
    p, q = ((1.0 - _SMOOTHING) * x / x.sum() + _SMOOTHING / num_bins for x in (reference, merged))
    return float(np.sum(p * np.log(p / q)))


def _checked(values: Floats) -> Floats:
    if not values.size or not np.isfinite(values).all():
        raise StageError(
            "calibrating an activation",
            found="NaN or infinite values" if values.size else "no values",
            expected="finite activations",
            hint="Check the calibration data and the model before quantization.",
        )
    return values
