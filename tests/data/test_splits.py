from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.core.schema import Where, resolve_struct
from edgekit.data.splits import PARTS, PartName, SplitSpec

seeds = st.integers(0, 1000)


@st.composite
def specs(draw: st.DrawFn, num_learning: int) -> SplitSpec:
    """Specs that any data set of `num_learning` samples can satisfy."""
    small = st.one_of(st.integers(0, num_learning // 4), st.floats(0, 0.25))
    return SplitSpec(
        train="rest",
        validation=draw(small),
        calibration=draw(small),
        test=draw(st.floats(0, 0.25)),
        stratify=draw(st.booleans()),
    )


def labels_of(num_samples: int, num_classes: int = 3) -> NDArray[np.int64]:
    return np.random.default_rng(7).integers(0, num_classes, num_samples)


def joined(parts: dict[PartName, NDArray[np.int64]]) -> list[int]:
    return sorted(int(index) for part in parts.values() for index in part)


@given(st.data(), st.integers(4, 80), seeds)
def test_parts_are_disjoint_and_exhaustive(data: st.DataObject, size: int, seed: int) -> None:
    spec = data.draw(specs(size))
    assert joined(spec.indices(labels_of(size), None, seed)) == list(range(size))


@given(st.data(), st.integers(4, 80), st.integers(0, 20), seeds)
def test_the_official_test_part_never_leaks(
    data: st.DataObject, size: int, num_test: int, seed: int
) -> None:
    spec = data.draw(specs(size))
    parts = spec.indices(labels_of(size + num_test), num_test, seed)
    assert all(index >= size for index in parts["test"])
    assert joined({k: v for k, v in parts.items() if k != "test"}) == list(range(size))
    assert len(set(joined(parts))) == len(joined(parts))


@given(st.data(), st.integers(4, 80), seeds)
def test_the_same_seed_gives_the_same_parts(data: st.DataObject, size: int, seed: int) -> None:
    spec = data.draw(specs(size))
    first, second = (spec.indices(labels_of(size), None, seed) for _ in range(2))
    for name in PARTS:
        np.testing.assert_array_equal(first[name], second[name])


@given(st.lists(st.integers(0, 100), min_size=4, max_size=4).filter(any), st.integers(1, 5000))
def test_fractions_adding_up_to_one_use_every_sample(shares: list[int], size: int) -> None:
    fractions = {part: share / sum(shares) for part, share in zip(PARTS, shares, strict=True)}
    spec = msgspec.convert(fractions, SplitSpec)
    assert sum(spec.sizes(size, None).values()) == size


def test_another_seed_gives_other_parts() -> None:
    a, b = (SplitSpec().indices(labels_of(100), None, seed)["test"] for seed in (0, 1))
    assert set(a) != set(b)


def test_a_seed_of_its_own_overrides_the_recipe() -> None:
    spec = SplitSpec(seed=5)
    a, b = (spec.indices(labels_of(100), None, seed)["test"] for seed in (0, 1))
    np.testing.assert_array_equal(a, b)


def test_the_size_of_train_moves_no_other_sample() -> None:
    large, small = (
        SplitSpec(train=train, validation=10, calibration=5, test=20).indices(
            labels_of(100), None, 0
        )
        for train in ("rest", 7)
    )
    for name in ("validation", "calibration", "test"):
        np.testing.assert_array_equal(large[name], small[name])
    assert len(small["train"]) == 7


@pytest.mark.parametrize("num_test", [None, 3000])
def test_stratified_parts_keep_class_proportions(num_test: int | None) -> None:
    labels = np.random.default_rng(0).choice(4, 10_000, p=[0.7, 0.2, 0.08, 0.02])
    spec = SplitSpec(train="rest", validation=500, calibration=100, test=1000)
    for part in spec.indices(labels, num_test, 3).values():
        pool = labels[-num_test:] if num_test and part.min() >= 7000 else labels[:7000]
        pool = labels if num_test is None else pool
        expected = np.bincount(pool, minlength=4) / len(pool) * len(part)
        # Each class is off by less than one sample per end of the stretch, and the length of the
        # stretch itself by as much in all classes together.
        assert np.abs(np.bincount(labels[part], minlength=4) - expected).max() <= 6


def test_every_class_reaches_the_calibration_part() -> None:
    labels = np.repeat(np.arange(10), 180)
    parts = SplitSpec(calibration=20).indices(labels, None, 0)
    assert set(labels[parts["calibration"]]) == set(range(10))


def test_parts_are_shuffled() -> None:
    train = SplitSpec().indices(np.repeat(np.arange(10), 50), None, 0)["train"]
    assert not np.array_equal(train, np.sort(train))


def test_the_default_takes_the_official_test_part_whole() -> None:
    assert SplitSpec().sizes(70_000, 10_000) == {
        "test": 10_000,
        "validation": 6000,
        "calibration": 3000,
        "train": 51_000,
    }


def test_the_default_without_an_official_part_tests_on_a_fifth() -> None:
    assert SplitSpec().sizes(1000, None)["test"] == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "rest", "validation": "rest"}, r"'rest' for train and validation.*at most one"),
        ({"train": 0.9, "validation": 0.2}, r"fractions adding up to 1.15, expected at most 1"),
        ({"train": 1.5}, r"train is 1.5: expected float <= 1"),
        ({"calibration": -1}, r"calibration is -1: expected int >= 0"),
        ({"trian": 3}, r"unknown option 'trian'.*'train'"),
    ],
)
def test_impossible_specs_are_refused_before_data_is_read(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        resolve_struct(options, SplitSpec, Where("r.yaml"))


def test_counts_beyond_the_data_are_refused() -> None:
    spec = SplitSpec(train=90, validation=10, calibration=5, test=0)
    with pytest.raises(
        InputError,
        match=r"found 100 samples in the dataset, expected at least 105 "
        r"\(validation 10, calibration 5, train 90\)",
    ):
        spec.sizes(100, None)


def test_the_official_test_part_has_a_limit_too() -> None:
    with pytest.raises(InputError, match="found 10 samples in the official test part"):
        SplitSpec(test=11).sizes(100, 10)


def test_only_one_part_of_an_unofficial_split_can_be_the_rest() -> None:
    with pytest.raises(InputError, match="'rest' for test and train"):
        SplitSpec(test="rest").sizes(100, None)


def test_an_empty_part_is_known_without_data() -> None:
    assert SplitSpec(calibration=0).is_empty("calibration")
    assert SplitSpec(calibration=0.0).is_empty("calibration")
    assert not SplitSpec().is_empty("train")
    assert not SplitSpec().is_empty("test")
