from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit.compiler.session import open_session
from edgekit.zoo.exporters.shapes import settle_reshapes

Node = onnx.NodeProto


def graph_of(
    nodes: list[Node], shape: list[int | str], rank: int, **constants: int | list[int]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(np.array(v, np.int64), name) for name, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def look_up(source: str, axis: str, result: str) -> list[Node]:
    """Write the operators by which exporters read one size of a value."""
    return [
        helper.make_node("Shape", [source], [f"{result}_shape"]),
        helper.make_node("Gather", [f"{result}_shape", axis], [f"{result}_scalar"]),
        helper.make_node("Unsqueeze", [f"{result}_scalar", "zero"], [result]),
    ]


def reshape(source: str, parts: list[str], result: str) -> list[Node]:
    return [
        helper.make_node("Concat", parts, [f"{result}_target"], axis=0),
        helper.make_node("Reshape", [source, f"{result}_target"], [result]),
    ]


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return np.asarray(open_session(model, optimization="off").run(None, {"x": x})[0])


def require_same(before: onnx.ModelProto, after: onnx.ModelProto, *shape: int) -> None:
    for batch in (1, 3):
        x = np.random.default_rng(batch).standard_normal((batch, *shape)).astype(np.float32)
        np.testing.assert_array_equal(run(after, x), run(before, x))


def settled(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    settle_reshapes(copy)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(
    ("parts", "target"),
    [
        (["batch", "four", "two", "three"], [-1, 4, 2, 3]),
        (["batch", "minus", "two", "three"], [-1, 4, 2, 3]),
        (["two", "batch", "minus"], [2, -1, 12]),
    ],
)
def test_a_target_that_only_the_batch_decides_becomes_a_constant(
    parts: list[str], target: list[int]
) -> None:
    nodes = [*look_up("x", "zero", "batch"), *reshape("x", parts, "y")]
    sizes = {"zero": [0], "minus": [-1], "two": [2], "three": [3], "four": [4]}
    nodes[1].input[1] = "axis"
    before = graph_of(nodes, ["batch", 4, 6], len(parts), axis=0, **sizes)
    after = settled(before)
    assert operators(after) == ["Reshape"]
    (constant,) = after.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(constant), target)
    require_same(before, after, 4, 6)


@given(st.permutations([2, 3, 5]), st.integers(0, 2))
def test_any_place_of_the_batch_and_of_the_rest_is_settled(sizes: list[int], place: int) -> None:
    parts = [f"size{size}" for size in sizes]
    parts[place] = "minus"
    parts.insert(place, "batch")
    constants = {f"size{size}": [size] for size in sizes}
    nodes = [*look_up("x", "axis", "batch"), *reshape("x", parts, "y")]
    before = graph_of(nodes, ["n", 5, 6], 4, axis=0, zero=[0], minus=[-1], **constants)
    after = settled(before)
    assert operators(after) == ["Reshape"]
    require_same(before, after, 5, 6)


def test_one_settled_reshape_lets_the_next_be_settled() -> None:
    nodes = [
        *look_up("x", "axis", "batch"),
        *reshape("x", ["batch", "minus", "three"], "inner"),
        *look_up("inner", "axis", "again"),
        *look_up("inner", "one", "middle"),
        *reshape("inner", ["again", "middle", "three", "unit"], "y"),
    ]
    sizes = {"zero": [0], "minus": [-1], "three": [3], "unit": [1]}
    before = graph_of(nodes, ["n", 4, 6], 4, axis=0, one=1, **sizes)
    after = settled(before)
    assert operators(after) == ["Reshape", "Reshape"]
    require_same(before, after, 4, 6)


def test_two_open_sizes_stay_as_they_are() -> None:
    nodes = [
        *look_up("x", "axis", "batch"),
        *look_up("x", "one", "length"),
        *reshape("x", ["batch", "length", "two", "three"], "y"),
    ]
    sizes = {"zero": [0], "two": [2], "three": [3]}
    before = graph_of(nodes, ["n", "length", 6], 4, axis=0, one=1, **sizes)
    assert operators(settled(before)) == operators(before)


def test_a_target_computed_otherwise_stays_as_it_is() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Mul", ["shape", "ones"], ["target"]),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    before = graph_of(nodes, ["n", 4], 2, ones=[1, 1])
    assert operators(settled(before)) == ["Shape", "Mul", "Reshape"]


def test_what_other_operators_use_is_kept() -> None:
    nodes = [*look_up("x", "axis", "batch"), *reshape("x", ["batch", "minus"], "flat")]
    nodes += [
        helper.make_node("Cast", ["batch"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["flat", "real"], ["y"]),
    ]
    before = graph_of(nodes, ["n", 2, 2], 2, axis=0, zero=[0], minus=[-1])
    after = settled(before)
    assert operators(after) == ["Shape", "Gather", "Unsqueeze", "Reshape", "Cast", "Div"]
    require_same(before, after, 2, 2)
