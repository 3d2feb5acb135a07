"""Refuse operands that do not fit each other where ONNX's shape inference lets them pass.

Kernels check nothing: a convolution whose weights want more channels than there are would read
memory that is not its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    Shape = tuple[int, ...]
    Rule = tuple[str, Shape, Shape]  # what is looked at, as found, as expected


def check_operands(graph: NodeGraph, node: Node) -> None:
    """Check the operands of a node against each other.

    Args:
        graph: With constants and shapes settled.
        node: One of its nodes.

    Raises:
        InputError: They do not fit; the node is named.
    """
    rules = _RULES.get(node.kind)
    if rules is None or node.domain:
        return
    for what, found, expected in rules(graph, node):
        if found != expected:
            raise InputError(
                f"reading operator '{node.name}' ({node.kind})",
                found=f"{what} {list(found)}",
                expected=f"{list(expected)}",
            )


def _convolution(graph: NodeGraph, node: Node) -> Iterable[Rule]:
    weights, groups = graph.shape(node.reads[1]), node.integer("group", 1)
    channels = graph.shape(node.reads[0])[1:2]
    yield "group", (groups,), (max(groups, 1),)
    yield "an input of channels", channels, (weights[1] * groups,)
    yield f"outputs beyond {groups} equal groups", (weights[0] % groups,), (0,)
    yield "kernel_shape", node.integers("kernel_shape", weights[2:]), weights[2:]
    yield from _operand(graph, node, 2, weights[:1])


def _transposed(graph: NodeGraph, node: Node) -> Iterable[Rule]:
    weights, groups = graph.shape(node.reads[1]), node.integer("group", 1)
    yield "an input of channels", graph.shape(node.reads[0])[1:2], weights[:1]
    yield "kernel_shape", node.integers("kernel_shape", weights[2:]), weights[2:]
    yield from _operand(graph, node, 2, (weights[1] * groups,))


def _normalization(graph: NodeGraph, node: Node) -> Iterable[Rule]:
    channels = graph.shape(node.reads[0])[1:2]
    return [rule for place in (1, 2) for rule in _operand(graph, node, place, channels)]


def _gemm(graph: NodeGraph, node: Node) -> Iterable[Rule]:
    if node.operand(2):
        bias, result = graph.shape(node.reads[2]), graph.shape(node.writes[0])
        fitting = tuple(
            size if size == 1 else whole
            for size, whole in zip(bias, result[-len(bias) :], strict=False)
        )
        yield "a bias of shape", bias, fitting if bias else ()


def _reshape(graph: NodeGraph, node: Node) -> Iterable[Rule]:
    before, after = graph.shape(node.reads[0]), graph.shape(node.writes[0])
    if math.prod(before) != math.prod(after):
        yield f"{math.prod(before)} values for shape", after, before


def _transpose(graph: NodeGraph, node: Node) -> Iterable[Rule]:
    axes = tuple(range(len(graph.shape(node.reads[0]))))
    yield "perm", tuple(sorted(node.integers("perm", axes))), axes


def _gather(graph: NodeGraph, node: Node) -> Iterable[Rule]:
    places = graph.value(node.reads[1])
    if places is not None and places.size:
        shape = graph.shape(node.reads[0])
        size = shape[node.integer("axis", 0)]
        lowest, highest = int(places.min()), int(places.max())
        yield "indices from and to", (lowest, highest), (max(lowest, -size), min(highest, size - 1))


def _operand(graph: NodeGraph, node: Node, place: int, expected: Shape) -> Iterable[Rule]:
    if node.operand(place):
        yield f"operand {place} of shape", graph.shape(node.reads[place]), expected


_RULES: dict[str, Callable[[NodeGraph, Node], Iterable[Rule]]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gather": _gather,
    "Gemm": _gemm,
    "InstanceNormalization": _normalization,
    "Reshape": _reshape,
    "Transpose": _transpose,
}
