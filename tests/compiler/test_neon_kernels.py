"""Kernels for 64-bit Arm in the emulator: the definition's bits, and the instructions meant."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.assembly import Loop, hottest, loops_of
from edgekit.compiler.aot.lowering import lower_kernels
from edgekit.compiler.aot.toolchain import toolchain_for
from edgekit.compiler.graph.operators import Convolution, Lookup, ToLevels
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.convolution.direct import build_convolution
from edgekit.compiler.kernels.convolution.geometry import required_pads
from edgekit.compiler.kernels.convolution.tiles import choose_tile
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.isa.choose import isa_for
from edgekit.compiler.kernels.isa.neon import Neon
from edgekit.compiler.kernels.isa.neon_dot import NeonDot
from edgekit.compiler.kernels.kernel import Built
from edgekit.compiler.kernels.values.lookup import build_lookup
from edgekit.compiler.kernels.volume import Volume
from edgekit.compiler.kernels.winograd.floats import winograd_pads
from edgekit.compiler.kernels.winograd.levels import build_winograd_levels
from edgekit.core.target import load_target
from tests.compiler.convolution_cases import (
    Expected,
    Shape,
    draw_shape,
    float_case,
    level_case,
    level_dense_case,
)
from tests.compiler.emulated_kernels import emulate_kernels, emulated
from tests.compiler.kernel_runner import KernelCase, pack, unpack
from tests.compiler.volumes import Array, Source, levels_of

BOARDS = {"rpi4": Neon, "rpi5": NeonDot}
NAMES = {"name": "op", "nodes": ("op",), "writes": ("y",)}
IMAGE = (3, 30, 31)


def check(cases: Sequence[Expected], board: str) -> None:
    found = emulate_kernels([expected.case for expected in cases], board)
    for number, (expected, ran) in enumerate(zip(cases, found, strict=True)):
        image = unpack(expected.case.write, ran.result)
        message = f"case {number}"
        if expected.tolerance:
            atol = expected.tolerance
            np.testing.assert_allclose(image, expected.image, rtol=0, atol=atol, err_msg=message)
        else:
            np.testing.assert_array_equal(image, expected.image, err_msg=message)


def levels_convolution(
    board: str, shape: Shape, *, winograd: bool = False
) -> tuple[Built, Volume, Volume]:
    """Build a convolution as the compiler would; weights are within +-40, levels any."""
    target = load_target(board)
    source, isa = Source(51), isa_for(target)
    weights = source.random.integers(
        -40, 41, (shape.outputs, shape.inputs // shape.groups, *shape.kernel)
    )
    op = Convolution(
        weights=weights.astype(np.int8),
        bias=source.random.integers(-999, 999, shape.outputs).astype(np.int32),
        strides=shape.strides,
        pads=shape.pads,
        input_zero_point=-7,
        result=source.to_levels(levels_of(isa), 2e5, shape.outputs),
        reads=("x",),
        **NAMES,
    )
    image, result = (shape.inputs, shape.height, shape.width), (shape.outputs, *shape.result)
    x, y = Tensor("x", (1, *image), "int8"), Tensor("y", (1, *result), "int8")
    pads = winograd_pads(op, x, y, 4) if winograd else required_pads(op, x, y, isa)
    read = source.volume(isa, image, dtype="int8", fill=-7, pads=pads)
    if shape.inputs <= 4:
        read = Volume(
            dtype="int8",
            channels=shape.inputs,
            height=shape.height,
            width=shape.width,
            lanes=4,
            pads=pads,
            fill=-7,
        )
    assert isinstance(op.result, ToLevels)
    write = source.volume(isa, result, dtype="int8", fill=op.result.zero_point, pads=(0, 0, 0, 0))
    if winograd:
        return build_winograd_levels(op, [read], write, isa, 4), read, write
    tile = choose_tile(op, read, write, isa, target.cpu.caches_kib)
    return build_convolution(op, [read], write, isa, tile), read, write


def loops(built: dict[str, Built], board: str, folder: Path) -> dict[str, Loop]:
    """Return the busiest loop of every kernel, by name."""
    import tvm

    kernels = {name: item.kernel.function for name, item in built.items()}
    llvm_target = tvm.target.Target(toolchain_for(load_target(board)).llvm)
    lowered = lower_kernels(kernels, llvm_target, folder, prefix="t")
    found = hottest([loop for file in lowered.objects for loop in loops_of(file)])
    return {name.removeprefix("t_"): loop for name, loop in found.items()}


class TestEmulated:
    pytestmark = emulated

    @pytest.mark.parametrize("board", BOARDS)
    def test_products_of_levels_equal_the_definition_bit_for_bit(self, board: str) -> None:
        source, isa = Source(52), BOARDS[board]()
        cases = [level_case(source, isa, draw_shape(source)) for _ in range(10)]
        cases += [level_case(source, isa, Shape(3, 20, 9, 8, (3, 3)), narrow=True)]
        sizes = ((3, 40, 10), (1, 33, 64))
        cases += [level_dense_case(source, isa, *size) for size in sizes]
        check(cases, board)

    @pytest.mark.parametrize("board", BOARDS)
    def test_the_largest_levels_and_weights_do_not_saturate(self, board: str) -> None:
        source, isa, cases = Source(53), BOARDS[board](), []
        shape = Shape(32, 16, 3, 4, kernel=(3, 3), pads=(1, 1, 1, 1))
        for sign in (1, -1):
            for level in (-128, 127):
                weights = np.full((16, 32, 3, 3), 127 * sign, np.int8)
                image = np.full((32, 3, 4), level, np.int8)
                cases.append(level_case(source, isa, shape, weights=weights, image=image))
        check(cases, board)

    def test_float_products_equal_exact_ones_within_rounding(self) -> None:
        source = Source(54)
        check([float_case(source, Neon(), draw_shape(source)) for _ in range(8)], "rpi4")

    @pytest.mark.parametrize("board", BOARDS)
    def test_a_few_channels_are_read_several_pixels_at_a_time(self, board: str) -> None:
        """Three channels and a kernel of 5 columns fit two loads, so columns cost little."""
        shapes = [Shape(*IMAGE[:1], 32, *IMAGE[1:], (3, width), (2, 2)) for width in (5, 8)]
        image = Source(55).levels(IMAGE, levels_of(Neon()))
        cases = []
        for shape in shapes:
            built, read, write = levels_convolution(board, shape)
            cases.append(KernelCase(built, (pack(read, image),), write))
        five, eight = (ran.instructions for ran in emulate_kernels(cases, board))
        # Eight columns of weights to multiply with instead of five, in as many steps.
        assert eight < 1.1 * five

    def test_winograd_executes_at_most_half_the_instructions(self) -> None:
        shape = Shape(64, 64, 20, 20, (3, 3), pads=(1, 1, 1, 1))
        image = Source(56).levels((64, 20, 20), levels_of(Neon()))
        cases = []
        for winograd in (False, True):
            built, read, write = levels_convolution("rpi4", shape, winograd=winograd)
            cases.append(KernelCase(built, (pack(read, image),), write))
        direct, moved = emulate_kernels(cases, "rpi4")
        np.testing.assert_array_equal(
            unpack(cases[0].write, direct.result), unpack(cases[1].write, moved.result)
        )
        assert moved.instructions < direct.instructions / 2

    def test_tables_replace_every_level(self) -> None:
        source, isa = Source(57), Neon()
        table = source.levels((256,), levels_of(isa))
        image: Array = np.arange(-128, 128).astype(np.int8).reshape(16, 4, 4)
        volume = source.volume(isa, image.shape, dtype="int8", pads=(0, 0, 0, 0))
        op = Lookup(table=table, reads=("x",), **NAMES)
        case = KernelCase(build_lookup(op, (volume,), volume, isa), (pack(volume, image),), volume)
        (ran,) = emulate_kernels([case])
        wanted = table[image.astype(int) + 128]
        np.testing.assert_array_equal(unpack(volume, ran.result), wanted)


@pytest.mark.skipif(shutil.which("llvm-objdump") is None, reason="llvm-objdump is not installed")
class TestInstructions:
    LAYERS = (
        Shape(64, 64, 28, 28, (3, 3), pads=(1, 1, 1, 1)),
        Shape(64, 128, 28, 28, (3, 3), (2, 2), pads=(1, 1, 1, 1)),
        Shape(96, 24, 28, 28),
        Shape(24, 144, 28, 28),
        Shape(960, 160, 7, 7),
        Shape(3, 32, 64, 64, (7, 7), (2, 2), pads=(3, 3, 3, 3)),
    )

    def test_dot_products_name_lanes_and_leave_the_stack_alone(self, tmp_path: Path) -> None:
        built = {
            f"k{n}": levels_convolution("rpi5", shape)[0] for n, shape in enumerate(self.LAYERS)
        }
        for name, loop in loops(built, "rpi5", tmp_path).items():
            assert loop.count(r"^sdot .*\.4b\[[0-3]\]$") >= 16, name
            assert loop.count(r"^sdot ") == loop.count(r"^sdot .*\]$"), name
            assert loop.stack_accesses == 0, name
            assert loop.macs / len(loop.instructions) > 11, name

    def test_pairs_of_products_are_added_in_one_instruction(self, tmp_path: Path) -> None:
        built = {
            f"k{n}": levels_convolution("rpi4", shape)[0]
            for n, shape in enumerate(self.LAYERS)
            if shape.inputs > 32
        }
        for name, loop in loops(built, "rpi4", tmp_path).items():
            products = loop.count("^smull ")
            assert products == loop.count("^smlal2 ") == loop.count("^sadalp "), name
            assert loop.stack_accesses == 0, name
            assert loop.macs / len(loop.instructions) > 4.4, name

    def test_float_products_name_lanes(self, tmp_path: Path) -> None:
        source, isa = Source(58), Neon()
        built = {}
        for number, shape in enumerate(self.LAYERS):
            built[f"k{number}"] = float_built(source, isa, shape)
        for name, loop in loops(built, "rpi4", tmp_path).items():
            assert loop.count(r"^fmla .*\.s\[[0-3]\]$") > 50, name
            assert loop.stack_accesses == 0, name
            assert loop.macs / len(loop.instructions) > 3.2, name


def float_built(source: Source, isa: Isa, shape: Shape) -> Built:
    op = Convolution(
        weights=source.floats((shape.outputs, shape.inputs, *shape.kernel)),
        bias=source.floats((shape.outputs,)),
        strides=shape.strides,
        pads=shape.pads,
        reads=("x",),
        **NAMES,
    )
    image, result = (shape.inputs, shape.height, shape.width), (shape.outputs, *shape.result)
    x, y = Tensor("x", (1, *image), "float32"), Tensor("y", (1, *result), "float32")
    read = source.volume(isa, image, pads=required_pads(op, x, y, isa))
    write = source.volume(isa, result, pads=(0, 0, 0, 0))
    tile = choose_tile(op, read, write, isa, load_target("rpi4").cpu.caches_kib)
    return build_convolution(op, [read], write, isa, tile)
