"""Small questions about an ONNX graph that several steps of quantization ask."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError, near

if TYPE_CHECKING:
    import onnx

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def initializers(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return the constants of a graph by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Return the node that computes each tensor, by the tensor's name."""
    return {name: node for node in model.graph.node for name in node.output if name}


def consumers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read each tensor, by the tensor's name."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the ONNX element type of every tensor whose type is known, constants included."""
    import onnx

    infos = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    undefined = onnx.TensorProto.UNDEFINED
    return {name: kind for name, kind in types.items() if kind != undefined}


def output_steps(model: onnx.ModelProto) -> dict[str, float]:
    """Return the scale of each output that leaves a QDQ graph through DequantizeLinear."""
    from onnx import numpy_helper

    makers, constants = producers(model), initializers(model)
    return {
        info.name: float(numpy_helper.to_array(constants[makers[info.name].input[1]]))
        for info in model.graph.output
        if info.name in makers and makers[info.name].op_type == DEQUANTIZE
    }


def matching_nodes(model: onnx.ModelProto, patterns: Sequence[str]) -> list[str]:
    """Return the names of the nodes that patterns name, by node name or operator type.

    A node exported from torch carries its module's name, so `head` and `block1.*` work as they do
    in pruning; a pattern also covers what is inside the module it names.

    Raises:
        InputError: A pattern that matches nothing; the nearest name is offered.
    """
    found: list[str] = []
    for pattern in patterns:
        hits = [node.name for node in model.graph.node if _matches(node, pattern)]
        if not hits:
            nodes = model.graph.node
            known = {node.name for node in nodes} | {node.op_type for node in nodes}
            raise InputError(
                f"ignored: no node or operator of the model matches '{pattern}'",
                hint=near(pattern, known),
            )
        found += [name for name in hits if name not in found]
    return found


def _matches(node: onnx.NodeProto, pattern: str) -> bool:
    inside = (f"{pattern}.*", f"{pattern}/*")
    return node.op_type == pattern or any(
        fnmatch.fnmatchcase(node.name, candidate) for candidate in (pattern, *inside)
    )
