from __future__ import annotations

import numpy as np
import pytest

from edgekit.arithmetic.affine import Levels
from edgekit.arithmetic.requantize import requantize
from edgekit.compiler.graph.operators import Pool, ToLevels
from edgekit.compiler.kernels.images.pool import build_pool
from edgekit.compiler.kernels.isa.base import Isa
from tests.compiler.kernel_runner import KernelCase, pack, run_kernels, unpack
from tests.compiler.volumes import Array, Source, levels_of, turns

NAMES = {"name": "op", "nodes": ("op",), "reads": ("x",), "writes": ("y",)}
# Height, width, window, strides, pads from the top on, and dilations of every case.
WINDOWS = (
    (12, 13, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    (8, 8, (2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
    (9, 7, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    (7, 10, (2, 3), (2, 1), (0, 1, 1, 0), (1, 2)),
    (11, 11, (9, 9), (1, 1), (4, 4, 4, 4), (1, 1)),
    (3, 3, (5, 5), (1, 1), (2, 2, 2, 2), (1, 1)),
    (5, 6, (3, 3), (2, 2), (0, 0, 1, 1), (1, 1)),  # ceil mode: windows beyond the image
)


def _windows(image: Array, case: tuple, outside: float) -> Array:
    """Return [C, OH, OW, window] with `outside` where a window leaves the image."""
    _, _, window, strides, pads, dilations = case
    top, left, bottom, right = pads
    full = np.pad(
        image.astype(np.float64),
        ((0, 0), (top, bottom), (left, right)),
        constant_values=outside,
    )
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(full, reach, axis=(1, 2))
    view = view[:, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    return view.reshape(*view.shape[:3], -1)


def _cases(number: int) -> tuple:
    return WINDOWS[number % len(WINDOWS)]


@pytest.mark.parametrize("dtype", ["float32", "levels"])
def test_nothing_outside_of_the_image_counts_in_a_maximum(dtype: str) -> None:
    source, cases, wanted = Source(41), [], []
    for number, isa, _ in turns(WINDOWS):
        case = _cases(number)
        shape = (int(source.random.integers(1, 20)), *case[:2])
        name = "float32" if dtype == "float32" else isa.level_dtype
        image = source.floats(shape) if dtype == "float32" else source.levels(shape, levels_of(isa))
        image -= np.abs(image) // 2 * (image > 0).astype(image.dtype)
        if dtype == "float32":
            image = -np.abs(image)
        op = Pool(
            mode="max", window=case[2], strides=case[3], pads=case[4], dilations=case[5], **NAMES
        )
        expected = _windows(image, case, -np.inf).max(axis=-1)
        read = source.volume(isa, shape, dtype=name, fill=0)
        write = source.volume(isa, expected.shape, dtype=name, fill=0)
        built = build_pool(op, (read,), write, isa)
        cases.append(KernelCase(built, (pack(read, image),), write))
        wanted.append(expected)
    for case, result, expected in zip(cases, run_kernels(cases), wanted, strict=True):
        np.testing.assert_array_equal(unpack(case.write, result), expected)


def _average_case(source: Source, isa: Isa, number: int, *, floats: bool) -> tuple:
    case = _cases(number)
    levels = levels_of(isa)
    shape = (int(source.random.integers(1, 20)), *case[:2])
    zero_point = 0 if floats else source.zero_point(levels)
    image = source.floats(shape) if floats else source.levels(shape, levels)
    centred = image.astype(np.float64) - zero_point
    sums = _windows(centred, case, 0).sum(axis=-1)
    counts = _windows(np.ones((1, *shape[1:])), case, number % 2).sum(axis=-1)[0].astype(np.int32)
    names = {"window": case[2], "strides": case[3], "pads": case[4], "dilations": case[5]}
    dtype = "float32" if floats else levels.dtype
    read = source.volume(isa, shape, dtype=dtype, fill=zero_point)
    if floats:
        op = Pool(mode="average", divisors=counts, **names, **NAMES)
        expected, fill = sums / counts, 0
    else:
        factors = (np.float32(1.3) / counts).astype(np.float32).reshape(-1)
        to = ToLevels(
            multipliers=factors,
            zero_point=source.zero_point(levels),
            low=levels.low,
            high=levels.high,
        )
        op = Pool(
            mode="average",
            divisors=counts,
            input_zero_point=zero_point,
            result=to,
            **names,
            **NAMES,
        )
        clamped = Levels(dtype=levels.dtype, low=to.low, high=to.high)
        flat = sums.astype(np.int32).reshape(shape[0], -1)
        expected = requantize(flat, factors, to.zero_point, clamped, axis=1).reshape(sums.shape)
        fill = to.zero_point
    write = source.volume(isa, expected.shape, dtype=dtype, fill=fill)
    built = build_pool(op, (read,), write, isa)
    return KernelCase(built, (pack(read, image, spare=1),), write), expected


def test_averages_divide_by_how_many_values_each_window_counts() -> None:
    source = Source(42)
    pairs = [_average_case(source, isa, number, floats=True) for number, isa, _ in turns(WINDOWS)]
    for (case, expected), result in zip(pairs, run_kernels([c for c, _ in pairs]), strict=True):
        # At most 81 values about 2 large are summed in float32.
        np.testing.assert_allclose(unpack(case.write, result), expected, rtol=1e-5, atol=1e-5)


def test_averages_of_levels_have_the_bits_of_the_definition() -> None:
    source = Source(43)
    pairs = [_average_case(source, isa, number, floats=False) for number, isa, _ in turns(WINDOWS)]
    for (case, expected), result in zip(pairs, run_kernels([c for c, _ in pairs]), strict=True):
        np.testing.assert_array_equal(unpack(case.write, result), expected)
