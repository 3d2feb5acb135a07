from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.arithmetic.calibration import abs_histogram, kl_range, percentile_range
from edgekit.compress.quant.observer import Observer, TensorStatistics
from edgekit.compress.quant.observers.kl_calib import KlCalib
from edgekit.compress.quant.observers.min_max import MinMax
from edgekit.compress.quant.observers.mse import Mse
from edgekit.compress.quant.observers.percentile import Percentile
from edgekit.core.errors import InputError
from edgekit.core.registry import registry
from edgekit.core.schema import Where, resolve_struct

NAMES = registry("observers").names()


def statistics(values: np.ndarray, observer: Observer) -> TensorStatistics:
    data = values.astype(np.float32)
    reach = float(np.abs(data).max())
    bins = observer.histogram_bins
    return TensorStatistics(
        low=float(data.min()),
        high=float(data.max()),
        counts=abs_histogram(data, reach, bins) if observer.needs == "histogram" else None,
        sample=data if observer.needs == "sample" else None,
    )


def small(name: str) -> Observer:
    """An observer with options that keep a property test fast."""
    found: Observer = (
        KlCalib(num_bins=512) if name == "kl-calib" else registry("observers").get(name)()
    )
    return found


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)
@given(seed=st.integers(0, 500), sign=st.sampled_from([-1, 0, 1]))
def test_every_observer_stays_within_what_was_seen(name: str, seed: int, sign: int) -> None:
    values = np.random.default_rng(seed).standard_normal(400)
    values = values if sign == 0 else sign * np.abs(values)
    observer = small(name)
    low, high = observer.range(statistics(values, observer))
    assert np.float32(values.min()) <= low <= high <= np.float32(values.max())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)
@given(seed=st.integers(0, 500), power=st.integers(-8, 8))
def test_every_observer_scales_with_its_data(name: str, seed: int, power: int) -> None:
    values = np.random.default_rng(seed).standard_t(3, 600).astype(np.float32)
    observer, factor = small(name), 2.0**power
    plain = observer.range(statistics(values, observer))
    scaled = observer.range(statistics(values * np.float32(factor), observer))
    # Powers of two change no mantissa, so bins and candidates stay the same.
    assert scaled == pytest.approx([bound * factor for bound in plain], rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_observer_takes_a_tensor_that_is_always_zero(name: str) -> None:
    observer = small(name)
    assert observer.range(statistics(np.zeros(64), observer)) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["kl-calib", "percentile"])
def test_observers_of_the_distribution_drop_a_lone_outlier(name: str) -> None:
    values = np.append(np.random.default_rng(0).standard_normal(50_000), 100.0)
    observer = small(name)
    _, high = observer.range(statistics(values, observer))
    assert high < 60.0


def test_min_max_covers_everything() -> None:
    assert MinMax().range(TensorStatistics(low=-3.0, high=7.0)) == (-3.0, 7.0)


def test_percentile_is_the_numpy_reference() -> None:
    values = np.random.default_rng(1).standard_normal(3000).astype(np.float32)
    observer = Percentile(percent=99.0)
    assert observer.range(statistics(values, observer)) == percentile_range(values, 99.0)


def test_kl_is_the_numpy_reference_where_it_clips_little() -> None:
    values = np.random.default_rng(2).standard_t(4, 60_000)
    observer = KlCalib(max_clipped=1.0)
    found = statistics(values, observer)
    assert found.counts is not None
    assert observer.range(found) == kl_range(found.counts, found.low, found.high, 128)


def test_kl_uses_all_levels_of_a_tensor_without_negative_values() -> None:
    values = np.abs(np.random.default_rng(2).standard_t(4, 60_000))
    observer = KlCalib(max_clipped=1.0)
    found = statistics(values, observer)
    assert found.counts is not None
    assert observer.range(found) == kl_range(found.counts, found.low, found.high, 256)


@settings(max_examples=20)
@given(seed=st.integers(0, 200), share=st.sampled_from([0.0, 0.001, 0.01, 0.2]))
def test_kl_never_clips_more_than_it_may(seed: int, share: float) -> None:
    # Few values in many bins: the case where relative entropy alone would clip nearly all.
    values = np.random.default_rng(seed).standard_normal(300)
    observer = KlCalib(num_bins=1024, max_clipped=share)
    low, high = observer.range(statistics(values, observer))
    clipped = np.mean((values < low - 1e-6) | (values > high + 1e-6))
    assert clipped <= share


def test_kl_keeps_nearly_all_of_uniform_data() -> None:
    values = np.random.default_rng(3).uniform(-1, 1, 100_000)
    observer = KlCalib()
    low, high = observer.range(statistics(values, observer))
    assert low < -0.95
    assert high > 0.95


def test_mse_loses_no_more_than_min_max() -> None:
    from edgekit.arithmetic.affine import UINT8, fake_quantize, grid_from_range

    values = np.random.default_rng(4).standard_t(3, 20_000).astype(np.float32)

    def loss(observer: Observer) -> float:
        low, high = observer.range(statistics(values, observer))
        grid = grid_from_range(min(low, 0), max(high, 0), UINT8)
        return float(np.square(fake_quantize(values, grid) - values).mean())

    assert loss(Mse()) < loss(MinMax())


def test_levels_must_be_fewer_than_bins() -> None:
    with pytest.raises(InputError, match="num_levels is 256: expected fewer than num_bins, 256"):
        KlCalib(num_bins=256, num_levels=256)


def test_a_bound_is_stated_by_the_schema() -> None:
    with pytest.raises(InputError, match=r"recipe: percent is 30.* expected .*> 50"):
        resolve_struct({"percent": 30}, Percentile, Where("recipe"))
