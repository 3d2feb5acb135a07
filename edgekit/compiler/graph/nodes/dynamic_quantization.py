"""Write dynamically quantized products in plain operators.

`DynamicQuantizeLinear` finds the range of a tensor in the run, `MatMulInteger` and `ConvInteger`
multiply its levels. Here levels are floats that hold integers, so that a float kernel multiplies
them: sums below 2^24 are exact, beyond that they are rounded as float32 is. TVM's own import of
these operators was tried and gives other results than ONNX defines.
"""

from __future__ import annotations

import numpy as np

from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.compiler.graph.nodes.sequence import Sequence

_FLOAT, _UINT8, _INT32 = 1, 2, 6  # ONNX's numbers of types
_PRODUCTS = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}


def expand_dynamic(graph: NodeGraph) -> None:
    """Expand DynamicQuantizeLinear, MatMulInteger and ConvInteger.

    Args:
        graph: As read; shapes need not be known. Changed in place.
    """
    levels: dict[str, str] = {}
    for node in graph.nodes():
        if node.domain:
            continue
        if node.kind == "DynamicQuantizeLinear":
            levels |= _expand_quantize(graph, node)
        elif node.kind in _PRODUCTS:
            _expand_product(graph, node, levels)
    graph.prune()


def _expand_quantize(graph: NodeGraph, node: Node) -> dict[str, str]:
    """Return the names of levels and zero point as floats by those as bytes."""
    y, scale, zero = (*node.writes, "", "")[:3]
    s, x = Sequence(graph, node), node.reads[0]
    nothing, most = s.constant(0.0), s.constant(255.0)
    low = s.append("Min", s.append("ReduceMin", x, keepdims=0), nothing)
    high = s.append("Max", s.append("ReduceMax", x, keepdims=0), nothing)
    reach = s.append("Div", s.append("Sub", high, low), most)
    # A tensor of zeros has no range: any scale but 0 will do.
    scale = s.append("Max", reach, s.constant(np.finfo(np.float32).tiny), result=scale)
    middle = s.append("Neg", s.append("Div", low, scale))
    middle = s.append("Round", s.append("Clip", middle, nothing, most))
    steps = s.append("Add", s.append("Round", s.append("Div", x, scale)), middle)
    steps = s.append("Clip", steps, nothing, most)
    s.append("Cast", steps, result=y, to=_UINT8)
    if zero:
        s.append("Cast", middle, result=zero, to=_UINT8)
    s.finish()
    return {y: steps, zero: middle}


def _expand_product(graph: NodeGraph, node: Node, levels: dict[str, str]) -> None:
    if not _has_plain_zeros(graph, node, levels):
        return
    s = Sequence(graph, node)
    left = _centred(s, node.reads[0], node.operand(2), levels)
    right = _centred_weights(graph, s, node, levels)
    s.append("Cast", s.move(_PRODUCTS[node.kind], left, right), result=node.writes[0], to=_INT32)
    s.finish()


def _has_plain_zeros(graph: NodeGraph, node: Node, levels: dict[str, str]) -> bool:
    """Tell whether there is one zero point of the input, and those of the weights are known.

    A zero point for each row of a matrix, or one of a kernel that only the run knows, is left to
    whoever takes the node as it is.
    """
    left, right = node.operand(2), node.operand(3)
    is_one = not left or left in levels or _size(graph, left) == 1
    is_known = not right or right in graph.constants
    return is_one and (is_known or (node.kind == "MatMulInteger" and right in graph.tensors))


def _size(graph: NodeGraph, tensor: str) -> int | None:
    if tensor in graph.constants:
        return graph.constants[tensor].size
    return graph.tensors[tensor].size if tensor in graph.tensors else None


def _centred(s: Sequence, tensor: str, zero: str, levels: dict[str, str]) -> str:
    values, point = (
        levels.get(name) or (s.append("Cast", name, to=_FLOAT) if name else "")
        for name in (tensor, zero)
    )
    return s.append("Sub", values, point) if point else values


def _centred_weights(graph: NodeGraph, s: Sequence, node: Node, levels: dict[str, str]) -> str:
    stored, zero = graph.value(node.reads[1]), graph.value(node.operand(3))
    if stored is None or (node.operand(3) and zero is None):
        return _centred(s, node.reads[1], node.operand(3), levels)
    centred = stored.astype(np.float32)
    if zero is not None:
        is_spread = node.kind == "ConvInteger" and zero.size > 1
        shape = (-1, *[1] * (stored.ndim - 1)) if is_spread else zero.shape
        centred = centred - zero.astype(np.float32).reshape(shape)
    return s.constant(centred)
