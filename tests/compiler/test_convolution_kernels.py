from __future__ import annotations

import numpy as np

from edgekit.compiler.graph.operators import Activation
from edgekit.compiler.kernels.isa.avx2 import Avx2
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.core.target import host_cpu
from tests.compiler.convolution_cases import (
    Expected,
    Shape,
    draw_shape,
    float_case,
    float_dense_case,
    level_case,
    level_dense_case,
)
from tests.compiler.kernel_runner import run_kernels, unpack
from tests.compiler.volumes import Source, levels_of


class WideGroups(Isa):
    """Stand for instruction sets this machine may not have: unsigned levels, 16 lanes, 4 groups."""

    level_dtype = "uint8"

    def __init__(self) -> None:
        super().__init__(lanes=16, num_registers=32)


def _isas() -> list[Isa]:
    isas = [Isa(4), Isa(8), WideGroups()]
    return [*isas, Avx2()] if "avx2" in host_cpu().features else isas


ISAS = _isas()


def check(cases: list[Expected]) -> None:
    results = run_kernels([expected.case for expected in cases])
    for number, (expected, result) in enumerate(zip(cases, results, strict=True)):
        image = unpack(expected.case.write, result)
        if not expected.tolerance:
            np.testing.assert_array_equal(image, expected.image, err_msg=f"case {number}")
            continue
        np.testing.assert_allclose(
            image, expected.image, rtol=0, atol=expected.tolerance, err_msg=f"case {number}"
        )
        assert np.isfinite(result).all(), "spare lanes are not finite"


def test_convolutions_of_levels_equal_the_definition_bit_for_bit() -> None:
    source = Source(1)
    check([level_case(source, isa, draw_shape(source)) for _ in range(9) for isa in ISAS])


def test_float_convolutions_equal_exact_ones_within_rounding() -> None:
    source = Source(2)
    check([float_case(source, isa, draw_shape(source)) for _ in range(7) for isa in ISAS])


def test_products_of_the_largest_levels_and_weights_do_not_saturate() -> None:
    source, cases = Source(3), []
    shape = Shape(24, 16, 4, 5, kernel=(3, 3), pads=(1, 1, 1, 1))
    for isa in ISAS:
        levels = levels_of(isa)
        for sign in (1, -1):
            for level in (levels.low, levels.high):
                weights = np.full((16, 24, 3, 3), 127 * sign, np.int8)
                image = np.full((24, 4, 5), level, levels.dtype)
                cases.append(level_case(source, isa, shape, weights=weights, image=image))
    check(cases)


def test_activations_follow_the_sums() -> None:
    source, cases = Source(4), []
    activations = {
        Activation("clip", 0.0, 6.0): lambda x: np.clip(x, 0, 6),
        Activation("hard-swish"): lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        Activation("silu"): lambda x: x / (1 + np.exp(-x)),
    }
    shape = Shape(10, 12, 5, 6)
    for isa in ISAS:
        for activation, function in activations.items():
            drawn = float_case(source, isa, shape, activation=activation)
            cases.append(drawn._replace(image=function(drawn.image)))
    check(cases)


def test_few_input_channels_may_lie_side_by_side_or_one_by_one() -> None:
    source, cases = Source(5), []
    shape = Shape(3, 20, 13, 16, kernel=(7, 7), strides=(2, 2), pads=(3, 3, 3, 3))
    for isa in ISAS:
        cases.append(float_case(source, isa, shape, narrow=True))
        cases.append(level_case(source, isa, shape, narrow=True))
    check(cases)


def test_matrix_products_of_any_size_equal_exact_ones() -> None:
    source, cases = Source(6), []
    for isa in ISAS:
        for rows, inputs, outputs in ((1, 40, 10), (1, 64, 64), (5, 17, 33), (7, 30, 8)):
            cases.append(float_dense_case(source, isa, rows, inputs, outputs))
            cases.append(level_dense_case(source, isa, rows, inputs, outputs))
    check(cases)
