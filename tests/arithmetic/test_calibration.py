from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.arithmetic.affine import UINT8, fake_quantize, grid_from_range
from edgekit.arithmetic.calibration import (
    abs_histogram,
    kl_range,
    kl_threshold,
    min_max_range,
    mse_range,
    percentile_range,
)
from edgekit.core.errors import StageError

seeds = st.integers(0, 2**32 - 1)


def threshold_of(values: NDArray[np.floating], num_bins: int = 512, num_levels: int = 64) -> float:
    absmax = float(np.abs(values).max())
    return kl_threshold(abs_histogram(values, absmax, num_bins), absmax, num_levels)


def slow_divergence(counts: list[int], num_bins: int, num_levels: int) -> float:
    """Compute one candidate's divergence with plain loops."""
    p = [float(c) for c in counts[:num_bins]]
    p[0] = 0.0
    kept = list(p)
    p[-1] += sum(counts[num_bins:])
    q = [0.0] * num_bins
    for level in range(num_levels):
        start, stop = level * num_bins // num_levels, (level + 1) * num_bins // num_levels
        used = [i for i in range(start, stop) if p[i] > 0]
        for i in used:
            q[i] = sum(kept[start:stop]) / len(used)
    if not sum(q):
        return math.inf
    divergence = 0.0
    for a, b in zip(p, q, strict=True):
        x = (1 - 1e-6) * a / sum(p) + 1e-6 / num_bins
        y = (1 - 1e-6) * b / sum(q) + 1e-6 / num_bins
        divergence += x * math.log(x / y)
    return divergence


@settings(max_examples=15)
@given(st.lists(st.integers(0, 50), min_size=20, max_size=40), st.integers(4, 12))
def test_the_kl_search_equals_a_plain_loop(counts: list[int], num_levels: int) -> None:
    counts = [*counts, 1]
    candidates = range(num_levels, len(counts) + 1)
    divergences = {n: slow_divergence(counts, n, num_levels) for n in candidates}
    found = kl_threshold(np.array(counts), float(len(counts)), num_levels)
    assert divergences[round(found)] <= min(divergences.values()) + 1e-12


@settings(max_examples=10)
@given(seeds, st.integers(-20, 20))
def test_scaling_the_data_scales_the_threshold(seed: int, exponent: int) -> None:
    # Powers of two leave every bin edge where it was; other factors may move a value by rounding.
    values = np.random.default_rng(seed).standard_normal(2000)
    factor = 2.0**exponent
    assert threshold_of(values * factor) == threshold_of(values) * factor


@settings(max_examples=10)
@given(seeds)
def test_the_threshold_never_exceeds_the_largest_magnitude(seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(2, 2000)
    assert 0 < threshold_of(values) <= np.abs(values).max()


@settings(max_examples=5)
@given(seeds)
def test_the_sign_of_the_data_does_not_matter(seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(2000)
    assert threshold_of(values) == threshold_of(-values) == threshold_of(np.abs(values))


def test_uniform_data_is_not_clipped_much() -> None:
    values = np.random.default_rng(0).random(100_000)
    assert threshold_of(values) > 0.97 * values.max()


def test_rare_outliers_are_clipped() -> None:
    rng = np.random.default_rng(0)
    values = np.abs(rng.standard_normal(100_000))
    values[:10] = 50.0
    assert threshold_of(values, 2048, 128) < 10.0


def test_zeros_do_not_move_the_threshold() -> None:
    values = np.abs(np.random.default_rng(0).standard_normal(5000))
    assert threshold_of(np.append(values, np.zeros(50_000))) == threshold_of(values)


def test_a_dead_tensor_has_threshold_zero() -> None:
    assert kl_threshold(abs_histogram(np.zeros(10), 0.0), 0.0) == 0.0


def test_constant_data_keeps_its_value() -> None:
    assert threshold_of(np.full(100, 3.0)) == 3.0


def test_fewer_bins_than_levels_keep_the_maximum() -> None:
    assert kl_threshold(np.array([1, 2, 3]), 6.0, num_levels=128) == 6.0


def test_histograms_of_batches_add_up() -> None:
    values = np.random.default_rng(0).standard_normal(1000)
    absmax = float(np.abs(values).max())
    parts = sum(abs_histogram(part, absmax) for part in np.split(values, 4))
    np.testing.assert_array_equal(parts, abs_histogram(values, absmax))
    assert np.sum(parts) == 1000


def test_the_kl_range_never_widens_the_extremes() -> None:
    values = np.random.default_rng(0).standard_normal(5000).clip(-0.5, None)
    low, high = min_max_range(values)
    found = kl_range(abs_histogram(values, high), low, high)
    assert found[0] == low
    assert 0 < found[1] <= high


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(51, 100))
def test_percentiles_lie_inside_the_extremes(values: list[float], percent: float) -> None:
    data = np.array(values)
    low, high = percentile_range(data, percent)
    assert data.min() <= low <= high <= data.max()


def test_percentile_100_is_min_max() -> None:
    data = np.array([3.0, -1.0, 7.0])
    assert percentile_range(data, 100.0) == min_max_range(data) == (-1.0, 7.0)


def test_a_percentile_below_the_middle_is_refused() -> None:
    with pytest.raises(ValueError, match="percent is 50"):
        percentile_range(np.ones(3), 50.0)


@settings(max_examples=10)
@given(seeds)
def test_mse_never_loses_more_than_min_max(seed: int) -> None:
    data = np.random.default_rng(seed).standard_t(2, 500).astype(np.float32)

    def loss(low: float, high: float) -> float:
        grid = grid_from_range(low, high, UINT8)
        return float(np.square(fake_quantize(data, grid) - data).sum(dtype=np.float64))

    # One part in a million for the float32 differences summed here.
    assert loss(*mse_range(data, UINT8)) <= loss(*min_max_range(data)) * (1 + 1e-6)


def test_mse_clips_an_outlier_at_few_levels() -> None:
    data = np.append(np.random.default_rng(0).standard_normal(10_000), 60.0)
    assert mse_range(data, UINT8)[1] < 60.0


def test_the_second_pass_must_see_the_data_of_the_first() -> None:
    with pytest.raises(StageError, match="collecting a histogram: found a magnitude of 2"):
        abs_histogram(np.array([2.0]), 1.0)


def test_an_empty_histogram_is_refused() -> None:
    with pytest.raises(StageError, match="found an empty histogram"):
        kl_threshold(np.zeros(10, np.int64), 1.0)


@pytest.mark.parametrize(
    ("values", "found"),
    [([], "no values"), ([np.nan], "NaN or infinite"), ([np.inf], "NaN or inf")],
)
def test_activations_must_be_finite_numbers(values: list[float], found: str) -> None:
    with pytest.raises(StageError, match=f"calibrating an activation: found {found}"):
        min_max_range(np.array(values))
