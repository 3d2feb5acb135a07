"""Kernels that put pixels together: concatenation and resizing."""

from __future__ import annotations

import numpy as np

from edgekit.compiler.graph.operators import Concat, Resize
from edgekit.compiler.kernels.images.concat import build_concat
from edgekit.compiler.kernels.images.resize import build_resize
from edgekit.compiler.kernels.volume import Volume
from tests.compiler.kernel_runner import KernelCase, pack, run_kernels, unpack
from tests.compiler.volumes import ISAS, Array, Source, levels_of

NAMES = {"name": "op", "nodes": ("op",), "writes": ("y",)}


def test_images_are_joined_along_channels_wherever_an_operand_starts() -> None:
    source, cases, wanted = Source(61), [], []
    for isa in ISAS:
        for number, channels in enumerate(((16, 32, 16), (3, 5, 40, 1), (1, 1, 1), (21, 70), (9,))):
            size = tuple(int(n) for n in source.random.integers(1, 9, 2))
            dtype = "float32" if number % 2 else isa.level_dtype
            images: list[Array] = [
                source.floats((c, *size))
                if number % 2
                else source.levels((c, *size), levels_of(isa))
                for c in channels
            ]
            reads = tuple(source.volume(isa, i.shape, dtype=dtype, fill=3) for i in images)
            joined = np.concatenate(images)
            write = source.volume(isa, joined.shape, dtype=dtype, fill=3)
            op = Concat(axis=1, reads=("x",) * len(channels), **NAMES)
            built = build_concat(op, reads, write, isa)
            inputs = tuple(pack(v, i, spare=1) for v, i in zip(reads, images, strict=True))
            cases.append(KernelCase(built, inputs, write))
            wanted.append(joined)
    for case, result, expected in zip(cases, run_kernels(cases), wanted, strict=True):
        np.testing.assert_array_equal(unpack(case.write, result), expected)


def test_rows_in_plain_order_are_joined_end_to_end() -> None:
    source, cases, wanted = Source(62), [], []
    for lengths in ((5, 64, 1), (33, 8), (100, 3)):
        rows = [source.floats((6, n)) for n in lengths]
        joined = np.concatenate(rows, axis=1)
        reads = tuple(_matrix(row) for row in rows)
        op = Concat(axis=2, reads=("x",) * len(rows), **NAMES)
        built = build_concat(op, reads, _matrix(joined), ISAS[0])
        cases.append(KernelCase(built, tuple(r.reshape(-1) for r in rows), _matrix(joined)))
        wanted.append(joined.reshape(-1))
    for result, expected in zip(run_kernels(cases), wanted, strict=True):
        np.testing.assert_array_equal(result, expected)


def _matrix(rows: Array) -> Volume:
    width, lanes = rows.shape
    return Volume(dtype="float32", channels=lanes, height=1, width=width, lanes=lanes)


def _linear(image: Array, factor: int, axis: int) -> Array:
    size = image.shape[axis]
    places = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    before = np.floor(places).astype(int)
    after = np.minimum(before + 1, size - 1)
    part = (places - before).reshape([-1 if a == axis else 1 for a in range(3)])
    return image.take(before, axis) * (1 - part) + image.take(after, axis) * part


def test_images_are_enlarged_by_whole_factors() -> None:
    source, cases, wanted = Source(63), [], []
    for isa in ISAS:
        for number, factors in enumerate(((2, 2), (1, 3), (4, 2), (3, 1), (2, 2))):
            is_level = number == 4
            shape = source.shape()
            image = source.levels(shape, levels_of(isa)) if is_level else source.floats(shape)
            dtype = isa.level_dtype if is_level else "float32"
            larger = (shape[0], shape[1] * factors[0], shape[2] * factors[1])
            read = source.volume(isa, shape, dtype=dtype, fill=2)
            write = source.volume(isa, larger, dtype=dtype, fill=2)
            for mode in ("nearest", "linear")[: 1 if is_level else 2]:
                op = Resize(mode=mode, factors=factors, reads=("x",), **NAMES)
                built = build_resize(op, (read,), write, isa)
                cases.append(KernelCase(built, (pack(read, image, spare=1),), write))
                if mode == "nearest":
                    wanted.append(image.repeat(factors[0], 1).repeat(factors[1], 2))
                else:
                    wide = _linear(image.astype(np.float64), factors[0], 1)
                    wanted.append(_linear(wide, factors[1], 2))
    for case, result, expected in zip(cases, run_kernels(cases), wanted, strict=True):
        np.testing.assert_allclose(unpack(case.write, result), expected, rtol=1e-5, atol=1e-5)
