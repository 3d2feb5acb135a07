from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.compiler.graph.frontend import read_network
from edgekit.compiler.graph.operators import Network, Region, Unary
from edgekit.compiler.graph.reference import run_network, trace_network
from edgekit.compiler.onnx_file import specialise
from edgekit.compiler.session import open_session
from tests.compiler.onnx_models import GraphBuilder

SHAPE = [1, 6, 7, 5]
# One rounding to float32 against some of onnxruntime's own.
TOLERANCE = 1e-6


def gelu(b: GraphBuilder) -> str:
    half = b.op("Mul", "x", b.constant(np.float32(0.5)))
    erf = b.op("Erf", b.op("Div", "x", b.constant(np.float32(2**0.5))))
    return b.op("Mul", half, b.op("Add", erf, b.constant(np.float32(1))))


def enlarged(b: GraphBuilder) -> str:
    scales = b.constant(np.array([1, 1, 2, 3], np.float32))
    return b.op(
        "Resize", "x", "", scales, mode="linear", coordinate_transformation_mode="half_pixel"
    )


SINGLES: dict[str, Callable[[GraphBuilder], str]] = {
    **{
        kind: lambda b, kind=kind: b.op(kind, "x")
        for kind in ("Relu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "LeakyRelu", "Elu")
    },
    **{kind: lambda b, kind=kind: b.op(kind, "x") for kind in ("Exp", "Abs", "Neg", "Erf")},
    "Sqrt": lambda b: b.op("Sqrt", b.op("Abs", "x")),
    "Reciprocal": lambda b: b.op("Reciprocal", "x"),
    "Gelu": gelu,
    "Resize": enlarged,
    "Softmax": lambda b: b.op("Softmax", "x", axis=-1),
    **{
        f"AveragePool ceil, padding {padding}": lambda b, padding=padding: b.op(
            "AveragePool",
            "x",
            kernel_shape=[3, 2],
            strides=[2, 2],
            ceil_mode=1,
            count_include_pad=padding,
        )
        for padding in (0, 1)
    },
    "MaxPool dilated": lambda b: b.op(
        "MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 0, 1, 0]
    ),
    **{kind: lambda b, kind=kind: b.op(kind, "x", b.op("Abs", "x")) for kind in ("Max", "Min")},
}


@pytest.mark.parametrize("name", SINGLES)
def test_an_operator_of_its_own_equals_onnxruntime(name: str) -> None:
    b = GraphBuilder()
    result = SINGLES[name](b)
    model = b.model({"x": SHAPE}, {result: ["A", "B", "C", "D"]})
    x = 2 * np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    (expected,) = open_session(model, optimization="off").run([result], {"x": x})
    declared = model.graph.output[0].type.tensor_type.shape.dim
    for size, dim in zip(expected.shape, declared, strict=True):
        dim.dim_value = size
    network = read_network(specialise(model))
    assert not any(isinstance(item, Region) for item in network.operators)
    found = run_network(network, {"x": x})[result]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=TOLERANCE)


def test_a_region_runs_as_onnx_says() -> None:
    b = GraphBuilder()
    result = b.op("CumSum", "x", b.constant(np.array(1)))
    network = read_network(specialise(b.model({"x": [2, 3]}, {result: [2, 3]})))
    assert [type(item) for item in network.operators] == [Region]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(run_network(network, {"x": x})[result], x.cumsum(axis=1))


def one_relu() -> Network:
    b = GraphBuilder()
    return read_network(specialise(b.model({"x": [1, 4]}, {b.op("Relu", "x"): [1, 4]})))


def test_every_tensor_is_traced_in_the_order_it_is_made() -> None:
    network = one_relu()
    assert [type(item) for item in network.operators] == [Unary]
    traced = trace_network(network, {"x": np.zeros((1, 4), np.float32)})
    assert list(traced) == ["x", "relu_0"]


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ({}, "input 'x' is missing"),
        ({"x": np.zeros((1, 5), np.float32)}, r"'x' is float32 \(1, 5\), declared as .*\(1, 4\)"),
        ({"x": np.zeros((1, 4))}, r"'x' is float64"),
    ],
)
def test_inputs_must_be_as_declared(inputs: dict[str, np.ndarray], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        run_network(one_relu(), inputs)
