"""Functions of single values, sums and products of two tensors, softmax, concatenation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec

from edgekit.compiler.graph.fusion.spatial import is_plain
from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.compiler.graph.operators import (
    Activation,
    Concat,
    Elementwise,
    Function,
    Operator,
    Reshape,
    Softmax,
    Unary,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN: Mapping[str, Function] = {
    "Relu": "relu", "HardSwish": "hard-swish", "Sigmoid": "sigmoid", "Tanh": "tanh", "Exp": "exp",
    "Sqrt": "sqrt", "Reciprocal": "reciprocal", "Abs": "abs", "Neg": "neg", "Erf": "erf",
}  # fmt: skip
_BINARY: Mapping[str, Literal["add", "sub", "mul", "div", "max", "min"]] = {
    "Add": "add", "Sum": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Max": "max",
    "Min": "min",
}  # fmt: skip
_COMMUTATIVE = ("add", "mul", "max", "min")
#: Operators of which some cases are functions of single values.
UNARY_KINDS = (
    *_PLAIN, "Clip", "LeakyRelu", "Elu", "HardSigmoid", "Gelu", "Swish", "PRelu", "Pow",
)  # fmt: skip
BINARY_KINDS = tuple(_BINARY)


def activation_of(graph: NodeGraph, node: Node) -> Activation | None:
    """Return the function of single values that a node applies to its first operand."""
    if node.domain:
        return None
    if node.kind in _PLAIN:
        return Activation(_PLAIN[node.kind])
    if node.kind == "LeakyRelu":
        return Activation("leaky-relu", low=node.number("alpha", 0.01))
    if node.kind == "Elu":
        return Activation("elu", low=node.number("alpha", 1.0))
    if node.kind == "HardSigmoid":
        alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
        return Activation("hard-sigmoid", low=alpha, high=beta)
    if node.kind == "Gelu":
        return Activation("gelu-tanh" if node.text("approximate", "none") == "tanh" else "gelu")
    if node.kind == "Swish":
        return Activation("silu") if node.number("alpha", 1.0) == 1.0 else None
    return _bounded(graph, node)


def unary(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate a function of single float32 values."""
    activation = activation_of(graph, node)
    if activation is None or not is_float(graph, node.reads[0]) or _is_one_number(graph, node):
        return None
    return [
        Unary(
            name=node.name,
            nodes=node.nodes,
            reads=node.reads[:1],
            writes=node.writes,
            activation=activation,
        )
    ]


