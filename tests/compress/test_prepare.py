from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.compress.quant.prepare import prepare
from edgekit.core.errors import InputError
from tests.compress.graphs import GraphBuilder, images, mixed_net, run


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def mean_over(axes: list[int], keepdims: int) -> onnx.ModelProto:
    b = GraphBuilder()
    b.op("ReduceMean", "mean", "image", b.constant("axes", np.array(axes)), keepdims=keepdims)
    shape = ["batch", 2, 1, 1] if keepdims else ["batch", 2]
    return b.model({"image": ["batch", 2, 8, 8]}, {"mean": shape})


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_a_spatial_mean_becomes_a_pool(tmp_path: Path, axes: list[int], keepdims: int) -> None:
    model = mean_over(axes, keepdims)
    prepared = prepare(saved(model, tmp_path), tmp_path)
    kinds = [node.op_type for node in prepared.graph.node]
    assert kinds == (["GlobalAveragePool"] if keepdims else ["GlobalAveragePool", "Flatten"])
    assert not prepared.graph.initializer
    x = images(3)
    np.testing.assert_allclose(
        run(prepared, {"image": x}), run(model, {"image": x}), rtol=1e-6, atol=1e-7
    )


def test_a_mean_over_channels_is_left_alone(tmp_path: Path) -> None:
    b = GraphBuilder()
    b.op("ReduceMean", "mean", "image", b.constant("axes", np.array([1])), keepdims=0)
    model = b.model({"image": ["batch", 2, 8, 8]}, {"mean": ["batch", 8, 8]})
    prepared = prepare(saved(model, tmp_path), tmp_path)
    assert [node.op_type for node in prepared.graph.node] == ["ReduceMean"]


def test_preparing_changes_no_result(tmp_path: Path) -> None:
    model, x = mixed_net(), images(4)
    prepared = prepare(saved(model, tmp_path), tmp_path)
    np.testing.assert_allclose(
        run(prepared, {"image": x}), run(model, {"image": x}), rtol=1e-5, atol=1e-5
    )


def test_batch_normalisation_is_folded(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.conv("conv", "image", 2, 4)
    names = [b.constant(f"norm{i}", np.linspace(0.5, 1.5, 4, dtype=np.float32)) for i in range(4)]
    b.op("BatchNormalization", "norm", x, *names)
    model = b.model({"image": ["batch", 2, 8, 8]}, {"norm": ["batch", 4, 8, 8]})
    prepared = prepare(saved(model, tmp_path), tmp_path)
    assert [node.op_type for node in prepared.graph.node] == ["Conv"]


def test_every_node_has_a_name_of_its_own_and_every_tensor_a_type(tmp_path: Path) -> None:
    model = mixed_net()
    for node in model.graph.node:
        node.name = "same"
    prepared = prepare(saved(model, tmp_path), tmp_path)
    names = [node.name for node in prepared.graph.node]
    assert len(set(names)) == len(names)
    known = {info.name for info in (*prepared.graph.value_info, *prepared.graph.output)}
    assert {name for node in prepared.graph.node for name in node.output} <= known


def test_a_quantized_model_is_refused(tmp_path: Path) -> None:
    b = GraphBuilder()
    scale = b.constant("scale", np.float32(0.1))
    zero = b.constant("zero", np.uint8(0))
    b.op("DequantizeLinear", "y", b.op("QuantizeLinear", "q", "x", scale, zero), scale, zero)
    model = b.model({"x": ["batch", 3]}, {"y": ["batch", 3]})
    with pytest.raises(
        InputError, match=r"a graph with DequantizeLinear, QuantizeLinear, expected a float32"
    ):
        prepare(saved(model, tmp_path), tmp_path)


def test_a_graph_that_onnxruntime_refuses_is_named(tmp_path: Path) -> None:
    model = mixed_net()
    model.graph.node[1].op_type = "Rleu"
    with pytest.raises(
        InputError, match=r"preparing model.onnx for quantization: found .*Rleu.*expected a float32"
    ):
        prepare(saved(model, tmp_path), tmp_path)
