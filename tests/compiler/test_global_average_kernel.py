from __future__ import annotations

import numpy as np

from edgekit.arithmetic.affine import Levels
from edgekit.arithmetic.requantize import requantize
from edgekit.compiler.graph.operators import GlobalAverage
from edgekit.compiler.kernels.images.global_average import build_global_average
from tests.compiler.kernel_runner import KernelCase, pack, run_kernels, unpack
from tests.compiler.volumes import ISAS, Source, levels_of

NAMES = {"name": "op", "nodes": ("op",), "reads": ("x",), "writes": ("y",)}


def test_averages_of_floats_equal_numpy() -> None:
    source, cases, wanted = Source(21), [], []
    for isa in (isa for isa in ISAS for _ in range(6)):
        shape = source.shape()
        image = source.floats(shape)
        read, write = (
            source.volume(isa, shape),
            source.volume(isa, (shape[0], 1, 1)),
        )
        built = build_global_average(GlobalAverage(**NAMES), (read,), write, isa)
        cases.append(KernelCase(built, (pack(read, image),), write))
        wanted.append(image.astype(np.float64).mean(axis=(1, 2), keepdims=True))
    for case, result, expected in zip(cases, run_kernels(cases), wanted, strict=True):
        # A sum of 144 values about 2 large: a few units in the last place of the sum.
        np.testing.assert_allclose(unpack(case.write, result), expected, rtol=1e-5, atol=2e-6)


def test_averages_of_levels_have_the_bits_of_the_definition() -> None:
    source, cases, wanted = Source(22), [], []
    for isa in (isa for isa in ISAS for _ in range(6)):
        levels, shape = levels_of(isa), source.shape()
        image, zero_point = source.levels(shape, levels), source.zero_point(levels)
        count = shape[1] * shape[2]
        to = source.to_levels(levels, 60 * count)
        read = source.volume(isa, shape, dtype=levels.dtype, fill=zero_point)
        write = source.volume(isa, (shape[0], 1, 1), dtype=levels.dtype, fill=to.zero_point)
        op = GlobalAverage(input_zero_point=zero_point, result=to, **NAMES)
        built = build_global_average(op, (read,), write, isa)
        cases.append(KernelCase(built, (pack(read, image),), write))
        total = image.astype(np.int64).sum(axis=(1, 2), keepdims=True) - count * zero_point
        clamped = Levels(dtype=levels.dtype, low=to.low, high=to.high)
        wanted.append(requantize(total.astype(np.int32), to.multipliers[0], to.zero_point, clamped))
    for case, result, expected in zip(cases, run_kernels(cases), wanted, strict=True):
        np.testing.assert_array_equal(unpack(case.write, result), expected)
