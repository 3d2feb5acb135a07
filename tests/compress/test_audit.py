from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.compress.quant.audit import audit
from edgekit.compress.quant.qdq import activations, chosen_nodes, write_qdq
from tests.compress.graphs import GraphBuilder, constants_of


@pytest.fixture
def graph() -> onnx.ModelProto:
    """A linear layer in int8, without a violation."""
    b = GraphBuilder()
    b.linear("scores", "x", 6, 4)
    model = onnx.shape_inference.infer_shapes(
        b.model({"x": ["batch", 6]}, {"scores": ["batch", 4]})
    )
    nodes = chosen_nodes(model, "all")
    ranges = dict.fromkeys(activations(model, nodes), (-2.0, 2.0))
    found = write_qdq(model, ranges, nodes, per_channel=True)
    assert audit(found).violations == ()
    assert audit(found).num_integer == 1
    return found


def replace(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    tensor = next(found for found in model.graph.initializer if found.name == name)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def set_level(model: onnx.ModelProto) -> None:
    values = constants_of(model)["scores.weight_quantized"].copy()
    values[0, 0] = -128
    replace(model, "scores.weight_quantized", values)


def set_zero_point(model: onnx.ModelProto) -> None:
    values = constants_of(model)["scores.weight_zero_point"].copy()
    values[1] = 3
    replace(model, "scores.weight_zero_point", values)


def set_scale(model: onnx.ModelProto) -> None:
    replace(model, "x_scale", np.float32(0.0))


def set_type(model: onnx.ModelProto) -> None:
    replace(model, "x_zero_point", np.int8(0))


def quantize_at_run_time(model: onnx.ModelProto) -> None:
    values = np.ones((4, 6), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(values, "float_weight"))
    for node in model.graph.node:
        if "scores.weight_quantized" in node.input:
            names = ["float_weight", node.input[1], node.input[2]]
            node.input[0] = "levels"
            break
    model.graph.node.insert(
        0, helper.make_node("QuantizeLinear", names, ["levels"], name="late", axis=0)
    )


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (set_level, "'scores.weight_quantized' holds levels beyond"),
        (set_zero_point, "'scores.weight_quantized' has a zero point other than 0"),
        (set_scale, "'x' has a scale that is not positive"),
        (set_type, "activation 'x' is not uint8"),
        (quantize_at_run_time, "constant 'float_weight' is stored as float"),
        (quantize_at_run_time, "'levels' is quantized at run time instead of being stored"),
    ],
)
def test_a_damaged_graph_is_seen_through(
    graph: onnx.ModelProto, damage: Callable[[onnx.ModelProto], None], sentence: str
) -> None:
    damage(graph)
    assert any(sentence in violation for violation in audit(graph).violations)


def test_an_operator_whose_result_is_read_as_float_counts_as_float(graph: onnx.ModelProto) -> None:
    graph.graph.output.append(
        helper.make_tensor_value_info("scores_QuantizeLinear_Input", onnx.TensorProto.FLOAT, None)
    )
    found = audit(graph)
    assert found.float_ops == {"scores": "Gemm"}
    assert found.num_integer == 0


def test_what_has_no_integer_form_counts_as_float_between_quantizers_too() -> None:
    b = GraphBuilder()
    scale, zero = b.constant("scale", np.float32(0.1)), b.constant("zero", np.uint8(0))

    def pair(name: str, x: str) -> str:
        return b.op(
            "DequantizeLinear",
            f"{name}_dq",
            b.op("QuantizeLinear", name, x, scale, zero),
            scale,
            zero,
        )

    last = pair("after", b.op("Softmax", "softmax", pair("before", "x")))
    found = audit(b.model({"x": ["batch", 3]}, {last: ["batch", 3]}))
    assert found.float_ops == {"softmax": "Softmax"}


def test_a_float_graph_has_no_integer_operator() -> None:
    b = GraphBuilder()
    b.linear("scores", "x", 6, 4)
    found = audit(b.model({"x": ["batch", 6]}, {"scores": ["batch", 4]}))
    assert (found.num_integer, found.float_ops) == (0, {"scores": "Gemm"})


def test_what_only_handles_shapes_is_no_computation() -> None:
    b = GraphBuilder()
    b.op("Reshape", "y", "x", b.op("Shape", "shape", "x"))
    found = audit(b.model({"x": ["batch", 6]}, {"y": ["batch", 6]}))
    assert (found.num_integer, found.num_float) == (0, 0)
