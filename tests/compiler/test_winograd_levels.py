"""Winograd's filtering of levels: the same bits as the definition, on every instruction set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.arithmetic.affine import Levels
from edgekit.arithmetic.integer_ops import conv2d
from edgekit.arithmetic.requantize import requantize, requantized_add
from edgekit.compiler.graph.operators import AddLevels, Convolution
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.isa.avx2 import Avx2
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.isa.neon import Neon
from edgekit.compiler.kernels.isa.neon_dot import NeonDot
from edgekit.compiler.kernels.winograd.floats import winograd_pads
from edgekit.compiler.kernels.winograd.integers import (
    INVERSE,
    integer_weights,
    is_exact,
    shift_of,
    transform_inputs,
    transform_outputs,
)
from edgekit.compiler.kernels.winograd.levels import build_winograd_levels, is_winograd_levels
from edgekit.compiler.kernels.winograd.levels_choice import choose_winograd_levels
from edgekit.compiler.kernels.winograd.matrices import TileSize
from edgekit.core.target import host_cpu
from tests.compiler.emulated_kernels import emulate_kernels, emulated
from tests.compiler.kernel_runner import KernelCase, pack, run_kernels, unpack
from tests.compiler.volumes import Array, Source, levels_of

ISAS = [Isa(4), Isa(16), *([Avx2()] if "avx2" in host_cpu().features else [])]
# inputs, outputs, height, width; tiles that are cut off, one tile, one block and many
SHAPES = ((21, 37, 9, 14), (16, 16, 8, 8), (3, 5, 3, 2), (64, 24, 7, 7), (40, 80, 13, 21))


def same(vector: Array) -> Array:
    return vector


def convolved(image: Array, weights: Array, m: int) -> Array:
    """Compute [K, m, m] from [C, m + 2, m + 2] as the kernels do, modulo 2**32."""
    size = m + 2

    def inputs(vectors: Sequence[Array]) -> list[Array]:
        return transform_inputs(vectors, np.int16, same)

    def outputs(vectors: Sequence[Array]) -> list[Array]:
        return transform_outputs(vectors, np.int32, same)

    words = image.astype(np.int16)
    columns = [inputs([words[:, i, j] for i in range(size)]) for j in range(size)]
    moved = [inputs([column[i] for column in columns]) for i in range(size)]
    factors = integer_weights(weights, m).astype(np.int32)
    with np.errstate(over="ignore"):
        sums = [
            [
                (factors[i * size + j] * moved[i][j].astype(np.int32)[:, None]).sum(0, np.int32)
                for j in range(size)
            ]
            for i in range(size)
        ]
        backs = [outputs([sums[i][j] for i in range(size)]) for j in range(size)]
        rows = [outputs([back[i] for back in backs]) for i in range(m)]
        exact = [
            [(rows[i][j] * np.int32(INVERSE[m])) >> shift_of(m, i, j) for j in range(m)]
            for i in range(m)
        ]
    return np.moveaxis(np.array(exact), -1, 0)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), m=st.sampled_from([2, 4]), extreme=st.booleans())
def test_sums_modulo_two_to_the_32_give_the_exact_convolution(
    seed: int, m: int, extreme: bool
) -> None:
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(1, 220))
    weights = rng.integers(-127, 128, (3, inputs, 3, 3)).astype(np.int8)
    image = rng.integers(-128, 128, (inputs, m + 2, m + 2))
    if extreme:
        weights = np.where(weights > 0, 127, -127).astype(np.int8)
        image = np.where(image > 0, 127, -128)
    wanted = conv2d(image[None].astype(np.int8), weights, np.zeros(3, np.int32), 0)[0]
    np.testing.assert_array_equal(convolved(image, weights, m), wanted)


@pytest.mark.parametrize("m", [2, 4])
def test_weights_that_could_leave_the_exact_range_are_refused(m: int) -> None:
    # 2**31 over the factor of the outermost outputs, over 9 * 127 * 128 per input channel.
    most = 2 ** (31 - 2 * {2: 1, 4: 3}[m]) // (9 * 127 * 128)
    assert is_exact(np.full((2, most, 3, 3), -127, np.int8), m, 128)
    assert not is_exact(np.full((2, most + 1, 3, 3), 127, np.int8), m, 128)


def case_of(
    source: Source, isa: Isa, shape: tuple[int, int, int, int], m: TileSize, number: int
) -> tuple[KernelCase, Array]:
    levels = levels_of(isa)
    inputs, outputs, height, width = shape
    weights = source.random.integers(-127, 128, (outputs, inputs, 3, 3)).astype(np.int8)
    image = source.levels((inputs, height, width), levels)
    bias = source.random.integers(-20000, 20000, outputs).astype(np.int32)
    zero_point = source.zero_point(levels)
    sums = conv2d(image[None], weights, bias, zero_point, padding=(1, 1, 1, 1))[0]
    result = source.to_levels(levels, float(np.abs(sums).max() + 1), outputs)
    bounds = Levels(dtype=levels.dtype, low=result.low, high=result.high)
    wanted = requantize(sums, result.multipliers, result.zero_point, bounds, axis=0)
    add, fill = None, result.zero_point
    residual = source.levels(wanted.shape, levels)
    if number % 2:
        first, second = source.random.uniform(0.2, 2.0, 2).astype(np.float32)
        add = AddLevels(
            first_multiplier=float(first),
            first_zero_point=result.zero_point,
            second_multiplier=float(second),
            second_zero_point=source.zero_point(levels),
            zero_point=source.zero_point(levels),
            low=levels.low,
            high=levels.high,
        )
        fill = add.zero_point
        wanted = requantized_add(
            *(wanted, result.zero_point, first, residual, add.second_zero_point, second),
            *(add.zero_point, levels),
        )
    op = Convolution(
        name="op",
        nodes=("op",),
        reads=("x",) if add is None else ("x", "r"),
        writes=("y",),
        weights=weights,
        bias=bias,
        pads=(1, 1, 1, 1),
        input_zero_point=zero_point,
        result=result,
        add=add,
    )
    x = Tensor("x", (1, *image.shape), levels.dtype)
    y = Tensor("y", (1, *wanted.shape), levels.dtype)
    pads = winograd_pads(op, x, y, m)
    dtype = levels.dtype
    reads = [source.volume(isa, image.shape, dtype=dtype, fill=zero_point, pads=pads)]
    packed = [pack(reads[0], image)]
    if add is not None:
        shape_of = wanted.shape
        reads.append(source.volume(isa, shape_of, dtype=dtype, fill=add.second_zero_point))
        packed.append(pack(reads[1], residual))
    write = source.volume(isa, wanted.shape, dtype=dtype, fill=fill)
    # A small cache makes several chunks.
    built = build_winograd_levels(op, reads, write, isa, m, l2_bytes=1 << (14 + 5 * (number % 2)))
    return KernelCase(built, tuple(packed), write), wanted


def cases_for(seed: int, isas: Sequence[Isa]) -> list[tuple[KernelCase, Array]]:
    source = Source(seed)
    sizes: tuple[TileSize, ...] = (2, 4)
    numbered = enumerate((shape, m) for m in sizes for shape in SHAPES)
    return [case_of(source, isas[n % len(isas)], shape, m, n) for n, (shape, m) in numbered]


def test_kernels_equal_the_definition_bit_for_bit() -> None:
    cases = cases_for(41, ISAS)
    for (case, wanted), result in zip(cases, run_kernels([c for c, _ in cases]), strict=True):
        np.testing.assert_array_equal(unpack(case.write, result), wanted)


class TestEmulated:
    pytestmark = emulated

    def test_kernels_equal_the_definition_bit_for_bit(self) -> None:
        cases = cases_for(42, [Neon()])
        found = emulate_kernels([case for case, _ in cases], "rpi4")
        for (case, wanted), ran in zip(cases, found, strict=True):
            np.testing.assert_array_equal(unpack(case.write, ran.result), wanted)


def convolution_of_levels(inputs: int, outputs: int, largest: int = 40) -> Convolution:
    source = Source(43)
    weights = source.random.integers(-largest, largest + 1, (outputs, inputs, 3, 3))
    return Convolution(
        name="op",
        nodes=("op",),
        reads=("x",),
        writes=("y",),
        weights=weights.astype(np.int8),
        bias=np.zeros(outputs, np.int32),
        pads=(1, 1, 1, 1),
        result=source.to_levels(levels_of(Avx2()), 1e5, outputs),
    )


def chosen(isa: Isa, op: Convolution, size: int) -> TileSize | None:
    outputs, inputs = op.weights.shape[:2]
    x = Tensor("x", (1, inputs, size, size), "int8")
    return choose_winograd_levels(op, x, Tensor("y", (1, outputs, size, size), "int8"), isa)


@pytest.mark.parametrize("isa", [Avx2(), Neon()], ids=["avx2", "neon"])
def test_large_images_take_large_tiles_where_dot_products_are_slow(isa: Isa) -> None:
    assert chosen(isa, convolution_of_levels(64, 64), 56) == 4


def test_dot_products_of_bytes_make_it_useless() -> None:
    assert chosen(NeonDot(), convolution_of_levels(64, 64), 56) is None


def test_a_few_pixels_are_not_worth_the_weights() -> None:
    assert chosen(Avx2(), convolution_of_levels(512, 512), 2) is None


def test_what_is_not_exact_is_not_chosen() -> None:
    op = convolution_of_levels(512, 8, largest=127)
    assert is_winograd_levels(op, Avx2(), 2)
    assert not is_winograd_levels(op, Avx2(), 4)
    assert chosen(Avx2(), op, 28) == 2
