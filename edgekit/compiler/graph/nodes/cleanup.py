"""Drop nodes that change nothing, and write those that only move values in one way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph

if TYPE_CHECKING:
    from collections.abc import Sequence

_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_VARIADIC = ("Concat", "Sum", "Max", "Min", "Mean")


def clean(graph: NodeGraph) -> None:
    """Drop what inference does not need.

    Args:
        graph: With constants and shapes settled; changed in place.
    """
    drop_roundtrips(graph)
    unify_reshapes(graph)
    merge_transposes(graph)
    drop_identities(graph)
    merge_reshapes(graph)
    drop_identities(graph)
    graph.prune()


def drop_identities(graph: NodeGraph) -> None:
    """Drop nodes that hand their operand on as it is: Identity, Dropout, a Cast to the same type.

    One that hands an input of the network, or a constant, to the caller stays.
    """
    for node in graph.nodes():
        if not node.domain and _is_identity(graph, node):
            graph.bypass(node)


def drop_roundtrips(graph: NodeGraph) -> None:
    """Read floats directly where they are cast to int32 and back: made so by dynamic products."""
    for node in graph.nodes():
        before = graph.maker(node.reads[0], "Cast") if node.kind == "Cast" else None
        if before is None or before.reads[0] in graph.constants or node.domain:
            continue
        product = graph.producer(before.reads[0])
        is_whole = isinstance(product, Node) and product.nodes == before.nodes
        kinds = [graph.dtype(name) for name in (before.reads[0], *before.writes, *node.writes)]
        if is_whole and kinds == ["float32", "int32", "float32"]:
            same = msgspec.structs.replace(node, kind="Identity", reads=before.reads, attributes={})
            graph.replace([node], [same])


def unify_reshapes(graph: NodeGraph) -> None:
    """Write Flatten, Squeeze and Unsqueeze, and Transposes that move no value, as Reshape."""
    for node in graph.nodes():
        if node.domain or not node.reads or node.reads[0] in graph.constants:
            continue
        if node.kind in _RESHAPES or (node.kind == "Transpose" and _moves_nothing(graph, node)):
            graph.replace([node], [as_reshape(graph, node, node.reads[0])])


def as_reshape(graph: NodeGraph, node: Node, source: str) -> Node:
    """Return a Reshape of `source` in the place of a node, to the shape that node writes."""
    import numpy as np

    shape = np.asarray(graph.shape(node.writes[0]), np.int64)
    target = graph.add_constant(f"{node.writes[0]}_shape", shape)
    return msgspec.structs.replace(
        node, kind="Reshape", reads=(source, target), writes=node.writes[:1], attributes={}
    )


def merge_reshapes(graph: NodeGraph) -> None:
    """Let the last Reshape of a chain read what the first one reads."""
    for node in graph.nodes():
        before = graph.maker(node.reads[0], "Reshape") if node.kind == "Reshape" else None
        if before is not None and not node.domain:
            merged = msgspec.structs.replace(
                node, reads=(before.reads[0], node.reads[1]), nodes=before.nodes + node.nodes
            )
            graph.replace([node], [merged])


def merge_transposes(graph: NodeGraph) -> None:
    """Make one Transpose of two in a row; a pair that undoes itself is an identity."""
    from onnx import helper

    for node in graph.nodes():
        before = graph.maker(node.reads[0], "Transpose") if node.kind == "Transpose" else None
        if before is None or node.domain:
            continue
        first, second = permutation(graph, before), permutation(graph, node)
        order = [first[axis] for axis in second]
        merged = msgspec.structs.replace(
            node,
            reads=before.reads,
            nodes=before.nodes + node.nodes,
            attributes={"perm": helper.make_attribute("perm", order)},
        )
        graph.replace([node], [merged])


def permutation(graph: NodeGraph, node: Node) -> tuple[int, ...]:
    """Return the order in which a Transpose puts the axes."""
    rank = len(graph.shape(node.reads[0]))
    return node.integers("perm", range(rank)[::-1])


def _is_identity(graph: NodeGraph, node: Node) -> bool:
    if not node.reads or not node.reads[0] or any(node.writes[1:]):
        return False
    if node.kind in ("Identity", "Dropout"):
        return node.kind == "Identity" or not _is_training(graph, node)
    source, result = node.reads[0], node.writes[0]
    is_same = graph.shape(source) == graph.shape(result)
    if node.kind in ("Cast", "CastLike"):
        return graph.dtype(source) == graph.dtype(result)
    if node.kind in ("Reshape", "Expand", "Tile", "Pad"):
        # A Pad of the same shape may still crop one side and pad the other.
        return is_same and (node.kind != "Pad" or not _any_pads(graph, node))
    if node.kind == "Transpose":
        order = permutation(graph, node)
        return order == tuple(range(len(order)))
    return node.kind in _VARIADIC and len(node.reads) == 1


def _is_training(graph: NodeGraph, node: Node) -> bool:
    mode = node.operand(2)
    value = graph.value(mode) if mode else None
    return bool(mode) and (value is None or bool(value.any()))


def _any_pads(graph: NodeGraph, node: Node) -> bool:
    if "pads" in node.attributes:
        return any(node.integers("pads"))
    value = graph.value(node.operand(1))
    return value is None or bool(value.any())


def _moves_nothing(graph: NodeGraph, node: Node) -> bool:
    """Tell whether a Transpose keeps the order of all axes longer than 1."""
    shape: Sequence[int] = graph.shape(node.reads[0])
    long = [axis for axis in permutation(graph, node) if shape[axis] > 1]
    return long == sorted(long)
