"""What an ONNX model costs: parameters, multiply-accumulates of one sample, bytes on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgekit.core.metric import Metric
from edgekit.core.model import ModelHandle
from edgekit.evaluation.predict import ONNX_FILE

if TYPE_CHECKING:
    import onnx

_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})


def onnx_cost(model: ModelHandle) -> tuple[Metric, ...]:
    """Return the metrics `params`, `macs` and `size_bytes` of an ONNX model.

    Raises:
        InputError: The file is no sound ONNX model, or a size besides the batch is open.
    """
    from edgekit.compiler.onnx_file import load_onnx, specialise

    path = model.path / ONNX_FILE
    graph = specialise(load_onnx(path)).graph
    return (
        Metric("params", count_params(graph), better="lower"),
        Metric("macs", count_macs(graph), better="lower"),
        Metric("size_bytes", path.stat().st_size, "B", better="lower"),
    )


def count_params(graph: onnx.GraphProto) -> int:
    """Return the number of stored values that layers compute with; scales do not count."""
    operands = {
        name
        for node in graph.node
        for position, name in enumerate(node.input)
        if not (node.op_type in _QUANTIZERS and position > 0)
    }
    from onnx import TensorProto

    kinds = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8}
    quantized = {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return sum(
        math.prod(tensor.dims)
        for tensor in graph.initializer
        if tensor.name in operands and (tensor.data_type in kinds or tensor.name in quantized)
    )


def count_macs(graph: onnx.GraphProto) -> int:
    """Return the multiply-accumulates of convolutions and matrix products.

    Args:
        graph: A graph whose shapes are fixed and inferred, as `specialise` gives it.
    """
    shapes = _shapes(graph)
    return sum(_node_macs(node, shapes) for node in graph.node)


def _node_macs(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    given, weight = shapes.get(node.input[0]), shapes.get(node.input[1])
    result = shapes.get(node.output[0])
    if given is None or weight is None or result is None:
        return 0
    match node.op_type:
        case "Conv":  # weight [out, in / groups, kernel]
            return math.prod(result) * math.prod(weight[1:])
        case "ConvTranspose":  # weight [in, out / groups, kernel]
            return math.prod(given) * math.prod(weight[1:])
        case "Gemm":
            is_transposed = any(entry.name == "transA" and entry.i for entry in node.attribute)
            return math.prod(result) * given[0 if is_transposed else 1]
        case _:
            return math.prod(result) * given[-1]


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for info in (*graph.input, *graph.output, *graph.value_info):
        dims = info.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[info.name] = tuple(dim.dim_value for dim in dims)
    return shapes
