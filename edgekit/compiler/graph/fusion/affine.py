"""Scales and shifts by constants: folded into the product before them, or a product of their own.

Batch normalisation and sums, differences, products and quotients with a constant are all
y = x * scale + shift. After a convolution or dense layer they change its weights and bias;
elsewhere a depthwise 1x1 convolution computes them, for which there is a kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgekit.compiler.graph.fusion.float_products import is_image
from edgekit.compiler.graph.fusion.float_values import is_float
from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph, Step
from edgekit.compiler.graph.operators import Convolution, Dense, Operator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]


class Affine(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """State y = x * scale + shift.

    Args:
        source: Name of x.
        scale: float64, of a shape that spreads over x.
        shift: Likewise.
    """

    source: str
    scale: Doubles
    shift: Doubles


def affine_of(graph: NodeGraph, node: Node) -> Affine | None:
    """Return what a node is as a scale and a shift, or None."""
    if node.domain:
        return None
    if node.kind == "BatchNormalization":
        return _batch_norm(graph, node)
    if node.kind not in ("Add", "Sub", "Mul", "Div") or len(node.reads) != 2:
        return None
    first, second = (graph.value(name) for name in node.reads)
    if (first is None) == (second is None):
        return None
    source = node.reads[0] if first is None else node.reads[1]
    value = second if first is None else first
    assert value is not None
    if not is_float(graph, source) or graph.shape(source) != graph.shape(node.writes[0]):
        return None
    constant = value.astype(np.float64)
    one, zero = np.ones(()), np.zeros(())
    if node.kind == "Add":
        return Affine(source=source, scale=one, shift=constant)
    if node.kind == "Mul":
        return Affine(source=source, scale=constant, shift=zero)
    if node.kind == "Sub":
        is_negative = first is not None
        return Affine(
            source=source,
            scale=-one if is_negative else one,
            shift=constant if is_negative else -constant,
        )
    if first is not None or not constant.all():
        return None
    return Affine(source=source, scale=1 / constant, shift=zero)


def affine(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate a scale and shift; the product before it may vanish into what is returned."""
    found = affine_of(graph, node)
    if found is None:
        return None
    producer = graph.producer(found.source)
    if graph.sole_reader(found.source) is node and can_absorb(producer):
        merged = _absorbed(graph, node, producer, found)
        if merged is not None:
            assert producer is not None
            graph.replace([producer], [])
            return [merged]
    return _depthwise(graph, node, found)


def can_absorb(producer: Step | None) -> bool:
    """Tell whether a step is a float product with nothing behind it yet."""
    return (
        isinstance(producer, Convolution | Dense)
        and producer.activation is None
        and producer.result is None
        and len(producer.reads) == 1
    )


def _absorbed(
    graph: NodeGraph, node: Node, producer: Step | None, found: Affine
) -> Operator | None:
    assert isinstance(producer, Convolution | Dense)
    rank = len(graph.shape(found.source))
    axis = 1 if isinstance(producer, Convolution) else rank - 1
    count = len(producer.weights)
    scale, shift = (_along(value, rank, axis, count) for value in (found.scale, found.shift))
    if scale is None or shift is None:
        return None
    spread = scale.reshape(-1, *[1] * (producer.weights.ndim - 1))
    return msgspec.structs.replace(
        producer,
        nodes=producer.nodes + node.nodes,
        writes=node.writes[:1],
        weights=(producer.weights * spread).astype(np.float32),
        bias=(producer.bias * scale + shift).astype(np.float32),
    )


def _depthwise(graph: NodeGraph, node: Node, found: Affine) -> list[Operator] | None:
    if not is_image(graph, found.source):
        return None
    count = graph.shape(found.source)[1]
    scale, shift = (_along(value, 4, 1, count) for value in (found.scale, found.shift))
    if scale is None or shift is None:
        return None
    return [
        Convolution(
            name=node.name,
            nodes=node.nodes,
            reads=(found.source,),
            writes=node.writes[:1],
            weights=scale.astype(np.float32).reshape(-1, 1, 1, 1),
            bias=shift.astype(np.float32),
            groups=count,
        )
    ]


def _along(value: Doubles, rank: int, axis: int, count: int) -> Doubles | None:
    """Return values that differ along one axis only as a vector, None when others vary too."""
    if value.ndim > rank:
        return None
    shape = (1,) * (rank - value.ndim) + value.shape
    if any(size != 1 for place, size in enumerate(shape) if place != axis):
        return None
    return np.broadcast_to(value.ravel(), (count,))


def _batch_norm(graph: NodeGraph, node: Node) -> Affine | None:
    values = [graph.value(name) for name in node.reads[1:]]
    if any(value is None for value in values) or node.integer("training_mode", 0):
        return None
    if not is_float(graph, node.reads[0]) or any(node.writes[1:]):
        return None
    gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in values)
    scale = gamma / np.sqrt(variance + node.number("epsilon", 1e-5))
    spread = (-1, *[1] * (len(graph.shape(node.reads[0])) - 2))
    return Affine(
        source=node.reads[0],
        scale=scale.reshape(spread),
        shift=(beta - mean * scale).reshape(spread),
    )