def binary(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate a function of two float32 tensors, the second of the first one's shape or spread.

    Max and Min with a constant are functions of single values.
    """
    if len(node.reads) != 2 or _is_one_number(graph, node):
        return None
    if any(name in graph.constants for name in node.reads):
        return _against_constant(graph, node)
    reads = spread_order(graph, node, is_commutative=_BINARY[node.kind] in _COMMUTATIVE)
    if reads is None or not all(is_float(graph, name) for name in reads):
        return None
    return [
        Elementwise(
            name=node.name,
            nodes=node.nodes,
            reads=reads,
            writes=node.writes,
            function=_BINARY[node.kind],
        )
    ]


def spread_order(graph: NodeGraph, node: Node, *, is_commutative: bool) -> tuple[str, str] | None:
    """Return a node's two operands so that the first has the result's shape.

    Returns:
        None when that is impossible, or when the second is spread in any other way than
        [1, C, 1, 1] over [1, C, H, W].
    """
    first, second = node.reads
    out = graph.shape(node.writes[0])
    if graph.shape(first) != out and is_commutative:
        first, second = second, first
    if graph.shape(first) != out:
        return None
    shape = graph.shape(second)
    is_spread = len(out) == 4 and shape == (1, out[1], 1, 1) and out[0] == 1
    return (first, second) if shape == out or is_spread else None


def softmax(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate Softmax, by a Reshape before and after it where it has more than the last axis."""
    x, y = node.reads[0], node.writes[0]
    shape = graph.shape(x)
    axis = node.integer("axis", 1 if graph.opset < 13 else -1) % max(len(shape), 1)
    if not is_float(graph, x) or not shape:
        return None
    if axis == len(shape) - 1:
        return [Softmax(name=node.name, nodes=node.nodes, reads=(x,), writes=(y,))]
    # Before opset 13 all axes from this one on were one.
    if graph.opset >= 13 and math.prod(shape[axis + 1 :]) > 1:
        return None
    flat = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    inner, outer = (graph.add_tensor(f"{name}_rows", flat, "float32") for name in (x, y))
    before, after = (graph.new_name(f"{node.name}_rows") for _ in range(2))
    return [
        Reshape(name=before, nodes=node.nodes, reads=(x,), writes=(inner,)),
        Softmax(name=node.name, nodes=node.nodes, reads=(inner,), writes=(outer,)),
        Reshape(name=after, nodes=node.nodes, reads=(outer,), writes=(y,)),
    ]


def concat(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate Concat of float32, or of levels of one grid."""
    if not all(is_plain(graph, name) for name in node.reads):
        return None
    kinds = {(graph.dtype(name), graph.tensors[name].grid) for name in node.reads}
    if len(kinds) != 1:
        return None
    axis = node.integer("axis", 0) % len(graph.shape(node.reads[0]))
    return [
        Concat(name=node.name, nodes=node.nodes, reads=node.reads, writes=node.writes, axis=axis)
    ]


def reshape(graph: NodeGraph, node: Node) -> list[Operator] | None:
    """Translate Reshape, and an Identity that hands an input to the caller."""
    if not is_plain(graph, node.reads[0]):
        return None
    return [Reshape(name=node.name, nodes=node.nodes, reads=node.reads[:1], writes=node.writes)]


def is_float(graph: NodeGraph, tensor: str) -> bool:
    """Tell whether a name is of a float32 tensor that is no constant."""
    return tensor not in graph.constants and graph.dtype(tensor) == "float32"


def clip_bounds(graph: NodeGraph, node: Node) -> tuple[float, float] | None:
    """Return the bounds of a Clip or Relu, None when they are only known at run time."""
    if node.kind == "Relu":
        return 0.0, math.inf
    bounds = []
    for place, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        value = scalar(graph, node.operand(place)) if node.operand(place) else None
        if node.operand(place) and value is None:
            return None
        bounds.append(node.number(name, default) if value is None else value)
    return bounds[0], bounds[1]


def scalar(graph: NodeGraph, tensor: str) -> float | None:
    """Return the value of a constant that is one number."""
    value = graph.value(tensor)
    return float(value.ravel()[0]) if value is not None and value.size == 1 else None


def _is_one_number(graph: NodeGraph, node: Node) -> bool:
    """Tell whether a node computes a scale or a bound, no activation: a step would be too much."""
    return graph.tensors[node.writes[0]].size == 1


def _bounded(graph: NodeGraph, node: Node) -> Activation | None:
    if node.kind == "Clip":
        bounds = clip_bounds(graph, node)
        return None if bounds is None else clip_activation(*bounds)
    number = scalar(graph, node.operand(1))
    if node.kind == "PRelu" and number is not None:
        return Activation("leaky-relu", low=number)
    if node.kind == "Pow" and number in (0.5, -1.0):
        return Activation("sqrt" if number == 0.5 else "reciprocal")
    return None


def clip_activation(low: float, high: float) -> Activation:
    """Return the activation that clips to these bounds."""
    if low == 0.0 and high == math.inf:
        return Activation("relu")
    return Activation("clip", low=low, high=high)


def _against_constant(graph: NodeGraph, node: Node) -> list[Operator] | None:
    if node.kind not in ("Max", "Min"):
        return None
    first, second = node.reads
    source, bound = (second, first) if first in graph.constants else (first, second)
    number = scalar(graph, bound)
    is_same = number is not None and graph.shape(source) == graph.shape(node.writes[0])
    if number is None or not is_same or not is_float(graph, source):
        return None
    bounds = (number, math.inf) if node.kind == "Max" else (-math.inf, number)
    moved = msgspec.structs.replace(node, reads=(source,))
    return [
        Unary(
            name=moved.name,
            nodes=moved.nodes,
            reads=moved.reads,
            writes=moved.writes,
            activation=clip_activation(*bounds),
        )
    ]
