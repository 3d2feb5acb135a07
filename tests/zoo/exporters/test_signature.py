from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.compiler.session import open_session
from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec
from edgekit.zoo.exporters.signature import drop_constant_inputs, rename_inputs, set_shapes


def info(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def branching() -> onnx.ModelProto:
    """Write `y = x if flag else 2 x`, so that both bodies read the graph's input."""
    then = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"])], "then", [], [info("same", "n", 2)]
    )
    otherwise = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["double"])], "else", [], [info("double", "n", 2)]
    )
    node = helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=otherwise)
    flag = numpy_helper.from_array(np.array(False), "flag")
    graph = helper.make_graph([node], "model", [info("x", "n", 2)], [info("y", "n", 2)], [flag])
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def test_a_renamed_input_is_renamed_in_the_bodies_of_branches_too() -> None:
    model = branching()
    rename_inputs(model.graph, {"x": "image"})
    onnx.checker.check_model(model)
    found = open_session(model).run(None, {"image": np.ones((1, 2), np.float32)})[0]
    np.testing.assert_array_equal(found, [[2, 2]])


def test_equal_names_change_nothing() -> None:
    model = branching()
    rename_inputs(model.graph, {"x": "x"})
    assert model == branching()


def test_a_name_in_use_is_refused() -> None:
    with pytest.raises(InputError, match="found 'double' in use inside the model"):
        rename_inputs(branching().graph, {"x": "double"})


def test_inputs_that_are_constants_are_dropped() -> None:
    model = branching()
    model.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    drop_constant_inputs(model.graph)
    assert [one.name for one in model.graph.input] == ["x"]


def test_the_shapes_of_a_signature_are_declared() -> None:
    model = branching()
    set_shapes(model.graph.input, (TensorSpec("x", "float32", (None, 5)),))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 5]
