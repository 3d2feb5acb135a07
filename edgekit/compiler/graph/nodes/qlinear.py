"""Write operators on levels as dequantize, operator, quantize: one form of quantized models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.compiler.graph.nodes.sequence import Sequence

DOMAINS = ("", "com.microsoft")


def expand_qlinear(graph: NodeGraph) -> None:
    """Expand QLinearConv, QLinearMatMul and their like.

    Args:
        graph: As read; shapes need not be known. Changed in place.
    """
    for node in graph.nodes():
        expand = _EXPANSIONS.get(node.kind) if node.domain in DOMAINS else None
        if expand is not None:
            sequence = Sequence(graph, node)
            expand(graph, node, sequence)
            sequence.finish()


def _convolution(graph: NodeGraph, node: Node, sequence: Sequence) -> None:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = node.reads[:8]
    reads = [
        sequence.append("DequantizeLinear", x, x_scale, x_zero),
        sequence.append("DequantizeLinear", w, w_scale, w_zero, axis=0),
    ]
    if node.operand(8):
        scales = [graph.value(x_scale), graph.value(w_scale)]
        if scales[0] is not None and scales[1] is not None:
            unit = sequence.constant(scales[0].astype(np.float64) * scales[1])
            reads.append(sequence.append("DequantizeLinear", node.reads[8], unit, axis=0))
    _quantize(node, sequence, sequence.move("Conv", *reads), y_scale, y_zero)


def _matmul(_: NodeGraph, node: Node, sequence: Sequence) -> None:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = node.reads
    left = sequence.append("DequantizeLinear", a, a_scale, a_zero)
    right = sequence.append("DequantizeLinear", b, b_scale, b_zero, axis=-1)
    _quantize(node, sequence, sequence.append("MatMul", left, right), y_scale, y_zero)


def _binary(kind: str) -> Callable[[NodeGraph, Node, Sequence], None]:
    def expand(_: NodeGraph, node: Node, sequence: Sequence) -> None:
        operands = [
            sequence.append("DequantizeLinear", *node.reads[place : place + 3]) for place in (0, 3)
        ]
        _quantize(node, sequence, sequence.append(kind, *operands), *node.reads[6:8])

    return expand


def _unary(kind: str) -> Callable[[NodeGraph, Node, Sequence], None]:
    def expand(_: NodeGraph, node: Node, sequence: Sequence) -> None:
        operand = sequence.append("DequantizeLinear", *node.reads[:3])
        _quantize(node, sequence, sequence.move(kind, operand), *node.reads[3:5])

    return expand


def _quantize(node: Node, sequence: Sequence, value: str, *grid: str) -> None:
    named = tuple(name for name in grid if name)
    sequence.append("QuantizeLinear", value, *named, result=node.writes[0])


_EXPANSIONS: Mapping[str, Callable[[NodeGraph, Node, Sequence], None]] = {
    "QLinearConv": _convolution,
    "QLinearMatMul": _matmul,
    "QLinearAdd": _binary("Add"),
    "QLinearMul": _binary("Mul"),
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearLeakyRelu": _unary("LeakyRelu"),
}
