from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.arithmetic.affine import INT8, UINT8, Levels
from edgekit.arithmetic.requantize import multiplier, requantize, requantized_add

int32 = st.integers(-(2**31), 2**31 - 1)
multipliers = st.floats(2.0**-60, 2.0**20, width=32)
some_levels = st.sampled_from([UINT8, INT8])


def f32(value: float) -> float:
    """Round a Python float to float32 by another road than numpy's."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def by_the_book(acc: int, m: float, zero_point: int, levels: Levels) -> int:
    """Follow the definition with Python numbers.

    An int32 and a product of two float32 values are exact in float64, so each is rounded once.
    """
    product = f32(f32(acc) * m)
    clamped = min(max(product, levels.low - zero_point), levels.high - zero_point)
    return round(clamped) + zero_point  # Python rounds ties to even


def zero_points(levels: Levels) -> st.SearchStrategy[int]:
    return st.integers(levels.low, levels.high)


@given(st.lists(int32, min_size=1, max_size=30), multipliers, some_levels, st.data())
def test_the_reference_follows_the_definition(
    accumulators: list[int], m: float, levels: Levels, data: st.DataObject
) -> None:
    zero_point = data.draw(zero_points(levels))
    found = requantize(np.array(accumulators, np.int32), np.float32(m), zero_point, levels)
    assert found.tolist() == [by_the_book(acc, m, zero_point, levels) for acc in accumulators]


@given(st.lists(int32, min_size=1, max_size=30), multipliers, some_levels, st.data())
def test_the_magic_number_form_gives_the_same_bits(
    accumulators: list[int], m: float, levels: Levels, data: st.DataObject
) -> None:
    zero_point = data.draw(zero_points(levels))
    acc = np.array(accumulators, np.int32)
    product = acc.astype(np.float32) * np.float32(m)
    clamped = np.clip(product, levels.low - zero_point, levels.high - zero_point).astype(np.float32)
    shifted = (clamped + np.float32(12582912.0)).view(np.int32) - (0x4B400000 - zero_point)
    np.testing.assert_array_equal(shifted, requantize(acc, np.float32(m), zero_point, levels))


@given(st.lists(int32, min_size=1, max_size=30), multipliers, some_levels, st.data())
def test_rounding_first_and_saturating_in_steps_gives_the_same_bits(
    accumulators: list[int], m: float, levels: Levels, data: st.DataObject
) -> None:
    zero_point = data.draw(zero_points(levels))
    acc = np.array(accumulators, np.int32)
    rounded = np.rint(acc.astype(np.float32) * np.float32(m)).astype(np.float64)
    in_16_bits = np.clip(np.clip(rounded, -(2.0**31), 2.0**31 - 1), -(2.0**15), 2.0**15 - 1)
    shifted = np.clip(in_16_bits + zero_point, -(2.0**15), 2.0**15 - 1)
    saturated = np.clip(shifted, levels.low, levels.high)
    np.testing.assert_array_equal(saturated, requantize(acc, np.float32(m), zero_point, levels))


@given(st.integers(-(2**24), 2**24), st.floats(2.0**-20, 1.0, width=32), some_levels, st.data())
def test_the_result_is_within_one_level_of_exact_arithmetic(
    acc: int, m: float, levels: Levels, data: st.DataObject
) -> None:
    zero_point = data.draw(zero_points(levels))
    exact = min(max(round(acc * m) + zero_point, levels.low), levels.high)
    found = requantize(np.array([acc], np.int32), np.float32(m), zero_point, levels)
    assert abs(int(found[0]) - exact) <= 1


def test_ties_go_to_even_before_the_zero_point_is_added() -> None:
    found = requantize(np.array([1, 3, 5, -1, -3], np.int32), np.float32(0.5), 1, INT8)
    np.testing.assert_array_equal(found, [1, 3, 3, 1, -1])


def test_the_product_is_rounded_before_it_is_rounded_to_a_level() -> None:
    # The exact product is 64.50000012, its float32 rounding 64.5: a fused multiply-add gives 65.
    acc, m = 14_427_738, float.fromhex("0x1.2c038ep-18")
    assert round(acc * m) == 65
    assert requantize(np.array([acc], np.int32), np.float32(m), 0, INT8)[0] == 64


def test_extreme_accumulators_saturate() -> None:
    found = requantize(np.array([-(2**31), 2**31 - 1], np.int32), np.float32(1e30), 128, UINT8)
    np.testing.assert_array_equal(found, [0, 255])


def test_each_channel_has_its_multiplier() -> None:
    acc = np.full((1, 2, 1, 2), 10, np.int32)
    found = requantize(acc, np.array([1.0, 0.5], np.float32), 0, INT8, axis=1)
    np.testing.assert_array_equal(found, [[[[10, 10]], [[5, 5]]]])


def test_accumulators_must_be_int32() -> None:
    with pytest.raises(TypeError, match="accumulators are int64, must be int32"):
        requantize(np.zeros(1, np.int64), np.float32(1), 0, INT8)


@given(*[st.floats(2.0**-40, 2.0**40, width=32)] * 3)
def test_the_multiplier_is_the_float64_quotient_rounded_once(x: float, w: float, y: float) -> None:
    assert float(multiplier(x, np.array([w], np.float32), y)[0]) == f32(x * w / y)


@given(*[st.integers(0, 255)] * 4, *[st.floats(2.0**-10, 4.0, width=32)] * 2, st.integers(0, 255))
def test_the_sum_follows_the_definition(
    a: int, za: int, b: int, zb: int, ma: float, mb: float, zero_point: int
) -> None:
    found = requantized_add(
        np.array([a], np.uint8),
        za,
        np.float32(ma),
        np.array([b], np.uint8),
        zb,
        np.float32(mb),
        zero_point,
        UINT8,
    )
    total = f32(f32((a - za) * ma) + f32((b - zb) * mb))
    clamped = min(max(total, -zero_point), 255 - zero_point)
    assert int(found[0]) == round(clamped) + zero_point
