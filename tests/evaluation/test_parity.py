from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import StageError
from edgekit.evaluation.layers import Divergence
from edgekit.evaluation.parity import Tolerance, compare, is_within, require_finite, require_parity

SCORES = np.random.default_rng(0).standard_normal((16, 10)).astype(np.float32)


def test_equal_outputs_are_bit_exact_and_have_no_finite_ratio() -> None:
    parity = compare({"logits": SCORES}, {"logits": SCORES.copy()})
    assert (parity.bit_exact, parity.snr_db, parity.max_abs) == (True, None, 0.0)
    assert parity.top1_agreement == 1.0


@given(st.integers(min_value=10, max_value=120))
def test_a_relative_error_becomes_its_ratio_in_decibels(decibels: int) -> None:
    scaled = SCORES.astype(np.float64) * (1 + 10 ** (-decibels / 20))
    parity = compare({"logits": SCORES.astype(np.float64)}, {"logits": scaled})
    assert parity.snr_db == pytest.approx(decibels, abs=1e-6)
    assert not parity.bit_exact


def test_over_several_outputs_the_worst_counts() -> None:
    reference = {"a": SCORES, "b": SCORES}
    parity = compare(reference, {"a": SCORES, "b": SCORES * np.float32(1.1)})
    assert parity.snr_db == pytest.approx(20, abs=0.01)
    assert not parity.bit_exact


def test_outputs_without_classes_agree_on_the_best_class() -> None:
    assert compare({"y": SCORES[:, :1]}, {"y": -SCORES[:, :1]}).top1_agreement == 1.0


def test_a_difference_from_zero_is_reported_as_a_number() -> None:
    parity = compare({"y": np.zeros((2, 3))}, {"y": np.ones((2, 3))})
    assert parity.snr_db is not None
    assert math.isfinite(parity.snr_db)


def test_booleans_can_be_compared() -> None:
    mask = np.array([[True, False]])
    assert compare({"m": mask}, {"m": mask}).bit_exact


def test_outputs_of_other_names_are_refused() -> None:
    with pytest.raises(StageError, match="found outputs b, expected a"):
        compare({"a": SCORES}, {"b": SCORES})


def test_outputs_of_other_shapes_are_refused() -> None:
    with pytest.raises(StageError, match=r"found shape \(15, 10\)"):
        compare({"a": SCORES}, {"a": SCORES[1:]})


def test_either_bound_is_enough() -> None:
    wide = np.array([[1000.0, 0.0, 0.0]])
    # 0.05 of 1000: the ratio is 83 dB; of the small output alone it would be nothing.
    assert is_within({"y": wide}, {"y": wide + 0.05}, Tolerance(max_abs_of_range=0))
    assert is_within({"y": wide}, {"y": wide + 0.05}, Tolerance(min_snr_db=140))
    strict = Tolerance(min_snr_db=140, max_abs_of_range=0)
    assert not is_within({"y": wide}, {"y": wide + 0.05}, strict)


def test_a_failure_says_how_far_apart_and_where() -> None:
    layer = Divergence(layer="block1.conv", op="Conv", value="conv2d_3", snr_db=12.34)
    with pytest.raises(
        StageError,
        match=r"comparing torch and ONNX: found SNR 20\.0 dB.* "
        r"'block1\.conv' \(Conv, SNR 12\.3 dB\), expected at least 60 dB",
    ):
        require_parity(
            {"y": SCORES},
            {"y": SCORES * np.float32(1.1)},
            between="torch and ONNX",
            locate=lambda: layer,
        )


def test_a_failure_without_a_guilty_layer_says_so() -> None:
    with pytest.raises(StageError, match="a rewrite across layers is wrong"):
        require_parity({"y": SCORES}, {"y": -SCORES}, between="a and b", locate=lambda: None)


def test_a_failure_need_not_be_located() -> None:
    with pytest.raises(StageError, match=r"same best class for [\d.]+%, expected"):
        require_parity({"y": SCORES}, {"y": -SCORES}, between="a and b")


def test_agreement_is_returned() -> None:
    assert require_parity({"y": SCORES}, {"y": SCORES}, between="a and b").bit_exact


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_and_counted(value: float) -> None:
    broken = SCORES.copy()
    broken[0, :2] = value
    with pytest.raises(StageError, match=r"output 'y': found 2 of 160 values NaN or infinite"):
        require_finite({"y": broken}, "the model")
    with pytest.raises(StageError, match="checking a and b"):
        require_parity({"y": SCORES}, {"y": broken}, between="a and b")


def test_a_layer_that_is_not_finite_is_shown_as_such() -> None:
    layer = Divergence(layer="fc", op="Gemm", value="y", snr_db=None)
    assert str(layer) == "'fc' (Gemm, NaN or infinity)"
