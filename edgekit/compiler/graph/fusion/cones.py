"""Functions of one tensor, value by value, that a model spells out in several nodes.

x * hard-sigmoid(x), 0.5 x (1 + erf(x / sqrt 2)) or a clip of a sum: whatever the spelling, the
nodes between a tensor and one that depends on nothing else are a function of one number, which can
be evaluated wherever it is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgekit.arithmetic.affine import AffineGrid, dequantize, quantize
from edgekit.compiler.graph.fusion.quantized import (
    DEQUANTIZE,
    LEVELS,
    QUANTIZE,
    quantizer,
    real_constant,
)
from edgekit.compiler.graph.nodes.constants import evaluate_node
from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BY_VALUE = frozenset(
    {
        *("Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "LeakyRelu", "Elu", "Exp"),
        *("Log", "Sqrt", "Reciprocal", "Abs", "Neg", "Erf", "Gelu", "Softplus", "Softsign", "Selu"),
        *("Celu", "Mish", "ThresholdedRelu", "Floor", "Ceil", "Round", "Sign", "Swish", "Sin"),
        *("Cos", "Atan", "PRelu", "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum"),
        *(QUANTIZE, DEQUANTIZE),
    }
)
_MAX_NODES = 24


class Cone(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold a function of single values.

    Args:
        source: Its operand.
        result: Its result, of the same shape.
        nodes: Between the two, in order.
    """

    source: str
    result: str
    nodes: tuple[Node, ...]


def cones(graph: NodeGraph, result: str, is_source: Callable[[str], bool]) -> list[Cone]:
    """Return the functions that end at a tensor, those of most nodes first.

    Args:
        graph: The graph.
        result: Name of a tensor.
        is_source: Whether a tensor will do as the operand.
    """
    place = {id(step): index for index, step in enumerate(graph.steps)}
    edge, inside, found = {result}, list[Node](), list[Cone]()
    while len(inside) < _MAX_NODES:
        makers = {name: graph.producer(name) for name in edge}
        last = max(makers, key=lambda name: place.get(id(makers[name]), -1))
        node = makers[last]
        if not isinstance(node, Node) or not is_by_value(graph, node):
            break
        inside.append(node)
        edge.discard(last)
        edge.update(varying(graph, node))
        if len(edge) == 1 and is_source(source := next(iter(edge))):
            found.append(Cone(source=source, result=result, nodes=tuple(inside[::-1])))
    return found[::-1]


def is_by_value(graph: NodeGraph, node: Node) -> bool:
    """Tell whether each value of a node's result depends on one value of each operand."""
    if node.domain or node.kind not in _BY_VALUE:
        return False
    reads, shape = varying(graph, node), graph.shape(node.writes[0])
    if not reads or any(graph.shape(name) != shape for name in reads):
        return False
    if node.kind in (QUANTIZE, DEQUANTIZE):
        found = quantizer(graph, node)
        return found is not None and found.grid is not None
    constants = [name for name in node.reads if name and name not in reads]
    values = [real_constant(graph, name) for name in constants]
    return all(value is not None and value.size == 1 for value in values)


def varying(graph: NodeGraph, node: Node) -> list[str]:
    """Return a node's operands that are only known at run time."""
    return [name for name in dict.fromkeys(node.reads) if name and not _is_known(graph, name)]


def evaluate_cone(graph: NodeGraph, cone: Cone, values: NDArray[Any]) -> NDArray[Any]:
    """Compute a function of single values by ONNX's own reference.

    Args:
        graph: The cone's graph.
        cone: The function.
        values: Of the operand's type, one-dimensional.

    Returns:
        As many values, of the result's type.
    """
    known: dict[str, NDArray[Any]] = {cone.source: values}
    for node in cone.nodes:
        known[node.writes[0]] = _apply(graph, node, known)
    return known[cone.result]


def _apply(graph: NodeGraph, node: Node, known: dict[str, NDArray[Any]]) -> NDArray[Any]:
    found = quantizer(graph, node) if node.kind in (QUANTIZE, DEQUANTIZE) else None
    if found is not None:
        # ONNX's reference has neither before opset 19; these are the same definitions.
        grid = AffineGrid(
            scale=found.scales.reshape(()),
            zero_point=found.zero_points.reshape(()),
            levels=LEVELS[found.dtype],
        )
        operand = known[node.reads[0]]
        if node.kind == DEQUANTIZE:
            return dequantize(operand.astype(found.dtype), grid)
        operand = np.where(np.isnan(operand), 0, operand)
        return quantize(operand.astype(np.float32), grid)
    constants = {
        name: np.asarray(value, graph.dtype(name)).reshape(())
        for name in node.reads
        if name and name not in known and (value := real_constant(graph, name)) is not None
    }
    size = len(next(iter(known.values())))
    return evaluate_node(
        node,
        {name: known[name] for name in node.reads if name in known},
        constants=constants,
        outputs=[msgspec.structs.replace(graph.tensors[node.writes[0]], shape=(size,))],
        opset=graph.opset,
    )[node.writes[0]]


def _is_known(graph: NodeGraph, name: str) -> bool:
    if name in graph.constants:
        return True
    maker = graph.maker(name, DEQUANTIZE)
    return maker is not None and maker.reads[0] in graph.constants
