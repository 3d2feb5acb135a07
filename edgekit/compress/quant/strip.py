"""Take the quantizers out of a graph and keep what they knew: a float graph and its ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgekit.compress.quant.graph import DEQUANTIZE, QUANTIZE, initializers, producers
from edgekit.compress.quant.observer import Range

if TYPE_CHECKING:
    import onnx


def strip_quantizers(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, Range]]:
    """Return the float graph inside a graph of float weights and simulated quantization.

    Args:
        model: Graph in which values pass QuantizeLinear, sometimes Clip, and DequantizeLinear;
            left as it is.

    Returns:
        The graph without them, and the range of each activation that passed one.
    """
    from onnx import numpy_helper

    stripped = type(model)()
    stripped.CopyFrom(model)
    constants, makers = initializers(stripped), producers(stripped)
    ranges: dict[str, Range] = {}
    origin: dict[str, str] = {}
    for node in stripped.graph.node:
        quantizer = _quantizer_of(node, makers)
        if quantizer is None:
            continue
        source = quantizer.input[0]
        origin[node.output[0]] = source
        if source not in constants:
            scale = float(numpy_helper.to_array(constants[quantizer.input[1]]))
            zero_point = numpy_helper.to_array(constants[quantizer.input[2]])
            lowest, highest = (-128, 127) if zero_point.dtype == "int8" else (0, 255)
            offset = int(zero_point)
            ranges[source] = ((lowest - offset) * scale, (highest - offset) * scale)
    names = _bypass(stripped, origin)
    return stripped, {names(name): found for name, found in ranges.items()}


def _quantizer_of(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    if node.op_type != DEQUANTIZE:
        return None
    source = makers.get(node.input[0])
    if source is not None and source.op_type == "Clip":  # narrows the levels of a weight
        source = makers.get(source.input[0])
    return source if source is not None and source.op_type == QUANTIZE else None


def _bypass(model: onnx.ModelProto, origin: dict[str, str]) -> Callable[[str], str]:
    """Connect what reads a dequantized value to where it came from; return the new names."""
    graph = model.graph
    # An output of the graph keeps its name, so what it comes from takes that name.
    outer: dict[str, str] = {
        _follow(info.name, origin): info.name for info in graph.output if info.name in origin
    }

    def new_name(name: str) -> str:
        inner = _follow(name, origin)
        return outer.get(inner, inner)

    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = new_name(name)
    dead = _unused_nodes(model)
    kept = [node for node in graph.node if node.name not in dead]
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    del graph.value_info[:]
    return new_name


def _follow(name: str, origin: dict[str, str]) -> str:
    while name in origin:
        name = origin[name]
    return name


def _unused_nodes(model: onnx.ModelProto) -> set[str]:
    """Return the quantizers, and what nothing reads any more."""
    graph = model.graph
    dead: set[str] = {node.name for node in graph.node if node.op_type == DEQUANTIZE}
    wanted = {info.name for info in graph.output}
    for node in reversed(graph.node):
        if node.name in dead or not wanted & set(node.output):
            dead.add(node.name)
        else:
            wanted.update(node.input)
    return dead
