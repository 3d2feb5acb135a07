from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.arithmetic.affine import Levels
from edgekit.arithmetic.requantize import requantize, requantized_add
from edgekit.compiler.graph.operators import Activation, AddLevels, Elementwise, ToLevels
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.values.elementwise import build_elementwise
from edgekit.compiler.kernels.volume import Volume
from tests.compiler.kernel_runner import KernelCase, pack, run_kernels, unpack
from tests.compiler.volumes import ISAS, Array, Source, levels_of, turns

NAMES = {"name": "op", "nodes": ("op",), "reads": ("a", "b"), "writes": ("y",)}
FLOATS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply,
    "div": np.divide, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def _shapes(source: Source, number: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    shape = source.shape()
    return shape, (shape[0], 1, 1) if number % 2 else shape


def test_every_float_function_equals_numpy_also_spread_over_pixels_and_with_activation() -> None:
    source, cases, wanted = Source(1), [], []
    for number, isa, function in turns(list(FLOATS)):
        for spread in (0, 1):
            shape, second = _shapes(source, number + spread)
            a, b = source.floats(shape), source.floats(second)
            activation = Activation(function="relu") if number % 3 == 0 else None
            op = Elementwise(function=function, activation=activation, **NAMES)
            reads = (source.volume(isa, shape), source.volume(isa, second))
            write = source.volume(isa, shape)
            built = build_elementwise(op, reads, write, isa)
            inputs = tuple(pack(v, x, spare=1) for v, x in zip(reads, (a, b), strict=True))
            cases.append(KernelCase(built, inputs, write))
            result = FLOATS[function](a, b)
            wanted.append(np.maximum(result, 0) if activation else result)
    for case, result, expected in zip(cases, run_kernels(cases), wanted, strict=True):
        np.testing.assert_array_equal(unpack(case.write, result), expected)
        assert np.isfinite(result).all(), "spare lanes are not finite"


def test_plain_tensors_whose_size_is_no_multiple_of_a_vector_come_out_whole() -> None:
    source, cases, wanted = Source(2), [], []
    for isa in ISAS:
        for size in (1, 3, 37, 64, 131):
            volume = Volume(dtype="float32", channels=1, height=1, width=size, lanes=1)
            a, b = source.floats((1, 1, size)), source.floats((1, 1, size))
            op = Elementwise(function="add", **NAMES)
            built = build_elementwise(op, (volume, volume), volume, isa)
            cases.append(KernelCase(built, (a.reshape(-1), b.reshape(-1)), volume))
            wanted.append((a + b).reshape(-1))
    for result, expected in zip(run_kernels(cases), wanted, strict=True):
        np.testing.assert_array_equal(result, expected)


def _level_case(
    source: Source, isa: Isa, number: int, *, channels: bool
) -> tuple[KernelCase, Array]:
    levels = levels_of(isa)
    shape, second = _shapes(source, number)
    a, b = source.levels(shape, levels), source.levels(second, levels)
    zero_points = source.zero_point(levels), source.zero_point(levels)
    if number % 4 < 2:
        m = source.random.uniform(0.1, 2, 2).astype(np.float32)
        add = AddLevels(
            first_multiplier=float(m[0]),
            first_zero_point=zero_points[0],
            second_multiplier=float(m[1]),
            second_zero_point=zero_points[1],
            zero_point=source.zero_point(levels),
            low=levels.low + 7,
            high=levels.high,
        )
        op = Elementwise(function="add", add=add, **NAMES)
        clamped = Levels(dtype=levels.dtype, low=add.low, high=add.high)
        full = np.broadcast_to(b, shape)
        expected = requantized_add(
            *(a, zero_points[0], m[0], full, zero_points[1], m[1], add.zero_point, clamped)
        )
        fill = add.zero_point
    else:
        to = source.to_levels(levels, 9000, shape[0] if channels else 1)
        op = Elementwise(function="mul", zero_points=zero_points, result=to, **NAMES)
        acc = (a.astype(np.int32) - zero_points[0]) * (b.astype(np.int32) - zero_points[1])
        expected = _requantized(acc, to, levels)
        fill = to.zero_point
    reads = (
        source.volume(isa, shape, dtype=levels.dtype, fill=zero_points[0]),
        source.volume(isa, second, dtype=levels.dtype, fill=zero_points[1]),
    )
    write = source.volume(isa, shape, dtype=levels.dtype, fill=fill)
    inputs = tuple(pack(v, x) for v, x in zip(reads, (a, b), strict=True))
    return KernelCase(build_elementwise(op, reads, write, isa), inputs, write), expected


def _requantized(acc: Array, to: ToLevels, levels: Levels) -> Array:
    clamped = Levels(dtype=levels.dtype, low=to.low, high=to.high)
    axis = 0 if to.multipliers.size > 1 else None
    factors = to.multipliers if axis == 0 else to.multipliers[0]
    return requantize(acc, factors, to.zero_point, clamped, axis=axis)


@pytest.mark.parametrize("channels", [False, True])
def test_sums_and_products_of_levels_have_the_bits_of_the_definition(channels: bool) -> None:
    source = Source(3 + channels)
    pairs = [
        _level_case(source, isa, number, channels=channels)
        for number, isa in enumerate(isa for isa in ISAS for _ in range(4))
    ]
    for (case, expected), result in zip(pairs, run_kernels([c for c, _ in pairs]), strict=True):
        np.testing.assert_array_equal(unpack(case.write, result), expected)
