"""Refuse what cannot be compiled rightly, by the name of the node, before any code is generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.compiler.graph.nodes.operands import check_operands
from edgekit.compiler.graph.operators import Convolution, Dense, Network
from edgekit.core.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def check_nodes(graph: NodeGraph) -> None:
    """Check the quantizers of a graph, that operands fit each other, and that no tensor is empty.

    Args:
        graph: With constants and shapes settled.

    Raises:
        InputError: A scale is missing, only known at run time, of a wrong length or no positive
            number, a zero point does not fit, an axis does not exist, operands have shapes that do
            not fit each other, an index lies outside, or a tensor holds nothing.
    """
    for node in graph.nodes():
        if node.kind in _QUANTIZERS and not node.domain:
            _check_quantizer(graph, node)
        check_operands(graph, node)
        for name in (*node.reads, *node.writes):
            shape = graph.tensors[name].shape if name in graph.tensors else ()
            if 0 in shape:
                raise InputError(
                    _doing(node), found=f"tensor '{name}' of shape {list(shape)}, which is empty"
                )


def check_weights(network: Network, limit: int) -> None:
    """Check that 8-bit weights lie within +-limit.

    Args:
        network: With integer operators.
        limit: 127 where pairs of products of signed bytes are added in 16 bits.

    Raises:
        InputError: A weight lies outside.
    """
    for operator in network.operators:
        if not isinstance(operator, Convolution | Dense) or operator.weights.dtype != np.int8:
            continue
        largest = int(np.abs(operator.weights.astype(np.int32)).max(initial=0))
        if largest > limit:
            raise InputError(
                f"compiling operator '{operator.nodes[0]}'",
                found=f"a weight of magnitude {largest}",
                expected=f"weights within +-{limit}, which this target needs",
                hint="Quantize with symmetric weights of reduced range, as edgekit does",
            )


def _check_quantizer(graph: NodeGraph, node: Node) -> None:
    scale = graph.value(node.operand(1)) if node.operand(1) else None
    if scale is None:
        raise InputError(
            _doing(node),
            found="a scale only known at run time" if node.operand(1) else "no scale",
            expected="a constant scale",
            hint="Quantize statically, with calibration data",
        )
    if not bool(np.all(np.isfinite(scale))) or not bool(np.all(scale > 0)):
        wrong = scale.ravel()[~(np.isfinite(scale) & (scale > 0)).ravel()]
        raise InputError(_doing(node), found=f"scale {wrong[0]:g}", expected="scales above 0")
    _check_axis(graph, node, scale)
    if node.operand(2):
        _check_zero_point(graph, node, scale)


def _check_axis(graph: NodeGraph, node: Node, scale: NDArray[Any]) -> None:
    shape: Sequence[int] = graph.shape(node.reads[0])
    if scale.size == 1 or node.integer("block_size", 0):
        return
    axis = node.integer("axis", 1)
    if not -len(shape) <= axis < len(shape):
        raise InputError(
            _doing(node),
            found=f"axis {axis} of a tensor of shape {list(shape)}",
            expected=f"an axis from {-len(shape)} to {len(shape) - 1}",
        )
    if scale.ndim != 1 or scale.size != shape[axis]:
        raise InputError(
            _doing(node),
            found=f"{scale.size} scales in {scale.ndim} axes",
            expected=f"{shape[axis]} scales, one for each channel along axis {axis}",
        )


def _check_zero_point(graph: NodeGraph, node: Node, scale: NDArray[Any]) -> None:
    zero_point = graph.value(node.reads[2])
    if zero_point is None:
        raise InputError(
            _doing(node), found="a zero point only known at run time", expected="a constant"
        )
    levels = node.reads[0] if node.kind == "DequantizeLinear" else node.writes[0]
    if str(zero_point.dtype) != graph.dtype(levels):
        raise InputError(
            _doing(node),
            found=f"a zero point of {zero_point.dtype}",
            expected=f"{graph.dtype(levels)}, as '{levels}' is",
        )
    if zero_point.size != scale.size:
        raise InputError(
            _doing(node), found=f"{zero_point.size} zero points", expected=f"{scale.size}"
        )


def _doing(node: Node) -> str:
    return f"reading operator '{node.name}' ({node.kind})"
