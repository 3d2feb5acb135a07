"""Recognise activations that a model spells out in several nodes, by what they compute.

There are a dozen spellings of hard-swish alone. Instead of matching each, the nodes are evaluated
on a grid of numbers and compared with the functions there are kernels for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.compiler.graph.fusion.cones import Cone, cones, evaluate_cone
from edgekit.compiler.graph.fusion.float_values import is_float
from edgekit.compiler.graph.fusion.quantized import node_names
from edgekit.compiler.graph.nodes.node_graph import NodeGraph
from edgekit.compiler.graph.operators import Activation, Unary
from edgekit.compiler.graph.reference_float import activate

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAMED = (
    Activation("relu"),
    Activation("hard-swish"),
    Activation("hard-sigmoid", low=1 / 6, high=0.5),
    Activation("hard-sigmoid", low=0.2, high=0.5),
    Activation("silu"),
    Activation("gelu"),
    Activation("gelu-tanh"),
    Activation("sigmoid"),
    Activation("tanh"),
)
_REACH = 40.0
# Spellings differ by float32's rounding of their steps, which grows with the operand; the nearest
# two functions, both GELUs, differ by 5e-4.
_TOLERANCE = 3e-6


def name_functions(graph: NodeGraph) -> None:
    """Replace nodes that spell out an activation by a `Unary`, and two clips in a row by one.

    Args:
        graph: Its quantized patterns translated already; changed in place.
    """
    for node in reversed(list(graph.nodes())):
        result = node.writes[0] if node.writes else ""
        # Some of it may have gone into the function that was found before.
        if graph.producer(result) is not node or not is_float(graph, result):
            continue
        for cone in cones(graph, result, lambda name: is_float(graph, name)):
            activation = _activation(graph, cone) if _is_closed(graph, cone) else None
            if activation is not None:
                graph.replace(cone.nodes, [_unary(cone, activation)])
                break


def _is_closed(graph: NodeGraph, cone: Cone) -> bool:
    """Tell whether several nodes are the function, and nothing else wants what is between them."""
    inside = {id(node) for node in cone.nodes}
    between = [name for node in cone.nodes for name in node.writes if name != cone.result]
    return len(cone.nodes) > 1 and all(
        name not in graph.outputs and all(id(step) in inside for step in graph.readers(name))
        for name in between
    )


def _activation(graph: NodeGraph, cone: Cone) -> Activation | None:
    points = np.linspace(-_REACH, _REACH, 4001, dtype=np.float32)
    try:
        values = evaluate_cone(graph, cone, points).astype(np.float64)
    # The reference raises whatever numpy or its own code raises on what it does not implement.
    except Exception:
        return None
    low, high = float(values.min()), float(values.max())
    clip = Activation("clip", low=low, high=high)
    candidates = (*_NAMED, clip) if -_REACH < low <= high < _REACH else _NAMED
    return next((named for named in candidates if _agrees(named, points, values)), None)


def _agrees(named: Activation, points: NDArray[np.float32], values: NDArray[np.float64]) -> bool:
    wanted = activate(points.astype(np.float64), named)
    return bool(np.all(abs(values - wanted) <= _TOLERANCE * np.maximum(1, abs(points))))


def _unary(cone: Cone, activation: Activation) -> Unary:
    return Unary(
        name=cone.nodes[-1].name,
        nodes=node_names(*cone.nodes),
        reads=(cone.source,),
        writes=(cone.result,),
        activation=activation,
    )
