"""Write a QDQ graph: float operators between DequantizeLinear and QuantizeLinear, int8 constants.

onnxruntime's quantizer does the rewriting; ranges, the choice of operators and the check of what
came out (`audit.py`) are ours.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from edgekit.compress.quant.graph import consumers, element_types, initializers, producers
from edgekit.compress.quant.observer import Range
from edgekit.zoo.quiet import quiet

if TYPE_CHECKING:
    import onnx

Operators = Literal["all", "weighted"]

WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators that multiply by constants and make up nearly all of a model's work."""
ARITHMETIC = WEIGHTED | {
    "Add",
    "AveragePool",
    "Concat",
    "GlobalAveragePool",
    "LeakyRelu",
    "Mul",
    "ReduceMean",
}
"""Operators that compute in integers; softmax, normalisation and the like stay float."""
MOVES = frozenset(
    {
        "Clip",
        "Flatten",
        "MaxPool",
        "Pad",
        "Relu",
        "Reshape",
        "Resize",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that pass levels on: they give some of the levels they take."""

# An activation as large as this has no useful 8-bit grid: attention masks add numbers like -3e38
# to scores of a few units.
_LARGEST_RANGE = 1e6


def chosen_nodes(
    model: onnx.ModelProto, operators: Operators, ignored: Sequence[str] = ()
) -> list[str]:
    """Return the names of the nodes that become integer, in the order of the graph.

    Args:
        model: Prepared float graph.
        operators: `all` that have an integer form, or only products with constant `weighted`.
        ignored: Names of nodes that stay float.
    """
    import onnx

    types, constants = element_types(model), initializers(model)
    return [
        node.name
        for node in model.graph.node
        if node.name not in ignored
        and types.get(node.output[0]) == onnx.TensorProto.FLOAT
        and _is_wanted(node, operators, constants)
    ]


def activations(model: onnx.ModelProto, nodes: Collection[str]) -> list[str]:
    """Return the float activations around some nodes that need a range, in the graph's order.

    What `absorbed` names needs none.
    """
    import onnx

    types, constants = element_types(model), initializers(model)
    inner = absorbed(model, nodes)
    found: dict[str, None] = {}
    for node in model.graph.node:
        if node.name in nodes:
            for name in (*node.input, *node.output):
                is_activation = name not in constants and name not in inner
                if is_activation and types.get(name) == onnx.TensorProto.FLOAT:
                    found[name] = None
    return list(found)


def absorbed(model: onnx.ModelProto, nodes: Collection[str]) -> dict[str, str]:
    """Return the tensors between an operator and its ReLU or clip, with the activation's output.

    Both become one: saturation at the ends of the output's range does what the activation did.
    """
    makers, readers = producers(model), consumers(model)
    outputs = {info.name for info in model.graph.output}
    return {
        node.input[0]: node.output[0]
        for node in model.graph.node
        if node.op_type in {"Relu", "Clip"}
        and node.name in nodes
        and node.input[0] not in outputs
        and len(readers[node.input[0]]) == 1
        and node.input[0] in makers
        and makers[node.input[0]].name in nodes
    }


def out_of_range(
    model: onnx.ModelProto, ranges: Mapping[str, Range], nodes: Collection[str]
) -> tuple[str, ...]:
    """Return those of the nodes that touch a value for which no 8-bit grid is of use."""
    wide = {name for name, (low, high) in ranges.items() if not max(-low, high) <= _LARGEST_RANGE}
    wide |= {name for name, tensor in initializers(model).items() if _is_wide(tensor)}
    return tuple(
        node.name
        for node in model.graph.node
        if node.name in nodes and wide & {*node.input, *node.output}
    )


def write_qdq(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    nodes: Collection[str],
    *,
    per_channel: bool,
) -> onnx.ModelProto:
    """Return the quantized graph: activations uint8, weights int8 within +-127, biases int32.

    Args:
        model: Prepared float graph; left as it is.
        ranges: Range of every tensor named by `activations`.
        nodes: Names of the nodes that become integer, at least one.
        per_channel: One scale per output channel of a weight, or one per tensor.
    """
    import numpy as np
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    inner = absorbed(model, nodes)
    covered = {**ranges, **{name: ranges[outer] for name, outer in inner.items()}}
    table = TensorsData(
        CalibrationMethod.MinMax,
        {name: (np.float32(low), np.float32(high)) for name, (low, high) in covered.items()},
    )
    options = {
        "ActivationSymmetric": False,
        "WeightSymmetric": True,
        # Otherwise an operator that only moves values keeps the input of the graph in float.
        "ForceQuantizeNoInputCheck": True,
    }
    with quiet():
        quantizer = QDQQuantizer(
            copied,
            per_channel,
            False,  # reduce_range: 7-bit weights are for processors that are no target here
            QuantType.QInt8,
            QuantType.QUInt8,
            table,
            list(nodes),
            [],
            sorted(ARITHMETIC | MOVES),
            options,
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()  # new nodes were put at the end
    written: onnx.ModelProto = quantizer.model.model
    written.producer_name, written.producer_version = "edgekit", ""
    del written.metadata_props[:]
    del written.graph.value_info[:]  # types are found again by whoever needs them
    onnx.checker.check_model(written)
    return written


def _is_wanted(
    node: onnx.NodeProto, operators: Operators, constants: Mapping[str, onnx.TensorProto]
) -> bool:
    if operators == "weighted":
        return node.op_type in WEIGHTED and node.input[1] in constants
    if node.op_type == "Clip":
        return _clips_around_zero(node, constants)
    return node.op_type in ARITHMETIC | MOVES


def _clips_around_zero(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Tell whether saturation can take the place of a clip: every grid has 0 among its levels."""
    from onnx import numpy_helper

    bounds = [name for name in node.input[1:] if name]
    if not all(name in constants for name in bounds):
        return False
    low, high = (
        float(numpy_helper.to_array(constants[node.input[place]]))
        if place < len(node.input) and node.input[place]
        else default
        for place, default in ((1, -math.inf), (2, math.inf))
    )
    return low <= 0.0 <= high


def _is_wide(tensor: onnx.TensorProto) -> bool:
    import numpy as np
    import onnx

    if tensor.data_type != onnx.TensorProto.FLOAT:
        return False
    values = onnx.numpy_helper.to_array(tensor)
    return bool(values.size) and not float(np.abs(values).max()) <= _LARGEST_RANGE
