from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.arithmetic.windows import convolve
from edgekit.compiler.graph.operators import Activation, Convolution
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.isa.avx2 import Avx2
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.isa.neon import Neon
from edgekit.compiler.kernels.volume import Volume
from edgekit.compiler.kernels.winograd.blocking import (
    Blocking,
    choose_blocking,
    cut_tiles,
    register_tiles,
)
from edgekit.compiler.kernels.winograd.choice import (
    ERROR_BUDGET,
    choose_winograd,
    weights_bytes,
    winograd_error,
    winograd_gain,
    winograd_in_numpy,
)
from edgekit.compiler.kernels.winograd.floats import build_winograd, is_winograd, winograd_pads
from edgekit.compiler.kernels.winograd.matrices import TileSize
from tests.compiler.convolution_cases import Expected, Shape
from tests.compiler.emulated_kernels import emulate_kernels, emulated
from tests.compiler.kernel_runner import KernelCase, pack, run_kernels, unpack
from tests.compiler.volumes import Array, Source

TILES: tuple[TileSize, ...] = (2, 4)


def layer(source: Source, shape: Shape) -> Convolution:
    return Convolution(
        name="conv",
        nodes=("conv",),
        reads=("x", "r") if source.random.random() < 0.5 else ("x",),
        writes=("y",),
        weights=source.floats((shape.outputs, shape.inputs, 3, 3), 0.5),
        bias=source.floats((shape.outputs,)),
        pads=shape.pads,
        activation=Activation("clip", 0, 6) if source.random.random() < 0.5 else None,
    )


def tensors(op: Convolution, height: int, width: int) -> tuple[Tensor, Tensor]:
    outputs, inputs = op.weights.shape[:2]
    top, left, bottom, right = op.pads
    result = (1, outputs, height + top + bottom - 2, width + left + right - 2)
    return Tensor("x", (1, inputs, height, width), "float32"), Tensor("y", result, "float32")


def case(
    source: Source, isa: Isa, shape: Shape, m: TileSize, blocking: Blocking | None = None
) -> Expected:
    op = layer(source, shape)
    x, y = tensors(op, shape.height, shape.width)
    more = source.random.integers(0, 2, 4)
    pads = tuple(int(a + b) for a, b in zip(winograd_pads(op, x, y, m), more, strict=True))
    image = source.floats(x.shape[1:])
    residual = source.floats(y.shape[1:])
    reads = [source.volume(isa, x.shape[1:], pads=pads)]
    inputs = [pack(reads[0], image)]
    if len(op.reads) == 2:
        reads.append(source.volume(isa, y.shape[1:]))
        inputs.append(pack(reads[1], residual, spare=0.0))
    write = source.volume(isa, y.shape[1:])
    built = build_winograd(op, reads, write, isa, m, blocking=blocking)
    wanted = convolved(image, op.weights, op.pads) + op.bias.astype(np.float64)[:, None, None]
    span = np.abs(wanted).max()
    if len(op.reads) == 2:
        wanted = wanted + residual
    if op.activation is not None:
        wanted = np.clip(wanted, 0, 6)
    return Expected(KernelCase(built, tuple(inputs), write), wanted, float(2e-5 * span))


def convolved(image: Array, weights: Array, pads: tuple[int, int, int, int]) -> Array:
    return convolve(image[None].astype(np.float64), weights.astype(np.float64), padding=pads)[0]


def check(cases: list[Expected], results: list[Array]) -> None:
    for number, (expected, result) in enumerate(zip(cases, results, strict=True)):
        np.testing.assert_allclose(
            unpack(expected.case.write, result),
            expected.image,
            rtol=0,
            atol=expected.tolerance,
            err_msg=f"case {number}",
        )
        assert np.isfinite(result).all(), "spare lanes are not finite"


SAME = (1, 1, 1, 1)
SHAPES = [
    (4, Shape(16, 24, 8, 8, pads=SAME)),
    (4, Shape(20, 17, 13, 11, pads=SAME)),
    (4, Shape(3, 40, 5, 3, pads=(2, 0, 1, 2))),
    (2, Shape(20, 40, 9, 7)),
    (2, Shape(9, 72, 14, 9, pads=(0, 2, 1, 2))),
]
WIDTHS = [(Isa(4), 1), (Isa(4), 3), (Isa(16, 32), 1), (Isa(16, 32), 3)]


def test_any_image_and_any_channels_give_the_convolution() -> None:
    source = Source(8)
    cases = [case(source, Isa(8), shape, m) for m, shape in SHAPES]
    cases += [case(source, isa, SHAPES[n][1], SHAPES[n][0]) for isa, n in WIDTHS]
    check(cases, run_kernels([expected.case for expected in cases]))


def test_any_cut_of_the_work_gives_the_convolution() -> None:
    source, isa, shape = Source(5), Isa(8), Shape(12, 40, 18, 10, pads=SAME)
    usual = choose_blocking(isa, m=4, inputs=12, outputs=40, image=(18, 10), l2_bytes=1 << 19)
    cases = [
        case(
            *(source, isa, shape, 4),
            msgspec.structs.replace(
                usual, chunk_rows=rows, group_panels=panels, pixels=pixels, vectors=vectors
            ),
        )
        for rows, panels, pixels, vectors in ((2, 1, 4, 2), (3, 2, 2, 1), (5, 1, 6, 4))
    ]
    check(cases, run_kernels([expected.case for expected in cases]))


