"""Read small ONNX graphs into the operator graph and hold what they compute against onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import onnx

from edgekit.compiler.graph.frontend import read_network
from edgekit.compiler.graph.operators import Network, Operator
from edgekit.compiler.graph.reference import run_network
from edgekit.compiler.onnx_file import specialise
from edgekit.compiler.session import open_session
from tests.compiler.onnx_models import GraphBuilder
from tests.compiler.operator_checks import FLOAT_TOLERANCE, allowed_error, operator_errors

_Kind = TypeVar("_Kind", bound=Operator)

# Two spellings of an activation differ by float32's rounding of their steps.
ACTIVATION_TOLERANCE = 1e-5


class QdqBuilder(GraphBuilder):
    """Append quantized pieces; grids are drawn so that levels spread over the whole range."""

    def levels(self, x: str, dtype: str = "uint8", *, scale: float = 0.05, zero: int = 100) -> str:
        """Quantize and dequantize a tensor."""
        grid = self.grid(dtype, scale=scale, zero=zero)
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *grid), *grid)

    def grid(self, dtype: str, *, scale: float, zero: int) -> tuple[str, str]:
        return self.constant(np.float32(scale)), self.constant(np.array(zero, dtype))

    def stored(self, *shape: int, scale: float | Sequence[float] = 0.01, axis: int = 0) -> str:
        """Dequantize int8 weights."""
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        scales = np.asarray(scale, np.float32)
        zeros = self.constant(np.zeros(scales.shape, np.int8))
        parts = (self.constant(values), self.constant(scales), zeros)
        return self.op("DequantizeLinear", *parts, axis=axis)

    def stored_bias(self, count: int, scale: float | Sequence[float]) -> str:
        values = self.rng.integers(-500, 500, count).astype(np.int32)
        scales = np.asarray(scale, np.float32)
        zeros = self.constant(np.zeros(scales.shape, np.int32))
        parts = (self.constant(values), self.constant(scales), zeros)
        return self.op("DequantizeLinear", *parts, axis=0)

    def finish(self, outputs: dict[str, Sequence[int]], *shape: int) -> onnx.ModelProto:
        """Return the model whose one input is `x`."""
        return self.model({"x": shape}, {name: list(size) for name, size in outputs.items()})


def kinds(network: Network) -> list[str]:
    return [type(operator).__name__ for operator in network.operators]


def only(network: Network, kind: type[_Kind]) -> _Kind:
    """Return the one operator of a kind."""
    [found] = [operator for operator in network.operators if isinstance(operator, kind)]
    return found


def read_and_compare(
    model: onnx.ModelProto, tolerance: float = FLOAT_TOLERANCE, *, opset: int = 18
) -> Network:
    """Read a float model and check that its outputs are onnxruntime's."""
    network, fixed = read(model, opset)
    inputs = random_inputs(network)
    expected = open_session(fixed, optimization="off").run(None, dict(inputs))
    found = run_network(network, inputs)
    for name, array in zip(network.outputs, expected, strict=True):
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        assert network.tensors[name].shape == array.shape
        limit = tolerance * max(1.0, float(np.abs(array.astype(np.float64)).max(initial=0.0)))
        np.testing.assert_allclose(found[name], array, rtol=0, atol=limit)
    return network


def read_levels(model: onnx.ModelProto) -> Network:
    """Read a quantized model and check every operator alone against onnxruntime."""
    network, fixed = read(model)
    errors = operator_errors(network, fixed, random_inputs(network))
    for operator in network.operators:
        is_float = network.tensors[operator.writes[0]].grid is None
        limit = FLOAT_TOLERANCE if is_float else allowed_error(operator)
        assert errors[operator.name] <= limit, operator.name
    return network


def read(model: onnx.ModelProto, opset: int = 18) -> tuple[Network, onnx.ModelProto]:
    model.opset_import[0].version = opset
    fixed = specialise(model)
    network = read_network(fixed)
    check_network(network)
    return network, fixed


def check_network(network: Network) -> None:
    """Check what holds for every network."""
    made = set(network.inputs)
    for operator in network.operators:
        assert set(operator.reads) <= made, f"{operator.name} runs before what it reads"
        assert not made & set(operator.writes), f"{operator.name} writes what is there"
        assert operator.nodes
        made.update(operator.writes)
    assert set(network.outputs) <= made
    assert made <= set(network.tensors)
    names = [operator.name for operator in network.operators]
    assert len(set(names)) == len(names)
    for tensor in network.tensors.values():
        assert tensor.grid is None or tensor.dtype in ("uint8", "int8")


def random_inputs(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {}
    for name in network.inputs:
        tensor = network.tensors[name]
        values = rng.standard_normal(tensor.shape) * 3
        if tensor.dtype != "float32":
            values = rng.integers(0, 100, tensor.shape)
        arrays[name] = np.asarray(values).astype(tensor.dtype)
    return arrays
