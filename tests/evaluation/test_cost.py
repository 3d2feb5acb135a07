from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekit.compiler.onnx_file import specialise
from edgekit.core.model import ModelHandle
from edgekit.evaluation.cost import count_macs, count_params, onnx_cost


def graph_of(
    nodes: list[onnx.NodeProto], shape: list[Any], result: list[Any], **weights: NDArray[Any]
) -> onnx.GraphProto:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    return specialise(helper.make_model(graph, opset_imports=opset, ir_version=10)).graph


def zeros(*shape: int) -> NDArray[Any]:
    return np.zeros(shape, np.float32)


def test_a_convolution_multiplies_every_output_by_its_kernel() -> None:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1])
    graph = graph_of([node], ["n", 3, 8, 8], ["n", 16, 8, 8], w=zeros(16, 3, 3, 3), b=zeros(16))
    assert count_macs(graph) == 16 * 8 * 8 * 3 * 3 * 3
    assert count_params(graph) == 16 * 27 + 16


def test_a_depthwise_convolution_sees_one_channel_each() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=8, strides=[2, 2])
    graph = graph_of([node], ["n", 8, 9, 9], ["n", 8, 4, 4], w=zeros(8, 1, 3, 3))
    assert count_macs(graph) == 8 * 4 * 4 * 9


def test_a_transposed_convolution_multiplies_every_input_by_its_kernel() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"])
    graph = graph_of([node], ["n", 4, 5, 5], ["n", 6, 6, 6], w=zeros(4, 6, 2, 2))
    assert count_macs(graph) == 4 * 5 * 5 * 6 * 2 * 2


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_multiplies_rows_by_columns(transposed: int) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=transposed)
    weight = zeros(5, 7) if transposed else zeros(7, 5)
    assert count_macs(graph_of([node], ["n", 7], ["n", 5], w=weight)) == 35


def test_a_matrix_product_counts_every_row() -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    assert count_macs(graph_of([node], ["n", 9, 7], ["n", 9, 5], w=zeros(7, 5))) == 9 * 7 * 5


def test_other_operators_multiply_nothing() -> None:
    graph = graph_of([helper.make_node("Relu", ["x"], ["y"])], ["n", 7], ["n", 7])
    assert (count_macs(graph), count_params(graph)) == (0, 0)


def test_scales_and_zero_points_are_no_parameters() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["real"]),
        helper.make_node("MatMul", ["x", "real"], ["y"]),
    ]
    scale, zero = np.float32(0.1), np.int8(0)
    weight = np.zeros((7, 5), np.int8)
    graph = graph_of(nodes, ["n", 7], ["n", 5], w=weight, s=np.array(scale), z=np.array(zero))
    assert count_params(graph) == 35
    assert count_macs(graph) == 35


def test_the_cost_of_a_file_is_three_metrics(onnx_model: Callable[..., ModelHandle]) -> None:
    model = onnx_model()
    found = {metric.name: metric.value for metric in onnx_cost(model)}
    size = (model.path / "model.onnx").stat().st_size
    assert found == {"params": 24 + 16, "macs": 24 + 16, "size_bytes": size}
