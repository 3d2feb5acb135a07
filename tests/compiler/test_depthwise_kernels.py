from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

from edgekit.arithmetic.affine import Levels
from edgekit.arithmetic.integer_ops import conv2d
from edgekit.arithmetic.requantize import requantize, requantized_add
from edgekit.compiler.graph.operators import Activation, AddLevels, Convolution
from edgekit.compiler.kernels.depthwise.depthwise import RegisterTile, build_depthwise
from edgekit.compiler.kernels.isa.avx2 import Avx2
from edgekit.compiler.kernels.isa.avx512_vnni import Avx512Vnni
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.isa.forms import LevelRule, Run
from edgekit.compiler.kernels.isa.neon import Neon
from edgekit.compiler.kernels.isa.neon_dot import NeonDot
from tests.compiler.emulated_kernels import emulate_kernels, emulated
from tests.compiler.kernel_runner import KernelCase, pack, run_kernels, unpack
from tests.compiler.volumes import Array, Source, levels_of, turns

NAMES = {"name": "op", "nodes": ("op",), "writes": ("y",)}
if TYPE_CHECKING:
    import tvm

    Buffer: TypeAlias = tvm.tirx.Buffer
    Expr: TypeAlias = tvm.tirx.PrimExpr


class SpelledVnni(Avx512Vnni):
    """Spell the instructions of AVX-512 out, so that every machine can run these kernels."""

    def dot(self, accumulator: Expr, x: Expr, weights: Buffer, index: Expr | int) -> Expr:
        from tvm.tirx.script.builder import ir as T

        levels = T.reinterpret("uint8x64", x)
        taken = T.Bind(weights[self.ramp(index, 64)])
        for number in range(4):
            lanes = list(range(number, 64, 4))
            both = (T.Cast("int32x16", T.Shuffle([v], lanes)) for v in (levels, taken))
            accumulator = accumulator + next(both) * next(both)
        return accumulator

    def store_levels(self, buffer: Buffer, runs: Sequence[Run], rule: LevelRule) -> None:
        Isa.store_levels(self, buffer, runs, rule)


ISAS = (Avx2(), Isa(4), Isa(16), SpelledVnni())
# Channels, height, width, kernel, strides and dilations of every case.
LAYERS = (
    (20, 9, 14, (3, 3), (1, 1), (1, 1)),
    (16, 8, 9, (3, 3), (2, 2), (1, 1)),
    (9, 7, 7, (5, 5), (1, 1), (1, 1)),
    (8, 12, 11, (5, 5), (2, 2), (1, 1)),
    (5, 11, 13, (3, 3), (1, 1), (2, 3)),
    (17, 6, 10, (7, 7), (1, 2), (1, 1)),
    (8, 5, 6, (1, 3), (1, 1), (1, 1)),
    (8, 3, 3, (3, 3), (2, 2), (1, 1)),
    (33, 1, 1, (3, 3), (1, 1), (1, 1)),
    (8, 10, 21, (9, 9), (1, 1), (1, 1)),
)
TILES = (None, RegisterTile(1, 3), RegisterTile(2, 4), RegisterTile(3, 5))


