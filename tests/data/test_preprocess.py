from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.core.registry import registry
from edgekit.core.schema import Where, resolve_variant
from edgekit.data.source import apply_chain

if TYPE_CHECKING:
    from tests.data.conftest import Resolve


def run(step: object, array: NDArray[Any]) -> NDArray[Any]:
    entry = resolve_variant(step, "preprocess", Where("r.yaml"))
    result: NDArray[Any] = entry.apply({"x": array})["x"]
    return result


@pytest.mark.parametrize("name", registry("preprocess").names())
def test_every_step_offers_the_contract_and_help(name: str) -> None:
    assert registry("preprocess").help(name)
    assert callable(registry("preprocess").get(name).apply)


def test_bytes_become_fractions() -> None:
    found = run({"to-float": {"scale": 255}}, np.array([[0, 255, 51]], np.uint8))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[0.0, 1.0, 0.2]], np.float32))


def test_each_channel_is_normalized_by_its_own_figures() -> None:
    array = np.ones((2, 2, 1, 1), np.float32) * np.array([3.0, 5.0], np.float32)[:, None, None]
    found = run({"normalize": {"mean": [1, 1], "std": [2, 4]}}, array)
    np.testing.assert_array_equal(found[:, :, 0, 0], [[1.0, 1.0], [1.0, 1.0]])


def test_one_figure_serves_all_channels() -> None:
    found = run({"normalize": {"mean": [1], "std": [2]}}, np.full((1, 3, 2, 2), 5.0))
    np.testing.assert_array_equal(found, np.full((1, 3, 2, 2), 2.0, np.float32))


def test_normalizing_leaves_the_samples_alone() -> None:
    array = np.ones((1, 1), np.float32)
    run({"normalize": {"mean": [1], "std": [2]}}, array)
    assert array[0, 0] == 1.0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
def test_resizing_a_constant_image_keeps_the_value(old: int, new: int, value: int) -> None:
    found = run({"resize": {"size": [new, new]}}, np.full((1, 1, old, old), value, np.uint8))
    np.testing.assert_array_equal(found, np.full((1, 1, new, new), value))


def test_resizing_to_the_same_size_changes_nothing() -> None:
    array = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7), np.uint8)
    np.testing.assert_array_equal(run({"resize": {"size": [5, 7]}}, array), array)


def test_resizing_is_symmetric_and_keeps_the_type() -> None:
    array = np.random.default_rng(0).random((1, 1, 9, 9), np.float32)
    found = run({"resize": {"size": [4, 5]}}, array)
    flipped = run({"resize": {"size": [4, 5]}}, array[..., ::-1, ::-1])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, flipped[..., ::-1, ::-1], rtol=1e-6)


def test_resizing_bytes_agrees_with_pillow_within_a_step() -> None:
    image = pytest.importorskip("PIL.Image")
    array = np.random.default_rng(0).integers(0, 256, (11, 17), np.uint8)
    for height, width in ((5, 6), (22, 40), (11, 8)):
        ours = run({"resize": {"size": [height, width]}}, array[None, None])[0, 0]
        theirs = np.asarray(
            image.fromarray(array).resize((width, height), image.Resampling.BILINEAR)
        )
        # Pillow rounds to bytes between its two passes.
        assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_reshape_keeps_the_batch() -> None:
    assert run({"reshape": {"shape": [16]}}, np.zeros((3, 1, 4, 4))).shape == (3, 16)
    assert run({"reshape": {"shape": [2, -1]}}, np.zeros((3, 1, 4, 4))).shape == (3, 2, 8)


def test_channels_move_to_the_front() -> None:
    array = np.arange(24).reshape(1, 2, 4, 3)
    found = run("channels-first", array)
    assert found.shape == (1, 3, 2, 4)
    np.testing.assert_array_equal(found[0, 1], array[0, :, :, 1])
    assert found.flags.c_contiguous


def test_grey_images_get_a_channel() -> None:
    assert run("channels-first", np.zeros((5, 2, 4))).shape == (5, 1, 2, 4)


def test_a_step_changes_only_the_input_it_names(resolve: Resolve) -> None:
    step = resolve("preprocess", {"to-float": {"scale": 2, "input": "a"}})
    found = apply_chain([step], {"a": np.array([4]), "b": np.array([4])})
    assert found["a"].tolist() == [2.0]
    assert found["b"].dtype == np.array([4]).dtype


def test_steps_run_in_order(resolve: Resolve) -> None:
    steps = [
        resolve("preprocess", step)
        for step in ("channels-first", {"to-float": {"scale": 1}}, {"reshape": {"shape": [-1]}})
    ]
    found = apply_chain(steps, {"x": np.arange(6).reshape(1, 1, 2, 3)})["x"]
    np.testing.assert_array_equal(found, [[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]])


@pytest.mark.parametrize(
    ("step", "array", "message"),
    [
        ("to-float", np.array(["a"]), "'to-float': found elements of type <U1, expected numbers"),
        (
            {"normalize": {"mean": [0], "std": [1]}},
            np.zeros((1, 1), np.uint8),
            "found elements of type uint8, expected floating point. Hint: Put to-float before it",
        ),
        (
            {"normalize": {"mean": [0, 0], "std": [1, 1]}},
            np.zeros((1, 3, 2, 2)),
            r"found shape \(1, 3, 2, 2\), expected \[batch, 2 channels",
        ),
        ({"resize": {"size": [2, 2]}}, np.zeros((1, 4)), r"\[batch, channels, height, width\]"),
        ({"reshape": {"shape": [5]}}, np.zeros((1, 4)), "expected 5 elements"),
        ({"reshape": {"shape": [3, -1]}}, np.zeros((1, 4)), "expected 3 elements"),
        ("channels-first", np.zeros((1, 4)), r"found shape \(1, 4\), expected \[batch, height"),
        ({"to-float": {"input": "y"}}, np.zeros(1), "no input 'y'"),
    ],
)
def test_a_step_refuses_what_it_cannot_take(
    step: object, array: NDArray[Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(step, array)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"to-float": {"scale": 0}}, "scale is 0: expected float > 0"),
        ({"normalize": {"mean": [0, 0], "std": [1]}}, "found 2 means and 1 deviations"),
        ({"normalize": {"mean": [0], "std": [0]}}, "expected float > 0"),
        ({"reshape": {"shape": [-1, -1]}}, "at most one -1"),
        ({"reshape": {"shape": [0]}}, "expected positive sizes"),
        ({"resize": {"size": [0, 4]}}, "expected int >= 1"),
    ],
)
def test_impossible_options_are_refused_before_data_is_read(step: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_variant(step, "preprocess", Where("r.yaml"))


def test_several_inputs_need_a_name(resolve: Resolve) -> None:
    step = resolve("preprocess", "to-float")
    with pytest.raises(InputError, match=r"found inputs a, b. Hint: Write to-float: {input: a}"):
        step.apply({"a": np.zeros(1), "b": np.zeros(1)})
