from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec
from edgekit.evaluation.inputs import fit_inputs

IMAGE = TensorSpec("image", "float32", (None, 1, 4, 4))
IDS = TensorSpec("input_ids", "int64", (None, 8))
MASK = TensorSpec("attention_mask", "int64", (None, 8))


def test_arrays_come_in_the_order_of_the_signature() -> None:
    ids, mask = np.zeros((2, 8), np.int64), np.ones((2, 8), np.int64)
    fitted = fit_inputs((IDS, MASK), {"attention_mask": mask, "labels": mask, "input_ids": ids})
    assert list(fitted) == ["input_ids", "attention_mask"]


def test_a_single_array_serves_a_single_input_of_another_name() -> None:
    assert list(fit_inputs((IMAGE,), {"x": np.zeros((2, 1, 4, 4), np.float32)})) == ["image"]


def test_a_narrower_type_of_the_same_kind_is_widened() -> None:
    fitted = fit_inputs((IDS,), {"input_ids": np.zeros((2, 8), np.int32)})
    assert fitted["input_ids"].dtype == np.int64


def test_a_fixed_batch_does_not_bound_the_number_of_items() -> None:
    fixed = TensorSpec("x", "float32", (1, 3))
    assert fit_inputs((fixed,), {"x": np.zeros((5, 3), np.float32)})["x"].shape == (5, 3)


def test_a_missing_input_is_named() -> None:
    with pytest.raises(InputError, match=r"takes 'attention_mask': found data with input_ids, m"):
        fit_inputs((IDS, MASK), {"input_ids": np.zeros((2, 8)), "mask": np.zeros((2, 8))})


def test_another_shape_is_refused_with_both_shapes() -> None:
    with pytest.raises(
        InputError, match=r"found data of shape \[2, 4, 4, 1\], expected \[batch, 1"
    ):
        fit_inputs((IMAGE,), {"image": np.zeros((2, 4, 4, 1), np.float32)})


def test_numbers_for_token_ids_are_refused() -> None:
    with pytest.raises(InputError, match="found data of type float32, expected int64"):
        fit_inputs((IDS,), {"input_ids": np.zeros((2, 8), np.float32)})


def test_text_for_numbers_is_refused_and_the_cure_named() -> None:
    with pytest.raises(InputError, match=r"expected float32. Hint: `to-float`"):
        fit_inputs((IMAGE,), {"image": np.full((2, 1, 4, 4), "a")})


def test_inputs_of_unequal_length_are_refused() -> None:
    with pytest.raises(InputError, match="found 2 items of 'input_ids', 3 items of 'attention_ma"):
        fit_inputs(
            (IDS, MASK),
            {"input_ids": np.zeros((2, 8), int), "attention_mask": np.zeros((3, 8), int)},
        )


def test_no_items_are_refused() -> None:
    with pytest.raises(InputError, match="expected the same number of each, at least one"):
        fit_inputs((IDS,), {"input_ids": np.zeros((0, 8), int)})
