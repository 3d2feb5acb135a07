from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compiler.locate import _spread, expose, first_divergence, intermediates
from edgekit.compiler.session import open_session, run_session
from tests.compiler import onnx_models


def image() -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((1, 1, 14, 14)).astype(np.float32)
    return {"image": x}


class BrokenFrom:
    """Run a model rightly up to one node, whose result is off; later ones inherit that."""

    def __init__(self, node: str, factor: float = 1.5) -> None:
        self.node = node
        self.factor = factor
        self.num_rounds = 0
        self.most_outputs = 0

    def __call__(
        self, model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        self.num_rounds += 1
        self.most_outputs = max(self.most_outputs, len(model.graph.output))
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        position = [node.name for node in changed.graph.node].index(self.node)
        node = changed.graph.node[position]
        result, node.output[0] = node.output[0], "before"
        constant = onnx.numpy_helper.from_array(np.float32(self.factor), "factor")
        changed.graph.initializer.append(constant)
        scale = onnx.helper.make_node("Mul", ["before", "factor"], [result])
        changed.graph.node.insert(position + 1, scale)
        return run_session(open_session(changed, optimization="off"), inputs)


@pytest.mark.parametrize("max_outputs", [2, 3, 16])
@pytest.mark.parametrize("position", [0, 4, 8, 12])
def test_first_wrong_node_is_found(position: int, max_outputs: int) -> None:
    model = onnx_models.residual_cnn()
    node = model.graph.node[position]
    broken = BrokenFrom(node.name)
    found = first_divergence(model, image(), broken, tolerance=1e-3, max_outputs=max_outputs)
    assert found is not None
    assert (found.node, found.operator, found.tensor) == (node.name, node.op_type, node.output[0])
    assert found.max_abs == pytest.approx(0.5 * found.range, rel=1e-3)
    # Half of the signal is wrong: 20 log10(2).
    assert found.snr_db == pytest.approx(6.02, abs=0.1)
    assert broken.most_outputs <= max_outputs + 1


def test_few_rounds_are_enough() -> None:
    model = onnx_models.residual_cnn()
    broken = BrokenFrom(model.graph.node[5].name)
    first_divergence(model, image(), broken, tolerance=1e-3, max_outputs=4)
    assert broken.num_rounds <= 3


def test_nothing_is_found_where_nothing_differs() -> None:
    model = onnx_models.residual_cnn()
    same = BrokenFrom(model.graph.node[3].name, factor=1.0)
    assert first_divergence(model, image(), same, tolerance=1e-5) is None


def test_not_a_number_counts_as_a_difference() -> None:
    model = onnx_models.residual_cnn()
    broken = BrokenFrom(model.graph.node[2].name, factor=float("nan"))
    found = first_divergence(model, image(), broken, tolerance=1e-3)
    assert found is not None
    assert found.node == model.graph.node[2].name


def test_intermediates_hold_every_tensor_in_order() -> None:
    model = onnx_models.residual_cnn()
    values = intermediates(model, image())
    assert list(values) == [name for node in model.graph.node for name in node.output]
    np.testing.assert_array_equal(values["relu_1"], np.maximum(values["conv_0"], 0))


def test_intermediates_keep_all_items() -> None:
    x = np.random.default_rng(0).standard_normal((5, 20)).astype(np.float32)
    values = intermediates(onnx_models.mlp(), {"x": x})
    assert all(len(array) == 5 for array in values.values())


def test_exposing_leaves_the_model_alone() -> None:
    model = onnx_models.mlp()
    before = model.SerializeToString()
    exposed = expose(model, ["relu_1", model.graph.output[0].name])
    assert model.SerializeToString() == before
    assert [item.name for item in exposed.graph.output] == [model.graph.output[0].name, "relu_1"]


@given(st.integers(0, 50), st.integers(1, 60), st.integers(2, 20))
def test_probes_are_distinct_inside_and_end_at_the_last(
    first: int, length: int, count: int
) -> None:
    probes = _spread(first, first + length, count)
    assert len(probes) == min(length, count) == len(set(probes))
    assert probes == sorted(probes)
    assert first <= probes[0]
    assert probes[-1] == first + length - 1
