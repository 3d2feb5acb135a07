from __future__ import annotations

import msgspec
import numpy as np

from edgekit.arithmetic.affine import INT8, UINT8
from edgekit.compiler.graph.tensors import Grid
from edgekit.compiler.kernels.images.layout import build_copy, build_dequantize, build_quantize
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.volume import Volume
from tests.compiler.kernel_runner import KernelCase, pack, run_kernels, unpack
from tests.compiler.volumes import ISAS, Array, Source, levels_of, turns

SHAPES = ((3, 9, 21), (1, 4, 5), (19, 6, 7), (33, 1, 1), (16, 3, 18), (5, 11, 40), (4, 8, 16))


def _plain(shape: tuple[int, int, int], dtype: str) -> Volume:
    return Volume(dtype=dtype, channels=shape[0], height=shape[1], width=shape[2], lanes=1)


def _lanes(isa: Isa, dtype: str, shape: tuple[int, int, int]) -> tuple[int, ...]:
    block = isa.float_block if dtype == "float32" else isa.level_block
    return (1, 4, block) if shape[0] <= 4 else (1, block)


def _check(pairs: list[tuple[KernelCase, Array]]) -> None:
    for (case, expected), result in zip(pairs, run_kernels([c for c, _ in pairs]), strict=True):
        np.testing.assert_array_equal(unpack(case.write, result), expected, str(case.write))


def test_a_copy_holds_the_same_numbers_in_every_layout() -> None:
    source, pairs = Source(11), []
    for number, isa, shape in turns(SHAPES):
        dtype = "float32" if number % 2 else isa.level_dtype
        image = source.floats(shape) if number % 2 else source.levels(shape, levels_of(isa))
        for lanes in _lanes(isa, dtype, shape):
            blocked = source.volume(isa, shape, dtype=dtype, fill=3 * (1 - number % 2))
            blocked = msgspec.structs.replace(blocked, lanes=lanes)
            plain = _plain(shape, dtype)
            for read, write in ((plain, blocked), (blocked, plain)):
                built = build_copy((read,), write, isa)
                pairs.append((KernelCase(built, (pack(read, image),), write), image))
    _check(pairs)


def test_levels_change_their_dtype_by_128() -> None:
    source, pairs = Source(12), []
    shape = (11, 5, 23)
    image = source.levels(shape, INT8)
    unsigned = (image.astype(np.int32) + 128).astype(np.uint8)
    for isa in ISAS:
        blocked = source.volume(isa, shape, dtype="int8", fill=-3, pads=(1, 2, 1, 0))
        plain = _plain(shape, "uint8")
        outward, inward = build_copy((blocked,), plain, isa), build_copy((plain,), blocked, isa)
        pairs.append((KernelCase(outward, (pack(blocked, image),), plain), unsigned))
        pairs.append((KernelCase(inward, (pack(plain, unsigned),), blocked), image))
    _check(pairs)


def test_blocks_of_different_sizes_are_regrouped() -> None:
    source, pairs = Source(13), []
    for isa, channels in ((isa, channels) for isa in ISAS[:2] for channels in (16, 21, 40)):
        shape = (channels, 4, 5)
        image = source.floats(shape)
        small = source.volume(isa, shape)
        large = msgspec.structs.replace(source.volume(isa, shape), lanes=16)
        for read, write in ((small, large), (large, small)):
            built = build_copy((read,), write, isa)
            pairs.append((KernelCase(built, (pack(read, image),), write), image))
    _check(pairs)


def _quantized(image: Array, grid: Grid, dtype: str) -> Array:
    info = np.iinfo(dtype)
    scaled = np.rint(image / np.float32(grid.scale)) + grid.zero_point
    return np.clip(scaled, info.min, info.max).astype(dtype)


def test_quantization_divides_rounds_to_even_and_clamps_in_every_layout() -> None:
    source, pairs = Source(14), []
    for number, isa, shape in turns(SHAPES):
        dtype = "uint8" if number == 2 else isa.level_dtype
        zero_point = source.zero_point(UINT8 if dtype == "uint8" else INT8)
        grid = Grid(float(np.float32(0.037)), zero_point)
        image = source.floats(shape, 4)
        image.flat[::3] = np.rint(image.flat[::3] * 10) * np.float32(grid.scale) / 2
        for lanes in _lanes(isa, dtype, shape):
            write = source.volume(isa, shape, dtype=dtype, fill=zero_point)
            write = msgspec.structs.replace(write, lanes=lanes)
            reads = [_plain(shape, "float32")]
            if lanes == isa.level_block:
                reads.append(source.volume(isa, shape))
            for read in reads:
                built = build_quantize((read,), write, isa, grid)
                inputs = (pack(read, image, spare=0),)
                pairs.append((KernelCase(built, inputs, write), _quantized(image, grid, dtype)))
    _check(pairs)


def test_dequantization_is_one_product_in_every_layout() -> None:
    source, pairs = Source(15), []
    for _, isa, shape in turns(SHAPES):
        levels = levels_of(isa)
        grid = Grid(float(np.float32(0.0213)), source.zero_point(levels))
        image = source.levels(shape, levels)
        expected = (image.astype(np.int32) - grid.zero_point).astype(np.float32)
        expected *= np.float32(grid.scale)
        read = source.volume(isa, shape, dtype=levels.dtype, fill=grid.zero_point)
        for write in (_plain(shape, "float32"), source.volume(isa, shape)):
            built = build_dequantize((read,), write, isa, grid)
            pairs.append((KernelCase(built, (pack(read, image),), write), expected))
    _check(pairs)
