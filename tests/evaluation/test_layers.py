from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.evaluation.layers import first_divergence, graph_values

MakeGraph = Callable[..., onnx.ModelProto]
WEIGHT = np.random.default_rng(0).standard_normal((6, 4))
INPUTS = {"x": np.random.default_rng(1).standard_normal((3, 6)).astype(np.float32)}


def test_every_inner_value_is_returned(linear_graph: MakeGraph) -> None:
    values = graph_values(linear_graph(WEIGHT), INPUTS)
    assert set(values) == {"inner", "positive", "scores"}
    np.testing.assert_array_equal(values["positive"], np.maximum(values["inner"], 0))


@pytest.mark.parametrize("optimize", [True, False])
def test_a_right_graph_has_no_diverging_layer(linear_graph: MakeGraph, optimize: bool) -> None:
    graph = linear_graph(WEIGHT)
    reference = graph_values(graph, INPUTS)
    assert (
        first_divergence(graph, reference, graph_values(graph, INPUTS, optimize=optimize)) is None
    )


@pytest.mark.parametrize(("weight", "layer"), [("w", "first"), ("eye", "second")])
def test_the_layer_whose_weight_changed_is_named(
    linear_graph: MakeGraph, weight: str, layer: str
) -> None:
    right, wrong = linear_graph(WEIGHT), linear_graph(WEIGHT)
    for tensor in wrong.graph.initializer:
        if tensor.name == weight:
            values = numpy_helper.to_array(tensor).copy()
            values[1, 1] += 0.5
            tensor.CopyFrom(numpy_helper.from_array(values, weight))
    found = first_divergence(wrong, graph_values(right, INPUTS), graph_values(wrong, INPUTS))
    assert found is not None
    assert (found.layer, found.op) == (layer, "MatMul")
    assert found.snr_db is not None
    assert found.snr_db < 40


def test_a_value_that_overflows_is_a_divergence_without_a_ratio(linear_graph: MakeGraph) -> None:
    right, wrong = linear_graph(WEIGHT), linear_graph(WEIGHT)
    wrong.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(np.full((4, 4), np.inf, np.float32), "eye")
    )
    found = first_divergence(wrong, graph_values(right, INPUTS), graph_values(wrong, INPUTS))
    assert found is not None
    assert (found.layer, found.snr_db) == ("second", None)


def test_infinities_on_both_sides_are_no_divergence() -> None:
    nodes = [helper.make_node("Mul", ["x", "mask"], ["y"], name="masked")]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 6]) for name in "xy"]
    mask = numpy_helper.from_array(np.full((6,), -np.inf, np.float32), "mask")
    graph = helper.make_model(
        helper.make_graph(nodes, "model", infos[:1], infos[1:], [mask]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    values = graph_values(graph, INPUTS)
    assert not np.isfinite(values["y"]).any()
    assert first_divergence(graph, values, values) is None


def test_values_without_a_counterpart_are_not_judged(linear_graph: MakeGraph) -> None:
    graph = linear_graph(WEIGHT)
    values = graph_values(graph, INPUTS)
    assert first_divergence(graph, {"other": values["inner"]}, values) is None
    assert first_divergence(graph, {"inner": values["inner"][:, :1]}, values) is None
