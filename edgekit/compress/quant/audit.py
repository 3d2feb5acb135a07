"""Check that an int8 graph is one: constants really stored as integers, operators really fed them.

A QDQ graph says in float what an engine may compute in integers. It may do so only where every
float tensor of an operator comes from DequantizeLinear and goes to QuantizeLinear; a graph can look
quantized and miss that (weights quantized at run time, a sum left in float).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.compress.quant.graph import (
    DEQUANTIZE,
    QUANTIZE,
    consumers,
    element_types,
    initializers,
    producers,
)
from edgekit.compress.quant.qdq import ARITHMETIC, MOVES, WEIGHTED

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Say what an int8 graph consists of.

    Attributes:
        integer_ops: Computing operators that can run on integers, counted by type.
        float_ops: Names of computing operators that can't, with their type.
        violations: What breaks the rules for int8 graphs, one sentence each.
    """

    integer_ops: dict[str, int]
    float_ops: dict[str, str]
    violations: tuple[str, ...]

    @property
    def num_integer(self) -> int:
        """How many computing operators can run on integers."""
        return sum(self.integer_ops.values())

    @property
    def num_float(self) -> int:
        """How many computing operators can't."""
        return len(self.float_ops)


def audit(model: onnx.ModelProto) -> Audit:
    """Inspect a QDQ graph.

    Operators that only move values (reshape, max-pooling) are not counted; one that stays float
    between two integer ones shows in its neighbours.

    Args:
        model: QDQ graph.
    """
    import onnx

    view = _View(onnx.shape_inference.infer_shapes(model))
    integer: Counter[str] = Counter()
    floating: dict[str, str] = {}
    violations: list[str] = []
    for node in view.model.graph.node:
        if node.op_type == QUANTIZE:
            violations += _check_quantizer(node, view)
        elif node.op_type != DEQUANTIZE and view.is_float(node) and node.op_type not in MOVES:
            # Between quantizers or not: softmax and the like have no integer form.
            if node.op_type in ARITHMETIC and view.is_integer(node):
                integer[node.op_type] += 1
                violations += _check_weight(node, view)
            else:
                floating[node.name or node.output[0]] = node.op_type
    return Audit(
        integer_ops=dict(sorted(integer.items())),
        float_ops=floating,
        violations=tuple(violations),
    )


class _View:
    """Answer questions about the neighbours of a node."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.constants = initializers(model)
        self.producers = producers(model)
        self.consumers = consumers(model)
        self.types = element_types(model)
        self.outputs = {info.name for info in model.graph.output}

    def array(self, name: str) -> NDArray[Any]:
        """Return the value of a constant."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self.constants[name])

    def is_float(self, node: onnx.NodeProto) -> bool:
        """Tell whether a node computes with float values that are not known beforehand."""
        import onnx

        outputs = [self.types.get(name) for name in node.output if name]
        inputs = [name for name in node.input if name and name not in self.constants]
        return onnx.TensorProto.FLOAT in outputs and bool(inputs)

    def is_integer(self, node: onnx.NodeProto) -> bool:
        """Tell whether all float tensors of a node are surrounded by quantizers."""
        import onnx

        values = [name for name in node.input if self.types.get(name) == onnx.TensorProto.FLOAT]
        return all(self._comes_as_levels(name) for name in values) and all(
            self._goes_as_levels(name) for name in node.output if name
        )

    def _comes_as_levels(self, name: str) -> bool:
        return name in self.producers and self.producers[name].op_type == DEQUANTIZE

    def _goes_as_levels(self, name: str) -> bool:
        readers = self.consumers.get(name, [])
        # An activation behind the operator is part of it: the quantizer's bounds do its clipping.
        return name not in self.outputs and all(
            reader.op_type == QUANTIZE
            or (reader.op_type in {"Relu", "Clip"} and self._goes_as_levels(reader.output[0]))
            for reader in readers
        )


def _check_quantizer(node: onnx.NodeProto, view: _View) -> list[str]:
    """Check scale and zero point, and that no constant is quantized at run time."""
    found = []
    if node.input[0] in view.constants:
        found.append(f"constant '{node.input[0]}' is stored as float and quantized at run time")
    if node.input[1] not in view.constants or (
        len(node.input) > 2 and node.input[2] not in view.constants
    ):
        return [*found, f"the scale or zero point of '{node.input[0]}' is not a constant"]
    found += _check_scale(view.array(node.input[1]), node.input[0])
    if len(node.input) < 3 or view.array(node.input[2]).dtype != "uint8":
        found.append(f"activation '{node.input[0]}' is not uint8")
    elif view.array(node.input[2]).size != 1:
        found.append(f"activation '{node.input[0]}' has more than one zero point")
    return found


def _check_weight(node: onnx.NodeProto, view: _View) -> list[str]:
    """Check that weight and bias of an integer operator are stored as int8 and int32."""
    if node.op_type not in WEIGHTED:
        return []
    found = []
    source = view.producers[node.input[1]]
    is_constant = source.input[0] in view.constants
    if node.op_type != "MatMul" or is_constant:
        found += _check_constant(source, view, dtype="int8", reach=127)
    if len(node.input) > 2 and node.input[2]:
        found += _check_constant(view.producers[node.input[2]], view, dtype="int32", reach=None)
    return found


def _check_constant(
    source: onnx.NodeProto, view: _View, *, dtype: str, reach: int | None
) -> list[str]:
    import numpy as np

    name = source.input[0]
    if name not in view.constants:
        return [f"'{name}' is quantized at run time instead of being stored as {dtype}"]
    values = view.array(name)
    if values.dtype != dtype:
        return [f"'{name}' is stored as {values.dtype} instead of {dtype}"]
    found = []
    if reach is not None and values.size and int(np.abs(values.astype(np.int32)).max()) > reach:
        found.append(f"'{name}' holds levels beyond +-{reach}")
    if len(source.input) > 2 and np.any(view.array(source.input[2])):
        found.append(f"'{name}' has a zero point other than 0")
    return found + _check_scale(view.array(source.input[1]), name)


def _check_scale(scale: NDArray[np.float32], name: str) -> list[str]:
    import numpy as np

    good = np.isfinite(scale) & (scale > 0)
    return [] if bool(np.all(good)) else [f"'{name}' has a scale that is not positive"]
