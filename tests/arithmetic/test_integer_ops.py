from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.arithmetic.integer_ops import (
    conv2d,
    dense,
    fold_zero_point,
    from_zero,
    matmul,
    products,
    rebias_to_signed,
    window_sums,
)

seeds = st.integers(0, 2**32 - 1)
byte = st.integers(0, 255)


def draw_bytes(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return rng.integers(0, 256, shape, np.uint8)


def draw_weights(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int8]:
    return rng.integers(-127, 128, shape, np.int8)


def slow_conv2d(
    x: NDArray[np.uint8],
    w: NDArray[np.int8],
    zero_point: int,
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilations: tuple[int, int],
    groups: int,
) -> NDArray[np.int64]:
    top, left, bottom, right = padding
    height = (x.shape[2] + top + bottom - (w.shape[2] - 1) * dilations[0] - 1) // strides[0] + 1
    width = (x.shape[3] + left + right - (w.shape[3] - 1) * dilations[1] - 1) // strides[1] + 1
    out = np.zeros((len(x), len(w), height, width), np.int64)
    for n, o, i, j in np.ndindex(*out.shape):
        group = o // (len(w) // groups)
        for c, k, m in np.ndindex(*w.shape[1:]):
            row = i * strides[0] + k * dilations[0] - top
            column = j * strides[1] + m * dilations[1] - left
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                level = int(x[n, group * w.shape[1] + c, row, column])
                out[n, o, i, j] += (level - zero_point) * int(w[o, c, k, m])
    return out


@given(seeds, byte, st.integers(-127, 127))
def test_the_zero_point_expansion_is_exact(seed: int, z_left: int, z_right: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = draw_bytes(rng, (3, 40)), draw_weights(rng, (40, 5))
    exact = (left.astype(np.int64) - z_left) @ (right.astype(np.int64) - z_right)
    np.testing.assert_array_equal(matmul(left, z_left, right, z_right), exact)


@given(seeds, byte)
def test_folding_the_zero_point_into_the_bias_is_exact(seed: int, zero_point: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = draw_bytes(rng, (3, 40)), draw_weights(rng, (5, 40))
    bias = rng.integers(-1000, 1000, 5, np.int32)
    folded = x.astype(np.int64) @ w.T.astype(np.int64) + fold_zero_point(bias, w, zero_point)
    np.testing.assert_array_equal(dense(x, w, bias, zero_point), folded)


@given(seeds, byte)
def test_rebiasing_to_signed_is_exact(seed: int, zero_point: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = draw_bytes(rng, (1, 4, 5, 5)), draw_weights(rng, (3, 4, 3, 3))
    bias = rng.integers(-1000, 1000, 3, np.int32)
    pads = (1, 1, 1, 1)
    signed = conv2d(rebias_to_signed(x), w, bias, zero_point - 128, padding=pads)
    np.testing.assert_array_equal(signed, conv2d(x, w, bias, zero_point, padding=pads))


@pytest.mark.parametrize(
    ("strides", "padding", "dilations", "groups"),
    list(
        itertools.product(
            [(1, 1), (2, 1)], [(0, 0, 0, 0), (1, 0, 2, 1)], [(1, 1), (2, 1)], [1, 2, 4]
        )
    ),
)
def test_convolution_equals_a_plain_loop(
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilations: tuple[int, int],
    groups: int,
) -> None:
    rng = np.random.default_rng(0)
    x, w = draw_bytes(rng, (2, 4, 6, 5)), draw_weights(rng, (4, 4 // groups, 3, 2))
    bias = rng.integers(-1000, 1000, 4, np.int32)
    found = conv2d(
        x, w, bias, 7, strides=strides, padding=padding, dilations=dilations, groups=groups
    )
    slow = slow_conv2d(x, w, 7, strides, padding, dilations, groups)
    np.testing.assert_array_equal(found, slow + bias[:, None, None])
    assert found.dtype == np.int32


@given(seeds, byte)
def test_padding_with_the_zero_point_equals_padding_with_real_zero(
    seed: int, zero_point: int
) -> None:
    rng = np.random.default_rng(seed)
    x, w = draw_bytes(rng, (1, 2, 4, 4)), draw_weights(rng, (3, 2, 3, 3))
    bias = np.zeros(3, np.int32)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=zero_point)
    np.testing.assert_array_equal(
        conv2d(x, w, bias, zero_point, padding=(1, 1, 1, 1)), conv2d(padded, w, bias, zero_point)
    )


def test_an_accumulator_beyond_32_bits_is_an_error() -> None:
    x, w = np.full((1, 70_000), 255, np.uint8), np.full((1, 70_000), 127, np.int8)
    with pytest.raises(OverflowError, match="does not fit int32"):
        dense(x, w, np.zeros(1, np.int32), 0)


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="groups 2"):
        conv2d(
            np.zeros((1, 3, 2, 2), np.uint8),
            np.zeros((2, 1, 1, 1), np.int8),
            np.zeros(2, np.int32),
            0,
            groups=2,
        )


@given(seeds, byte, st.integers(1, 3), st.integers(1, 2), st.integers(1, 2))
def test_window_sums_equal_a_convolution_by_ones(
    seed: int, zero_point: int, window: int, stride: int, dilation: int
) -> None:
    x = draw_bytes(np.random.default_rng(seed), (2, 3, 7, 6))
    ones, none = np.ones((3, 1, window, window), np.int8), np.zeros(3, np.int32)
    steps, spread, pads = (stride, 1), (1, dilation), (1, 0, 1, 0)
    sums = window_sums(
        x, zero_point, (window, window), strides=steps, padding=pads, dilations=spread
    )
    expected = conv2d(
        x, ones, none, zero_point, strides=steps, padding=pads, dilations=spread, groups=3
    )
    np.testing.assert_array_equal(sums, expected)


@given(seeds, byte, byte)
def test_products_of_levels_are_exact_and_broadcast(seed: int, z_left: int, z_right: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = draw_bytes(rng, (1, 4, 3, 2)), draw_bytes(rng, (1, 4, 1, 1))
    exact = (left.astype(np.int64) - z_left) * (right.astype(np.int64) - z_right)
    np.testing.assert_array_equal(products(left, z_left, right, z_right), exact)


@given(seeds, byte)
def test_the_distance_from_zero_survives_rebiasing(seed: int, zero_point: int) -> None:
    x = draw_bytes(np.random.default_rng(seed), (2, 9))
    np.testing.assert_array_equal(
        from_zero(x, zero_point), from_zero(rebias_to_signed(x), zero_point - 128)
    )
