from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.arithmetic.similarity import max_abs, snr_db, top1_agreement
from edgekit.core.errors import StageError


def test_equal_outputs_have_infinite_snr() -> None:
    assert snr_db(np.ones(3), np.ones(3)) == math.inf


def test_noise_of_a_tenth_is_20_db() -> None:
    assert snr_db(np.array([1.0, -1.0]), np.array([1.1, -1.1])) == pytest.approx(20.0)


def test_noise_on_silence_is_minus_infinity() -> None:
    assert snr_db(np.zeros(2), np.ones(2)) == -math.inf


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_snr_does_not_depend_on_the_unit(seed: int, factor: float) -> None:
    a, b = np.random.default_rng(seed).standard_normal((2, 20))
    assert snr_db(a * factor, b * factor) == pytest.approx(snr_db(a, b))


def test_max_abs_of_levels_does_not_wrap_around() -> None:
    assert max_abs(np.array([0], np.uint8), np.array([255], np.uint8)) == 255.0


def test_max_abs_of_nothing_is_zero() -> None:
    assert max_abs(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0


def test_agreement_counts_equal_best_classes() -> None:
    reference = np.array([[1.0, 2.0], [5.0, 1.0], [3.0, 3.0]])
    assert top1_agreement(reference, np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])) == 2 / 3


@pytest.mark.parametrize("compare", [snr_db, max_abs, top1_agreement])
def test_shapes_must_agree(compare: Callable[..., float]) -> None:
    with pytest.raises(StageError, match=r"found shape \(2, 3\), expected shape \(2, 2\)"):
        compare(np.zeros((2, 2)), np.zeros((2, 3)))


@pytest.mark.parametrize("compare", [snr_db, max_abs, top1_agreement])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_must_be_finite(compare: Callable[..., float], value: float) -> None:
    with pytest.raises(StageError, match="NaN or infinity in the compared output"):
        compare(np.zeros((1, 1)), np.full((1, 1), value))


def test_agreement_needs_scores_per_class() -> None:
    with pytest.raises(StageError, match=r"scores of shape \(3,\)"):
        top1_agreement(np.zeros(3), np.zeros(3))
