from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.arithmetic.affine import (
    INT8,
    INT8_WEIGHTS,
    UINT8,
    AffineGrid,
    Levels,
    dequantize,
    fake_quantize,
    grid_from_range,
    levels_for,
    quantize,
    weight_grid,
)
from edgekit.core.errors import StageError

finite = st.floats(-(2.0**66), 2.0**66, width=32)
any_levels = st.one_of(
    st.sampled_from([UINT8, INT8, INT8_WEIGHTS]),
    st.builds(
        lambda bits, signed: levels_for(bits, signed=signed), st.integers(2, 8), st.booleans()
    ),
)


def every_level(levels: Levels) -> NDArray[np.integer]:
    return np.arange(levels.low, levels.high + 1).astype(levels.dtype)


@st.composite
def grids(draw: st.DrawFn) -> AffineGrid:
    low, high = sorted([draw(finite), draw(finite)])
    return grid_from_range(low, high, draw(any_levels), symmetric=draw(st.booleans()))


@given(grids())
def test_zero_is_exactly_representable(grid: AffineGrid) -> None:
    zero = quantize(np.zeros(1), grid)
    assert zero[0] == grid.zero_point
    assert dequantize(zero, grid)[0] == 0.0


@given(grids())
def test_the_zero_point_is_a_level(grid: AffineGrid) -> None:
    assert grid.levels.low <= grid.zero_point <= grid.levels.high


@given(grids())
def test_quantizing_a_level_gives_the_level_back(grid: AffineGrid) -> None:
    levels = every_level(grid.levels)
    np.testing.assert_array_equal(quantize(dequantize(levels, grid), grid), levels)


@given(grids(), st.lists(finite, min_size=1, max_size=20))
def test_quantizing_twice_changes_nothing(grid: AffineGrid, values: list[float]) -> None:
    once = fake_quantize(np.array(values, np.float32), grid)
    np.testing.assert_array_equal(fake_quantize(once, grid), once)


@given(grids(), st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50))
def test_every_result_is_one_of_the_levels(grid: AffineGrid, values: list[float]) -> None:
    levels = quantize(np.array(values, np.float32), grid)
    assert levels.dtype == grid.levels.dtype
    assert levels.min() >= grid.levels.low
    assert levels.max() <= grid.levels.high


@given(st.integers(2, 8), st.booleans())
def test_there_are_two_to_the_bits_levels(bits: int, signed: bool) -> None:
    assert levels_for(bits, signed=signed).count == 2**bits


@given(finite, finite, any_levels, st.booleans(), st.floats(0, 1))
def test_the_error_inside_the_range_is_at_most_half_a_step(
    a: float, b: float, levels: Levels, symmetric: bool, place: float
) -> None:
    low, high = min(a, b), max(a, b)
    grid = grid_from_range(low, high, levels, symmetric=symmetric)
    value = np.float32(low + place * (high - low))
    error = abs(float(fake_quantize(np.array([value]), grid)[0]) - float(value))
    # Besides half a step: rounding of value, quotient and product to float32, and of the scale,
    # which at the far end of the range is multiplied by the number of levels.
    assert error <= float(grid.scale) * (0.5 + levels.count * 2.0**-22)


@given(st.lists(finite, min_size=1, max_size=8))
def test_per_channel_equals_one_grid_per_channel(reaches: list[float]) -> None:
    high = np.abs(np.array(reaches))
    grid = grid_from_range(-high / 2, high, UINT8, axis=1)
    values = np.linspace(-1, 1, 4)[:, None] * high
    together = quantize(values, grid)
    for channel, reach in enumerate(high):
        alone = quantize(values[:, channel], grid_from_range(-reach / 2, reach, UINT8))
        np.testing.assert_array_equal(together[:, channel], alone)


def test_weights_never_reach_minus_128() -> None:
    weights = np.array([[-3.0, 1.0], [0.5, -0.5]], np.float32)
    levels = quantize(weights, weight_grid(weights))
    np.testing.assert_array_equal(levels, [[-127, 42], [127, -127]])


def test_a_weight_channel_of_zeros_gets_scale_one() -> None:
    grid = weight_grid(np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(grid.scale, [1.0, 1.0])
    np.testing.assert_array_equal(grid.zero_point, [0, 0])


def test_per_tensor_weights_share_the_largest_scale() -> None:
    weights = np.array([[-3.0, 1.0], [0.5, -0.5]], np.float32)
    assert weight_grid(weights, axis=None).scale == np.float32(3 / 127)


def test_symmetric_unsigned_grids_are_centred_on_128() -> None:
    grid = grid_from_range(-2.0, 1.0, UINT8, symmetric=True)
    assert grid.zero_point == 128
    assert grid.scale == np.float32(2 / 127)


def test_ties_go_to_the_even_level() -> None:
    grid = grid_from_range(0.0, 255.0, UINT8)
    np.testing.assert_array_equal(quantize(np.array([0.5, 1.5, 2.5]), grid), [0, 2, 2])


def test_infinite_values_saturate() -> None:
    grid = grid_from_range(-1.0, 1.0, INT8)
    np.testing.assert_array_equal(quantize(np.array([-np.inf, np.inf]), grid), [-128, 127])


def test_nan_is_not_quantized() -> None:
    with pytest.raises(StageError, match="quantizing a tensor: found NaN values"):
        quantize(np.array([np.nan]), grid_from_range(-1.0, 1.0, INT8))


@pytest.mark.parametrize("bound", [np.nan, np.inf, 1e31])
def test_a_range_that_is_not_finite_is_refused(bound: float) -> None:
    with pytest.raises(StageError, match="choosing a quantization range: found a bound of"):
        grid_from_range(0.0, bound, UINT8)


def test_a_range_upside_down_is_refused() -> None:
    with pytest.raises(StageError, match="a smallest value 2 above the largest"):
        grid_from_range(2.0, 1.0, UINT8)


def test_ranges_and_axis_must_agree() -> None:
    with pytest.raises(ValueError, match="do not fit axis 0"):
        grid_from_range(0.0, 1.0, UINT8, axis=0)


@pytest.mark.parametrize(
    ("bits", "signed", "narrow"), [(1, True, False), (9, False, False), (4, False, True)]
)
def test_impossible_levels_are_refused(bits: int, signed: bool, narrow: bool) -> None:
    with pytest.raises(ValueError, match=r"must be 2 to 8|no narrow form"):
        levels_for(bits, signed=signed, narrow=narrow)