def _geometry(source: Source, layer: tuple) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Return pads (top, left, bottom, right) and the output's size."""
    _, height, width, kernel, strides, dilations = layer
    pads, sizes = [], []
    for size, k, stride, dilation in zip((height, width), kernel, strides, dilations, strict=True):
        reach = (k - 1) * dilation
        before = int(source.random.integers(max(reach - size + 1, 0), reach + 1)) if reach else 0
        after = int(source.random.integers(0, reach - min(before, reach) + 2))
        pads.append((before, after))
        sizes.append((size + before + after - reach - 1) // stride + 1)
    return (pads[0][0], pads[1][0], pads[0][1], pads[1][1]), (sizes[0], sizes[1])


def _spread(pads: tuple[int, ...], source: Source) -> tuple[int, int, int, int]:
    """Return a buffer's padding: now and then more than is needed."""
    more = source.random.integers(0, 2, 4) if source.random.random() < 0.4 else np.zeros(4, int)
    top, left, bottom, right = (int(a + b) for a, b in zip(pads, more, strict=True))
    return top, left, bottom, right


def _float_reference(image: Array, op: Convolution) -> Array:
    out = np.zeros(0)
    top, left, bottom, right = op.pads
    padded = np.pad(image.astype(np.float64), ((0, 0), (top, bottom), (left, right)))
    reach = [(k - 1) * d + 1 for k, d in zip(op.weights.shape[2:], op.dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))
    windows = windows[:, :: op.strides[0], :: op.strides[1], :: op.dilations[0], :: op.dilations[1]]
    out = np.einsum("chwkl,ckl->chw", windows, op.weights[:, 0].astype(np.float64))
    return out + op.bias[:, None, None]


def _float_case(source: Source, isa: Isa, number: int) -> tuple[KernelCase, Array]:
    layer = LAYERS[number % len(LAYERS)]
    channels, height, width, kernel, strides, dilations = layer
    pads, size = _geometry(source, layer)
    image = source.floats((channels, height, width))
    has_residual = number % 3 == 0
    op = Convolution(
        weights=source.floats((channels, 1, *kernel)),
        bias=source.floats((channels,)),
        strides=strides,
        pads=pads,
        dilations=dilations,
        groups=channels,
        activation=Activation(function="clip", low=-1, high=6),
        reads=("x", "r") if has_residual else ("x",),
        **NAMES,
    )
    reads = [source.volume(isa, image.shape, pads=_spread(pads, source))]
    inputs = [pack(reads[0], image, spare=1)]
    expected = _float_reference(image, op)
    if has_residual:
        residual = source.floats((channels, *size))
        reads.append(source.volume(isa, residual.shape))
        inputs.append(pack(reads[1], residual, spare=1))
        expected = expected + residual
    write = source.volume(isa, (channels, *size))
    tile = TILES[number % len(TILES)]
    built = build_depthwise(op, tuple(reads), write, isa, tile)
    return KernelCase(built, tuple(inputs), write), np.clip(expected, -1, 6)


def test_floats_equal_numpy_for_any_kernel_stride_dilation_and_padding() -> None:
    source = Source(31)
    pairs = [_float_case(source, isa, number) for number, isa, _ in turns(LAYERS, ISAS)]
    for (case, expected), result in zip(pairs, run_kernels([c for c, _ in pairs]), strict=True):
        # Sums of at most 81 products about 4 large, in float32.
        np.testing.assert_allclose(unpack(case.write, result), expected, rtol=1e-5, atol=1e-4)


def _level_case(source: Source, isa: Isa, number: int) -> tuple[KernelCase, Array]:
    levels = levels_of(isa)
    layer = LAYERS[number % len(LAYERS)]
    channels, height, width, kernel, strides, dilations = layer
    pads, size = _geometry(source, layer)
    image = source.levels((channels, height, width), levels)
    if number % 2:
        image[:] = source.random.choice([levels.low, levels.high], image.shape)
    weights = source.random.integers(-127, 128, (channels, 1, *kernel)).astype(np.int8)
    zero_point = source.zero_point(levels)
    # A large bias leaves what float32 holds exactly.
    bias = source.random.integers(-9999, 9999, channels) * (1 if number % 4 else 4000)
    to = source.to_levels(levels, 9000 * np.sqrt(weights[0].size), channels)
    shape = (channels, *size)
    residual, add = source.levels(shape, levels), None
    if number % 3 == 0:
        add = AddLevels(
            first_multiplier=float(np.float32(0.61)),
            first_zero_point=to.zero_point,
            second_multiplier=float(np.float32(0.43)),
            second_zero_point=source.zero_point(levels),
            zero_point=source.zero_point(levels),
            low=levels.low,
            high=levels.high,
        )
    op = Convolution(
        weights=weights,
        bias=bias.astype(np.int32),
        strides=strides,
        pads=pads,
        dilations=dilations,
        groups=channels,
        input_zero_point=zero_point,
        result=to,
        add=add,
        reads=("x",) if add is None else ("x", "r"),
        **NAMES,
    )
    read = source.volume(
        isa, image.shape, dtype=levels.dtype, fill=zero_point, pads=_spread(pads, source)
    )
    reads, inputs = [read], [pack(read, image)]
    if add is not None:
        reads.append(source.volume(isa, shape, dtype=levels.dtype, fill=add.second_zero_point))
        inputs.append(pack(reads[1], residual))
    fill = to.zero_point if add is None else add.zero_point
    write = source.volume(isa, shape, dtype=levels.dtype, fill=fill)
    built = build_depthwise(op, tuple(reads), write, isa, TILES[number % len(TILES)])
    return KernelCase(built, tuple(inputs), write), _level_reference(op, image, residual, levels)


def _level_reference(op: Convolution, image: Array, residual: Array, levels: Levels) -> Array:
    sums = conv2d(
        *(image[None], op.weights, op.bias, op.input_zero_point),
        strides=op.strides,
        padding=op.pads,
        dilations=op.dilations,
        groups=op.groups,
    )[0]
    to, add = op.result, op.add
    clamped = Levels(dtype=levels.dtype, low=to.low, high=to.high)
    result = requantize(sums, to.multipliers, to.zero_point, clamped, axis=0)
    if add is None:
        return result
    first, second = np.float32(add.first_multiplier), np.float32(add.second_multiplier)
    return requantized_add(
        *(result, add.first_zero_point, first, residual, add.second_zero_point, second),
        *(add.zero_point, levels),
    )


def test_levels_have_the_bits_of_the_definition_at_both_ends_of_their_range() -> None:
    source = Source(32)
    pairs = [_level_case(source, isa, number) for number, isa, _ in turns(LAYERS, ISAS)]
    for (case, expected), result in zip(pairs, run_kernels([c for c, _ in pairs]), strict=True):
        np.testing.assert_array_equal(unpack(case.write, result), expected, str(case.write))


@pytest.mark.parametrize(
    ("board", "isa"),
    [
        pytest.param("rpi4", Neon(), marks=emulated),
        pytest.param("rpi5", NeonDot(), marks=emulated),
    ],
    ids=["rpi4", "rpi5"],
)
def test_boards_give_the_same_bits(board: str, isa: Isa) -> None:
    source = Source(33)
    numbers = range(len(LAYERS))
    pairs = [_level_case(source, isa, n) for n in numbers]
    pairs += [_float_case(source, isa, n) for n in numbers[::3]]
    done = emulate_kernels([case for case, _ in pairs], board)
    for (case, expected), run in zip(pairs, done, strict=True):
        result = unpack(case.write, run.result)
        if case.write.dtype == "float32":
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-4)
        else:
            np.testing.assert_array_equal(result, expected, str(case.write))
