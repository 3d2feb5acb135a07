"""Float convolutions and matrix products with constant weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.compiler.graph.nodes.windows import window_of
from edgekit.compiler.graph.operators import Convolution, Dense, Operator, Reshape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


def convolution(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate Conv over one or two axes; None when weights or bias are no constants."""
    weights, bias = graph.value(node.operand(1)), _bias(graph, node.operand(2))
    x, y = node.reads[0], node.writes[0]
    shape = graph.shape(x)
    if weights is None or bias is None or not is_image(graph, x, ranks=(3, 4)):
        return None
    window = window_of(graph, node, weights.shape[2:])
    outputs, inputs = weights.shape[:2]
    source, before = lifted(graph, node, x) if len(shape) == 3 else (x, [])
    result, after = lowered(graph, node, y) if len(shape) == 3 else (y, [])
    made = Convolution(
        name=node.name,
        nodes=node.nodes,
        reads=(source,),
        writes=(result,),
        weights=weights.astype(np.float32).reshape(outputs, inputs, *window.size),
        bias=_spread(bias.ravel(), outputs),
        strides=window.strides,
        pads=window.pads,
        dilations=window.dilations,
        groups=node.integer("group", 1),
    )
    return [*before, made, *after]


def gemm(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate Gemm with constant weights and bias."""
    weights = graph.value(node.operand(1))
    bias = _bias(graph, node.operand(2))
    if weights is None or bias is None or node.integer("transA", 0) or not _is_float(graph, node):
        return None
    if bias.size > 1 and bias.size != bias.shape[-1]:
        return None  # another bias for every row
    kernel = weights if node.integer("transB", 0) else weights.T
    return [
        Dense(
            name=node.name,
            nodes=node.nodes,
            reads=node.reads[:1],
            writes=node.writes,
            weights=np.ascontiguousarray(kernel * np.float32(node.number("alpha", 1.0))),
            bias=_spread(bias.ravel() * np.float32(node.number("beta", 1.0)), len(kernel)),
        )
    ]


def matmul(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate MatMul of a tensor by a constant matrix."""
    weights = graph.value(node.operand(1))
    if weights is None or weights.ndim != 2 or not _is_float(graph, node):
        return None
    if len(graph.shape(node.reads[0])) < 2:
        return None
    return [
        Dense(
            name=node.name,
            nodes=node.nodes,
            reads=node.reads[:1],
            writes=node.writes,
            weights=np.ascontiguousarray(weights.T),
            bias=np.zeros(weights.shape[1], np.float32),
        )
    ]


def is_image(graph: NodeGraph, tensor: str, *, ranks: tuple[int, ...] = (4,)) -> bool:
    """Tell whether a tensor is one image of floats or levels, [1, C, H, W]."""
    shape = graph.shape(tensor)
    return tensor not in graph.constants and len(shape) in ranks and shape[0] == 1


def lifted(graph: NodeGraph, node: Node, tensor: str) -> tuple[str, list[Operator]]:
    """Return a tensor [1, C, L] as an image [1, C, 1, L], and the operator that makes it one."""
    image = _image(graph, tensor)
    return image, [_reshape(graph, node, tensor, image)]


def lowered(graph: NodeGraph, node: Node, tensor: str) -> tuple[str, list[Operator]]:
    """Return the image behind a tensor [1, C, L], and the operator that makes that of it."""
    image = _image(graph, tensor)
    return image, [_reshape(graph, node, image, tensor)]


def _image(graph: NodeGraph, tensor: str) -> str:
    batch, channels, length = graph.shape(tensor)
    grid = graph.tensors[tensor].grid
    shape = (batch, channels, 1, length)
    return graph.add_tensor(f"{tensor}_image", shape, graph.dtype(tensor), grid)


def _reshape(graph: NodeGraph, node: Node, source: str, result: str) -> Operator:
    name = graph.new_name(f"{node.name}_image")
    return Reshape(name=name, nodes=node.nodes, reads=(source,), writes=(result,))


def _bias(graph: NodeGraph, name: str) -> Floats | None:
    if not name:
        return np.zeros(1, np.float32)
    value = graph.value(name)
    return None if value is None else value.astype(np.float32)


def _spread(bias: Floats, count: int) -> Floats:
    return np.ascontiguousarray(np.broadcast_to(bias, (count,)))


def _is_float(graph: NodeGraph, node: Node) -> bool:
    is_constant = node.reads[0] in graph.constants
    return not is_constant and graph.dtype(node.reads[0]) == "float32"
