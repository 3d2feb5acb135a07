from __future__ import annotations

import numpy as np
import pytest

from edgekit.compress.quant import calibration as module
from edgekit.compress.quant.calibration import (
    Calibration,
    batches_of,
    calibrate,
    choose_samples,
    collect,
)
from edgekit.compress.quant.observers.kl_calib import KlCalib
from edgekit.compress.quant.observers.min_max import MinMax
from edgekit.compress.quant.observers.percentile import Percentile
from edgekit.core.errors import InputError, StageError
from tests.compress.graphs import Array, GraphBuilder, images, mixed_net, run


def doubling() -> GraphBuilder:
    b = GraphBuilder()
    b.op("Mul", "double", "x", b.constant("two", np.float32(2)))
    return b


def batches(values: Array, num_batches: int = 4) -> list[dict[str, Array]]:
    return [{"x": part} for part in np.array_split(values.astype(np.float32), num_batches)]


def test_extremes_are_those_of_all_batches_together() -> None:
    values = np.random.default_rng(0).standard_normal((40, 3))
    model = doubling().model({"x": ["batch", 3]}, {"double": ["batch", 3]})
    setup = Calibration(batches=lambda: batches(values), observer=MinMax())
    found = collect(model, ["x", "double"], setup)
    single = values.astype(np.float32)
    assert (found["x"].low, found["x"].high) == (single.min(), single.max())
    assert found["double"].high == 2 * single.max()


def test_histograms_of_batches_add_up_to_that_of_all_values() -> None:
    from edgekit.arithmetic.calibration import abs_histogram

    values = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
    model = doubling().model({"x": ["batch", 3]}, {"double": ["batch", 3]})
    setup = Calibration(batches=lambda: batches(values), observer=KlCalib(num_bins=256))
    counts = collect(model, ["x"], setup)["x"].counts
    assert counts is not None
    assert np.array_equal(counts, abs_histogram(values, float(np.abs(values).max()), 256))


def test_a_small_tensor_is_sampled_whole() -> None:
    values = np.random.default_rng(2).standard_normal((40, 3)).astype(np.float32)
    model = doubling().model({"x": ["batch", 3]}, {"double": ["batch", 3]})
    sample = collect(
        model, ["x"], Calibration(batches=lambda: batches(values), observer=Percentile())
    )["x"].sample
    assert sample is not None
    extremes = [values.min(), values.max()]
    assert np.array_equal(np.sort(sample), np.sort(np.append(values, extremes)))


def test_a_large_tensor_is_sampled_at_random_and_keeps_its_extremes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_SAMPLE_SIZE", 500)
    values = np.random.default_rng(3).standard_normal((4000, 3)).astype(np.float32)
    model = doubling().model({"x": ["batch", 3]}, {"double": ["batch", 3]})

    def sample(seed: int) -> Array:
        setup = Calibration(batches=lambda: batches(values), observer=Percentile(), seed=seed)
        found = collect(model, ["x"], setup)["x"].sample
        assert found is not None
        return found

    first = sample(0)
    assert 400 < len(first) < 600
    assert (first.min(), first.max()) == (values.min(), values.max())
    assert np.array_equal(first, sample(0))
    assert not np.array_equal(first, sample(1)[: len(first)])


def test_ranges_always_hold_zero() -> None:
    model = doubling().model({"x": ["batch", 3]}, {"double": ["batch", 3]})
    values = np.full((8, 3), 5.0)
    setup = Calibration(batches=lambda: batches(values), observer=MinMax())
    assert calibrate(model, ["x", "double"], setup) == {"x": (0.0, 5.0), "double": (0.0, 10.0)}


def test_watching_inner_values_does_not_change_them() -> None:
    model, x = mixed_net(), images(8)
    setup = Calibration(batches=lambda: [{"image": x}], observer=MinMax())
    found = collect(model, ["scores"], setup)["scores"]
    scores = run(model, {"image": x}, optimize=False)
    assert (found.low, found.high) == (scores.min(), scores.max())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_name_the_activation(bad: float) -> None:
    model = doubling().model({"x": ["batch", 3]}, {"double": ["batch", 3]})
    values = np.ones((8, 3))
    values[5, 1] = bad
    setup = Calibration(batches=lambda: batches(values), observer=MinMax())
    with pytest.raises(StageError, match="calibrating activation 'double': found NaN or infinite"):
        calibrate(model, ["double"], setup)


def test_no_data_is_refused() -> None:
    model = doubling().model({"x": ["batch", 3]}, {"double": ["batch", 3]})
    with pytest.raises(InputError, match="found no calibration data, expected at least one"):
        calibrate(model, ["x"], Calibration(batches=list, observer=MinMax()))


def test_a_subset_is_random_repeatable_and_in_order() -> None:
    first = choose_samples(100, 10, seed=0)
    assert len(set(first)) == 10
    assert list(first) == sorted(first)
    assert np.array_equal(first, choose_samples(100, 10, seed=0))
    assert not np.array_equal(first, choose_samples(100, 10, seed=1))
    assert np.array_equal(choose_samples(5, None, seed=0), np.arange(5))


def test_batches_cover_the_samples_and_a_fixed_batch_leaves_the_rest_out() -> None:
    x = np.arange(40).reshape(40, 1)
    samples = np.arange(0, 40, 2)
    given = batches_of({"x": x}, samples, fixed_batch=None)
    assert np.array_equal(np.concatenate([batch["x"] for batch in given()]), x[samples])
    assert len(list(given())) == len(list(given())) == 2
    fixed = batches_of({"x": x}, samples, fixed_batch=7)
    assert [len(batch["x"]) for batch in fixed()] == [7, 7]
