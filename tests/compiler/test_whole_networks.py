"""Random networks through the whole compiler, against numpy and onnxruntime."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.compiler.graph.accounting import count_network
from edgekit.compiler.graph.frontend import read_network
from edgekit.compiler.graph.operators import Network, Region
from edgekit.compiler.graph.rebias import to_levels_of
from edgekit.compiler.graph.reference import run_network
from edgekit.compiler.onnx_file import specialise
from edgekit.devices.emulation.qemu import PROGRAM
from tests.compiler.onnx_models import GraphBuilder
from tests.compiler.operator_checks import allowed_error, operator_errors
from tests.compiler.whole_networks import (
    float_model,
    merged,
    quantized_model,
    random_inputs,
    run_emulated,
    run_here,
)

# Sums of some hundred float32 products in another order, as a share of the largest value.
FLOAT_TOLERANCE = 1e-5
# The same through some ten operators.
WHOLE_TOLERANCE = 1e-4

emulated = [
    pytest.mark.emulated,
    pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="qemu-user is not installed"),
]


def assert_near(network: Network, inputs: Mapping[str, np.ndarray], found: object) -> None:
    assert isinstance(found, dict)
    for name, expected in run_network(network, inputs).items():
        atol = WHOLE_TOLERANCE * float(np.abs(expected).max())
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=atol, err_msg=name)


def assert_same(network: Network, inputs: Mapping[str, np.ndarray], found: object) -> None:
    assert isinstance(found, dict)
    for name, expected in run_network(network, inputs).items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


@pytest.mark.parametrize("seed", range(24))
def test_every_float_operator_agrees_with_onnxruntime(seed: int) -> None:
    model = float_model(seed)
    network = read_network(model)
    errors = operator_errors(network, model, random_inputs(network, seed))
    assert max(errors.values()) <= FLOAT_TOLERANCE


@pytest.mark.parametrize("seed", range(24))
def test_every_integer_operator_is_within_one_step_of_onnxruntime(seed: int) -> None:
    model = quantized_model(seed)
    network = read_network(model)
    errors = operator_errors(network, model, random_inputs(network, seed))
    for operator in network.operators:
        is_level = network.tensors[operator.writes[0]].grid is not None
        allowed = allowed_error(operator) if is_level else FLOAT_TOLERANCE
        assert errors[operator.name] <= allowed, operator.name


@pytest.mark.parametrize("seed", range(10))
def test_products_of_a_quantized_model_are_integer_products(seed: int) -> None:
    model = quantized_model(seed)
    assert count_network(read_network(model), model).disqualification() is None


@pytest.mark.parametrize("seed", range(10))
def test_rebiasing_changes_no_result(seed: int) -> None:
    network = read_network(quantized_model(seed))
    inputs = random_inputs(network, seed)
    expected = run_network(network, inputs)
    for moved in (to_levels_of(network, "int8"), to_levels_of(network, "uint8")):
        for name, array in run_network(moved, inputs).items():
            np.testing.assert_array_equal(array, expected[name])


def side_by_side(make: Callable[[int], onnx.ModelProto], first: int, count: int) -> onnx.ModelProto:
    return merged([make(seed) for seed in range(first, first + count)])


def test_compiled_float_networks_agree_with_the_reference(tmp_path: Path) -> None:
    model = side_by_side(float_model, 100, 3)
    network = read_network(model)
    inputs = random_inputs(network)
    assert_near(network, inputs, run_here(model, inputs, tmp_path))


def test_compiled_integer_networks_equal_the_reference_bit_for_bit(tmp_path: Path) -> None:
    model = side_by_side(quantized_model, 100, 5)
    network = read_network(model)
    inputs = random_inputs(network)
    assert_same(network, inputs, run_here(model, inputs, tmp_path))


def moves() -> onnx.ModelProto:
    """Kernels of TVM: over 64-bit indices, with loops written by hand, spelled out or counted."""
    b = GraphBuilder()
    picked = b.op("Gather", "x", b.constant(np.array([2, 0])), axis=1)
    places = b.constant(np.array([[1, 0, 2]]))
    scattered = b.op("ScatterElements", "x", places, b.weight(1, 3), axis=0)
    summed = b.op("CumSum", scattered, b.constant(np.array(1)), reverse=1)
    b.nodes.append(
        onnx.helper.make_node("LayerNormalization", ["x", b.weight(3)], ["normal", "", "scale"])
    )
    b.nodes.append(onnx.helper.make_node("TopK", ["x", b.constant(np.array([2]))], ["top", "at"]))
    outputs = {picked: [4, 2], summed: [4, 3], "normal": [4, 3], "scale": [4, 1], "top": [4, 2]}
    return specialise(b.model({"x": [4, 3]}, outputs))


def test_operators_without_a_kernel_of_ours_run_as_well(tmp_path: Path) -> None:
    model = moves()
    network = read_network(model)
    assert {type(item) for item in network.operators} == {Region}
    inputs = random_inputs(network)
    assert_near(network, inputs, run_here(model, inputs, tmp_path))


class TestEmulated:
    pytestmark = emulated

    @pytest.mark.parametrize("board", ["rpi4", "rpi5"])
    def test_integer_networks_equal_the_reference_bit_for_bit(
        self, tmp_path: Path, board: str
    ) -> None:
        model = side_by_side(quantized_model, 200, 2)
        network = read_network(model)
        inputs = random_inputs(network)
        assert_same(network, inputs, run_emulated(model, inputs, tmp_path, board))

    def test_float_networks_agree_with_the_reference(self, tmp_path: Path) -> None:
        model = side_by_side(float_model, 200, 2)
        network = read_network(model)
        inputs = random_inputs(network)
        assert_near(network, inputs, run_emulated(model, inputs, tmp_path, "rpi4"))
