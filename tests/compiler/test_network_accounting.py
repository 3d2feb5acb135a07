from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgekit.compiler.graph.accounting import count_network, region_operators
from edgekit.compiler.graph.frontend import read_network
from edgekit.compiler.graph.operators import Convolution, Lookup, Network, Region, ToLevels
from edgekit.compiler.graph.tensors import Grid, Tensor
from edgekit.compiler.onnx_file import specialise
from tests.compiler.onnx_models import GraphBuilder

GRID = Grid(0.1, 128)


def quantized_block() -> tuple[GraphBuilder, dict[str, tuple[str, ...]]]:
    """A convolution and a swish between quantized tensors; names of the nodes of both."""
    b = GraphBuilder()
    scale, zero = b.constant(np.float32(0.1)), b.constant(np.uint8(128))
    weights = b.op(
        "DequantizeLinear",
        b.constant(np.ones((2, 2, 1, 1), np.int8)),
        scale,
        b.constant(np.int8(0)),
    )

    def through(x: str) -> str:
        return b.op("DequantizeLinear", b.op("QuantizeLinear", x, scale, zero), scale, zero)

    y = through(b.op("Conv", through("x"), weights))
    z = through(b.op("Mul", y, b.op("Sigmoid", y)))
    names = {node.op_type: (node.name,) for node in b.nodes}
    b.model({"x": [1, 2, 4, 4]}, {z: [1, 2, 4, 4]})
    return b, {"conv": names["Conv"], "swish": names["Sigmoid"] + names["Mul"]}


def tensors(dtype: str) -> dict[str, Tensor]:
    grid = GRID if dtype == "uint8" else None
    return {name: Tensor(name, (1, 2, 4, 4), dtype, grid) for name in ("x", "y", "z")}


def convolution(nodes: tuple[str, ...], weights: np.ndarray) -> Convolution:
    result = ToLevels(multipliers=np.ones(1, np.float32), zero_point=128, low=0, high=255)
    is_integer = weights.dtype == np.int8
    return Convolution(
        name=nodes[0],
        nodes=nodes,
        reads=("x",),
        writes=("y",),
        weights=weights,
        bias=np.zeros(2, np.int32 if is_integer else np.float32),
        result=result if is_integer else None,
    )


def network(dtype: str, *operators: Convolution | Lookup | Region) -> Network:
    return Network(tensors=tensors(dtype), operators=operators, inputs=("x",), outputs=("z",))


@pytest.fixture(scope="module")
def block() -> tuple[GraphBuilder, dict[str, tuple[str, ...]]]:
    return quantized_block()


def test_a_table_counts_as_the_integer_form_of_its_nodes(
    block: tuple[GraphBuilder, dict[str, tuple[str, ...]]],
) -> None:
    b, nodes = block
    table = np.arange(256).astype(np.uint8)
    lookup = Lookup(name="s", nodes=nodes["swish"], reads=("y",), writes=("z",), table=table)
    weights = np.ones((2, 2, 1, 1), np.int8)
    model = b.model({"x": [1, 2, 4, 4]}, {b.nodes[-1].output[0]: [1, 2, 4, 4]})
    count = count_network(network("uint8", convolution(nodes["conv"], weights), lookup), model)
    assert (count.integer_ops, count.float_ops, count.float_as_quantized) == (2, 0, ())


def test_what_runs_on_floats_although_quantized_is_named(
    block: tuple[GraphBuilder, dict[str, tuple[str, ...]]],
) -> None:
    b, nodes = block
    model = b.model({"x": [1, 2, 4, 4]}, {b.nodes[-1].output[0]: [1, 2, 4, 4]})
    region = Region(
        name="r",
        nodes=nodes["swish"],
        reads=("y",),
        writes=("z",),
        model=b"",
        operators=("Sigmoid", "Mul"),
    )
    floats = convolution(nodes["conv"], np.ones((2, 2, 1, 1), np.float32))
    mixed = network("float32", floats, region)
    count = count_network(mixed, model)
    assert (count.integer_ops, count.float_ops) == (0, 2)
    # The product's operands are all dequantized; the swish's second factor is a float by itself.
    assert count.float_as_quantized == nodes["conv"]
    assert region_operators(mixed) == ("Mul", "Sigmoid")


def test_nodes_without_an_operator_are_no_work(
    block: tuple[GraphBuilder, dict[str, tuple[str, ...]]],
) -> None:
    b, _ = block
    model = b.model({"x": [1, 2, 4, 4]}, {b.nodes[-1].output[0]: [1, 2, 4, 4]})
    nothing = msgspec.structs.replace(network("float32"), outputs=("x",))
    assert count_network(nothing, model).disqualification() is None
    assert count_network(nothing, model).float_ops == 0


def test_nodes_without_a_name_are_counted_by_their_place() -> None:
    b = GraphBuilder()
    y = b.op("Gemm", b.op("Relu", "x"), b.weight(4, 4))
    for node in b.nodes:
        node.name = ""
    model = specialise(b.model({"x": [1, 4]}, {y: [1, 4]}))
    assert count_network(read_network(model), model).float_ops == 1
