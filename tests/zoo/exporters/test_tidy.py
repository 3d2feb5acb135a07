from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.core.model import TensorSpec
from edgekit.zoo.exporters.tidy import module_of, scope_of, tidy

INPUTS = (TensorSpec("x", "float32", (None, 4)),)
OUTPUTS = (TensorSpec("y", "float32", (None, 4)),)


def traced() -> onnx.ModelProto:
    """Write a graph as exporters leave it: numbered constants, notes with paths."""
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_7"], ["a"], name="node_1"),
        helper.make_node("Add", ["a", "fc.bias"], ["b"], name="node_2"),
        helper.make_node("MatMul", ["b", "head.weight"], ["c"], name="node_3"),
        helper.make_node("MatMul", ["c", "onnx::MatMul_7"], ["d"], name="node_4"),
        helper.make_node("Relu", ["d"], ["y"], name="node_5", doc_string="/home/me/net.py"),
    ]
    for node in nodes:
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File /home/me/net.py")
    weight, bias = np.eye(4, dtype=np.float32), np.zeros(4, np.float32)
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["s77", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["s77", 4])],
        [
            numpy_helper.from_array(weight, "onnx::MatMul_7"),
            numpy_helper.from_array(bias, "fc.bias"),
            numpy_helper.from_array(weight, "head.weight"),
        ],
        doc_string="/home/me",
        value_info=[
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["s77", 4]),
            helper.make_tensor_value_info("fc.bias", TensorProto.FLOAT, [4]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model.producer_name, model.producer_version = "pytorch", "2.13.0+cpu"
    model.metadata_props.add(key="made", value="/home/me")
    return model


SCOPES = {"node_1": "fc", "node_2": "fc", "node_3": "norm", "node_4": "fc", "node_5": ""}


def test_nothing_of_the_machine_stays() -> None:
    model = traced()
    tidy(model, INPUTS, OUTPUTS, SCOPES)
    content = model.SerializeToString()
    for word in (b"/home/me", b"2.13", b"pytorch", b"stack_trace", b"s77"):
        assert word not in content
    assert model.producer_name == "edgekit"


def test_layers_are_named_by_weight_then_by_module_and_never_twice() -> None:
    model = traced()
    tidy(model, INPUTS, OUTPUTS, SCOPES)
    assert [node.name for node in model.graph.node] == ["fc", "fc/Add", "head", "fc_2", "Relu"]


def test_numbered_constants_are_named_by_their_layer() -> None:
    model = traced()
    tidy(model, INPUTS, OUTPUTS, SCOPES)
    names = [tensor.name for tensor in model.graph.initializer]
    assert names == ["fc.weight", "fc.bias", "head.weight"]
    assert model.graph.node[3].input[1] == "fc.weight"
    onnx.checker.check_model(model, full_check=True)


def test_inner_shapes_stay_and_those_of_constants_go() -> None:
    model = traced()
    tidy(model, INPUTS, OUTPUTS, SCOPES)
    assert [info.name for info in model.graph.value_info] == ["a"]


def test_tidying_twice_changes_nothing() -> None:
    model = traced()
    tidy(model, INPUTS, OUTPUTS, SCOPES)
    again = onnx.ModelProto.FromString(model.SerializeToString())
    scopes = {"fc": "fc", "fc/Add": "fc", "head": "head", "fc_2": "fc_2", "Relu": ""}
    tidy(again, INPUTS, OUTPUTS, scopes)
    assert again == model


def test_the_module_of_a_node_is_read_from_its_name() -> None:
    model = traced()
    tidy(model, INPUTS, OUTPUTS, SCOPES)
    assert [module_of(node) for node in model.graph.node] == ["fc", "fc", "head", "fc_2", ""]


def test_the_scope_is_the_innermost_module() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    assert scope_of(node) == ""
    node.metadata_props.add(
        key="pkg.torch.onnx.name_scopes", value="['', 'net', 'net.act', 'relu']"
    )
    assert scope_of(node) == "net.act"
