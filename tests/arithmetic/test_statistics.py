from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.arithmetic.statistics import bootstrap_median, paired_difference, percentile

series = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(series)
def test_percentiles_grow_from_the_smallest_to_the_largest(values: list[float]) -> None:
    found = [percentile(values, percent) for percent in (0, 50, 90, 99, 100)]
    assert found[0] == min(values)
    assert found[-1] == max(values)
    # Interpolation rounds in the last place.
    assert all(b >= a - 1e-9 * abs(a) for a, b in itertools.pairwise(found))


def test_percentiles_interpolate() -> None:
    assert percentile([0.0, 10.0], 90) == pytest.approx(9.0)


@settings(max_examples=20)
@given(series)
def test_the_interval_holds_the_median_of_the_data(values: list[float]) -> None:
    interval = bootstrap_median(values, num_resamples=200)
    assert interval.low <= interval.estimate <= interval.high


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).standard_normal(50)
    assert bootstrap_median(values, seed=3) == bootstrap_median(values, seed=3)


def test_most_intervals_hold_the_true_median() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        interval = bootstrap_median(rng.exponential(1.0, 40), num_resamples=300)
        hits += interval.low <= np.log(2.0) <= interval.high
    # 95% intervals; the bootstrap of a median is a little narrow, 200 trials vary by 1.5 points.
    assert hits / 200 > 0.88


def test_pairing_finds_a_difference_that_drift_would_hide() -> None:
    drift = np.linspace(10.0, 20.0, 40)
    noise = np.random.default_rng(0).normal(0.0, 0.02, 40)
    result = paired_difference(drift, drift + 0.1 + noise)
    assert result.is_significant
    assert result.median.low <= 0.1 <= result.median.high
    assert result.num_pairs == 40


def test_equal_series_do_not_differ() -> None:
    assert not paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).is_significant


def test_series_of_different_length_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="2 and 1 values cannot be paired"):
        paired_difference([1.0, 2.0], [1.0])


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf")]])
def test_statistics_need_finite_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one value, and finite values only"):
        percentile(values, 50)