@pytest.mark.parametrize("target", [pytest.param("rpi4", marks=emulated)])
def test_neon_gives_the_convolution(target: str) -> None:
    source = Source(6)
    cases = [case(source, Neon(), shape, m) for m, shape in SHAPES[1:4:2]]
    found = emulate_kernels([expected.case for expected in cases], target)
    check(cases, [item.result for item in found])


@pytest.mark.parametrize("m", TILES)
def test_the_matrices_are_exact_on_small_integers(m: TileSize) -> None:
    random = np.random.default_rng(7)
    image = random.integers(-8, 9, (3, 2 * m + 2, m + 2)).astype(np.float32)
    weights = 24 * random.integers(-2, 3, (5, 3, 3, 3)).astype(np.float32)
    found = winograd_in_numpy(image, weights, m)
    np.testing.assert_allclose(found, convolved(image, weights, (0, 0, 0, 0)), rtol=0, atol=0.02)


@given(st.integers(1, 400), st.integers(1, 15))
def test_register_tiles_cover_a_chunk_once(count: int, size: int) -> None:
    whole, rest = cut_tiles(count, size)
    assert whole * size + sum(rest) == count
    assert all(0 < piece <= size for piece in rest)
    assert len(rest) <= 2


@settings(max_examples=30)
@given(
    st.sampled_from([Isa(8), Isa(16, 32), Neon()]),
    st.sampled_from(TILES),
    st.integers(1, 600),
    st.integers(1, 600),
    st.tuples(st.integers(1, 120), st.integers(1, 120)),
)
def test_chunks_and_groups_cover_the_work(
    isa: Isa, m: TileSize, inputs: int, outputs: int, image: tuple[int, int]
) -> None:
    cut = choose_blocking(
        isa, m=m, inputs=inputs, outputs=outputs, image=image, l2_bytes=512 * 1024
    )
    assert (cut.pixels, cut.vectors) in register_tiles(isa)
    assert 0 < cut.last_tiles <= cut.chunk_tiles
    assert (cut.groups - 1) * cut.group_blocks < cut.output_blocks <= cut.groups * cut.group_blocks
    assert cut.grid[0] * m >= image[0] > (cut.grid[0] - 1) * m


def resnet_layer(channels: int, size: int) -> tuple[Convolution, Tensor, Tensor]:
    shape = Shape(channels, channels, size, size, pads=SAME)
    op = layer(Source(channels), shape)
    return op, *tensors(op, size, size)


def test_wide_images_take_large_tiles_and_many_channels_small_ones() -> None:
    assert choose_winograd(*resnet_layer(64, 56), Avx2()) == 4
    assert choose_winograd(*resnet_layer(512, 7), Avx2()) == 2
    assert choose_winograd(*resnet_layer(64, 56), Avx2(), sizes=(2,)) == 2


def test_an_error_above_the_budget_turns_it_off() -> None:
    op, x, y = resnet_layer(64, 14)
    small, large = winograd_error(op, 2), winograd_error(op, 4)
    assert 0 < small < large < ERROR_BUDGET
    assert choose_winograd(op, x, y, Avx2(), error_budget=(small + large) / 2) == 2
    assert choose_winograd(op, x, y, Avx2(), error_budget=0) is None


def test_a_layer_of_few_channels_gains_nothing() -> None:
    op = layer(Source(1), Shape(3, 8, 32, 32, pads=SAME))
    assert winograd_gain(op, *tensors(op, 32, 32), Avx2(), 2) < 1


def test_only_plain_3x3_float_convolutions_qualify() -> None:
    op = layer(Source(1), Shape(8, 8, 8, 8, pads=SAME))
    assert is_winograd(op)
    for change in (
        {"strides": (2, 2)},
        {"dilations": (2, 2)},
        {"groups": 2},
        {"weights": op.weights[:, :, :1]},
        {"weights": op.weights.astype(np.int8)},
    ):
        assert not is_winograd(msgspec.structs.replace(op, **change))


def test_weights_grow_by_the_number_of_positions() -> None:
    op = layer(Source(1), Shape(8, 8, 8, 8, pads=SAME))
    assert weights_bytes(op, 4) == 4 * op.weights.nbytes
    assert weights_bytes(op, 2) == op.weights.nbytes * 16 // 9


def test_the_input_is_padded_to_whole_tiles() -> None:
    op = layer(Source(1), Shape(8, 8, 7, 9, pads=SAME))
    assert winograd_pads(op, *tensors(op, 7, 9), 4) == (1, 1, 2, 4)
    assert winograd_pads(op, *tensors(op, 7, 9), 2) == (1, 1, 2, 2)


def test_a_volume_of_other_lanes_is_refused() -> None:
    op = layer(Source(2), Shape(4, 8, 8, 8, pads=SAME))
    narrow = Volume(dtype="float32", channels=4, height=8, width=8, lanes=4, pads=SAME)
    write = msgspec.structs.replace(narrow, channels=8, lanes=8, pads=(0, 0, 0, 0))
    with pytest.raises(AssertionError):
        build_winograd(op, [narrow], write, Isa(8), 4)
