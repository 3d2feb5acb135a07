"""Write a QDQ graph: float operators between DequantizeLinear and QuantizeLinear, int8 constants.

onnxruntime's quantizer does the rewriting; ranges, the choice of operators and the check of what
came out (`audit.py`) are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgekit.compress.quant.graph import element_types, initializers
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


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Say what becomes integer and how.

    Attributes:
        operators: `all` that have an integer form, or only those with `weighted` products.
        per_channel: One scale per output channel of a weight, or one per tensor.
    """

    operators: Operators = "all"
    per_channel: bool = True

    def op_types(self) -> frozenset[str]:
        """Return the operator types that become integer."""
        return WEIGHTED if self.operators == "weighted" else ARITHMETIC | MOVES


def activations(model: onnx.ModelProto, scheme: Scheme, ignored: Sequence[str]) -> list[str]:
    """Return the float activations that need a range, in the order of the graph.

    Args:
        model: Prepared float graph.
        scheme: What becomes integer.
        ignored: Names of nodes that stay float.
    """
    import onnx

    types, constants = element_types(model), initializers(model)
    found: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type in scheme.op_types() and node.name not in ignored:
            for name in (*node.input, *node.output):
                if name not in constants and types.get(name) == onnx.TensorProto.FLOAT:
                    found[name] = None
    return list(found)


def out_of_range(
    model: onnx.ModelProto, ranges: Mapping[str, Range], scheme: Scheme
) -> tuple[str, ...]:
    """Return the nodes that must stay float because a value has no useful 8-bit grid."""
    wide = {
        name
        for name, (low, high) in ranges.items()
        if not max(-low, high) <= _LARGEST_RANGE or math.isinf(high - low)
    }
    wide |= {name for name, tensor in initializers(model).items() if _is_wide(tensor)}
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type in scheme.op_types() and wide & {*node.input, *node.output}
    )


def write_qdq(
    model: onnx.ModelProto, ranges: Mapping[str, Range], scheme: Scheme, ignored: Sequence[str]
) -> onnx.ModelProto:
    """Return the quantized graph: activations uint8, weights int8 within +-127, biases int32.

    Args:
        model: Prepared float graph; left as it is.
        ranges: Range of every tensor named by `activations`.
        scheme: What becomes integer.
        ignored: Names of nodes that stay float.
    """
    import numpy as np
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    table = TensorsData(
        CalibrationMethod.MinMax,
        {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()},
    )
    options = {
        "ActivationSymmetric": False,
        "WeightSymmetric": True,
        # Otherwise an operator that only moves values keeps the input of the graph in float.
        "ForceQuantizeNoInputCheck": scheme.operators == "all",
        "MatMulConstBOnly": scheme.operators == "weighted",
    }
    with quiet():
        quantizer = QDQQuantizer(
            copied,
            scheme.per_channel,
            False,  # reduce_range: 7-bit weights are for processors we don't target
            QuantType.QInt8,
            QuantType.QUInt8,
            table,
            [],
            list(ignored),
            sorted(scheme.op_types()),
            options,
        )
        quantizer.quantize_model()
    written: onnx.ModelProto = quantizer.model.model
    written.producer_name, written.producer_version = "edgekit", ""
    onnx.checker.check_model(written)
    return written


def _is_wide(tensor: onnx.TensorProto) -> bool:
    import numpy as np
    import onnx

    if tensor.data_type != onnx.TensorProto.FLOAT:
        return False
    values = onnx.numpy_helper.to_array(tensor)
    return bool(values.size) and not float(np.abs(values).max()) <= _LARGEST_RANGE
