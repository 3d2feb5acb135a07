"""Kernels that replace values one by one: functions, tables, other grids."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.arithmetic.affine import Levels
from edgekit.arithmetic.requantize import requantize
from edgekit.compiler.graph.operators import Activation, Lookup, Rescale, Softmax, Unary
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.isa.neon import Neon
from edgekit.compiler.kernels.values.lookup import build_lookup
from edgekit.compiler.kernels.values.rescale import build_rescale
from edgekit.compiler.kernels.values.softmax import build_softmax
from edgekit.compiler.kernels.values.unary import build_unary
from edgekit.compiler.kernels.volume import Volume
from tests.compiler.emulated_kernels import emulate_kernels, emulated
from tests.compiler.kernel_runner import KernelCase, pack, run_kernels, unpack
from tests.compiler.volumes import ISAS, Array, Source, levels_of, turns

NAMES = {"name": "op", "nodes": ("op",), "reads": ("x",), "writes": ("y",)}
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


FUNCTIONS = {
    Activation(function="relu"): lambda x: np.maximum(x, 0),
    Activation(function="clip", low=-1.5, high=6): lambda x: np.clip(x, -1.5, 6),
    Activation(function="hard-sigmoid", low=0.2, high=0.5): lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    Activation(function="hard-swish"): lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    Activation(function="leaky-relu", low=0.1): lambda x: np.where(x < 0, 0.1 * x, x),
    Activation(function="elu", low=0.7): lambda x: np.where(x < 0, 0.7 * np.expm1(x), x),
    Activation(function="sigmoid"): _sigmoid,
    Activation(function="silu"): lambda x: x * _sigmoid(x),
    Activation(function="tanh"): np.tanh,
    Activation(function="gelu"): lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2))),
    Activation(function="gelu-tanh"): lambda x: (
        0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    ),
    Activation(function="exp"): np.exp,
    Activation(function="erf"): _erf,
    Activation(function="sqrt"): lambda x: np.sqrt(np.abs(x)),
    Activation(function="reciprocal"): lambda x: 1 / x,
    Activation(function="abs"): np.abs,
    Activation(function="neg"): np.negative,
}


def test_functions_are_within_a_millionth_of_their_values() -> None:
    cases, wanted = [], []
    values = np.concatenate([np.linspace(-30, 30, 996), np.geomspace(1e-6, 1, 100)])
    names = []
    for _, isa, (activation, function) in turns(list(FUNCTIONS.items())):
        x = values.astype(np.float32)
        if activation.function == "sqrt":
            x = np.abs(x)
        volume = Volume(dtype="float32", channels=1, height=1, width=x.size, lanes=1)
        built = build_unary(Unary(activation=activation, **NAMES), (volume,), volume, isa)
        cases.append(KernelCase(built, (x,), volume))
        wanted.append(function(x.astype(np.float64)))
        names.append(activation.function)
    for name, result, expected in zip(names, run_kernels(cases), wanted, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-6, atol=2e-6, err_msg=name)


def test_exponentials_reach_zero_and_infinity() -> None:
    x = np.array([-200, -104, -90, -87.5, 0, 88, 88.6, 100, 3e38], np.float32)
    volume = Volume(dtype="float32", channels=1, height=1, width=x.size, lanes=1)
    op = Unary(activation=Activation(function="exp"), **NAMES)
    (result,) = run_kernels([KernelCase(build_unary(op, (volume,), volume, ISAS[0]), (x,), volume)])
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_allclose(result, np.exp(x), rtol=3e-6, atol=3e-45)


def _table_cases(source: Source, isa: Isa) -> list[tuple[KernelCase, Array]]:
    levels, pairs = levels_of(isa), []
    for shape, pads in (
        ((19, 5, 7), (1, 2, 0, 1)),
        ((64, 9, 9), (0, 0, 0, 0)),
        ((3, 1, 1), (0, 0, 0, 0)),
    ):
        table = source.levels((256,), levels)
        image = source.levels(shape, levels)
        read = source.volume(isa, shape, dtype=levels.dtype, pads=pads, fill=4)
        write = source.volume(isa, shape, dtype=levels.dtype, pads=pads, fill=7)
        built = build_lookup(Lookup(table=table, **NAMES), (read,), write, isa)
        expected = table[image.astype(np.int32) - levels.low]
        pairs.append((KernelCase(built, (pack(read, image),), write), expected))
    return pairs


def test_a_table_maps_every_level_padded_or_not() -> None:
    source = Source(52)
    pairs = [pair for isa in ISAS for pair in _table_cases(source, isa)]
    for (case, expected), result in zip(pairs, run_kernels([c for c, _ in pairs]), strict=True):
        np.testing.assert_array_equal(unpack(case.write, result), expected)


@pytest.mark.parametrize("board", [pytest.param("rpi4", marks=emulated)])
def test_a_board_maps_levels_alike(board: str) -> None:
    pairs = _table_cases(Source(55), Neon())
    done = emulate_kernels([case for case, _ in pairs], board)
    for (case, expected), run in zip(pairs, done, strict=True):
        np.testing.assert_array_equal(unpack(case.write, run.result), expected)


def test_levels_move_to_another_grid_as_requantization_defines() -> None:
    source, pairs = Source(53), []
    for isa in (isa for isa in ISAS for _ in range(4)):
        levels, shape = levels_of(isa), source.shape()
        image, zero_point = source.levels(shape, levels), source.zero_point(levels)
        to = source.to_levels(levels, 120)
        read = source.volume(isa, shape, dtype=levels.dtype, fill=zero_point)
        write = source.volume(isa, shape, dtype=levels.dtype, fill=to.zero_point)
        op = Rescale(input_zero_point=zero_point, result=to, **NAMES)
        built = build_rescale(op, (read,), write, isa)
        clamped = Levels(dtype=levels.dtype, low=to.low, high=to.high)
        moved = image.astype(np.int32) - zero_point
        expected = requantize(moved, to.multipliers[0], to.zero_point, clamped)
        pairs.append((KernelCase(built, (pack(read, image),), write), expected))
    for (case, expected), result in zip(pairs, run_kernels([c for c, _ in pairs]), strict=True):
        np.testing.assert_array_equal(unpack(case.write, result), expected)


def test_softmax_of_rows_of_any_length_sums_to_one_and_survives_large_values() -> None:
    source, cases, wanted = Source(54), [], []
    for isa in ISAS:
        for rows, length in ((1, 1), (3, 5), (4, 64), (2, 1000), (5, 37)):
            x = source.floats((rows, length), 20)
            x[0, 0] = 3e4
            x[-1, length // 2] = -3e38
            volume = Volume(dtype="float32", channels=length, height=1, width=rows, lanes=length)
            built = build_softmax(Softmax(**NAMES), (volume,), volume, isa)
            cases.append(KernelCase(built, (x.reshape(-1),), volume))
            shifted = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
            wanted.append(shifted / shifted.sum(axis=1, keepdims=True))
    for result, expected in zip(run_kernels(cases), wanted, strict=True):
        np.testing.assert_allclose(result.reshape(expected.shape), expected, rtol=4e-6, atol=1e-30)
