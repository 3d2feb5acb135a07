"""Convolutions and matrix products of levels with 8-bit weights.

A weight is taken as it is stored, less its zero point; a product whose weights then leave int8, or
whose sums could leave int32, stays a float operator.

A bias is an int32 number of accumulator units (input scale times weight scale). One stored as
float, or in another unit, is rounded to that unit where this moves the result by at most a
sixteenth of a level, or where the result is float; otherwise the product stays float.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgekit.arithmetic.requantize import multiplier
from edgekit.compiler.graph.fusion.float_products import is_image, lifted, lowered
from edgekit.compiler.graph.fusion.quantized import (
    Following,
    Weights,
    following,
    levels_behind,
    node_names,
    real_constant,
    weights_behind,
)
from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.compiler.graph.nodes.windows import pad_value, spatial_pads, window_of
from edgekit.compiler.graph.operators import Convolution, Dense, ToFloat, ToLevels

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_SHIFT = 1 / 16
_SAME_UNIT = 1e-6


class Product(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold what all products of levels have in common.

    Args:
        source: Levels of the input.
        zero_point: Of the input.
        weights: int8, outputs first.
        bias: int32 [outputs].
        result: Levels or floats.
        nodes: The product, its bias, clips and QuantizeLinear.
        writes: Name of the result.
    """

    source: str
    zero_point: int
    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    result: ToLevels | ToFloat
    nodes: tuple[Node, ...]
    writes: str


def integer_convolution(graph: NodeGraph, node: Node) -> bool:
    """Replace a Conv of levels; returns whether it was one."""
    weights = weights_behind(graph, node.operand(1))
    if weights is None or not is_image(graph, node.reads[0], ranks=(3, 4)):
        return False
    product = _product(graph, (node,), weights, node.operand(2), channel_axis=0)
    if product is None:
        return False
    window = window_of(graph, node, weights.values.shape[2:])
    (source, pads), result = _without_pad(graph, product, window.pads), product.writes
    is_line = len(graph.shape(node.reads[0])) == 3
    source, before = lifted(graph, node, source) if is_line else (source, [])
    result, after = lowered(graph, node, result) if is_line else (result, [])
    outputs, inputs = product.weights.shape[:2]
    made = Convolution(
        name=node.name,
        nodes=node_names(*product.nodes),
        reads=(source,),
        writes=(result,),
        weights=product.weights.reshape(outputs, inputs, *window.size),
        bias=product.bias,
        strides=window.strides,
        pads=pads,
        dilations=window.dilations,
        groups=node.integer("group", 1),
        input_zero_point=product.zero_point,
        result=product.result,
    )
    graph.replace(product.nodes, [*before, made, *after])
    return True


def integer_dense(graph: NodeGraph, node: Node) -> bool:
    """Replace a Gemm or MatMul of levels by constant weights; returns whether it was one."""
    weights = weights_behind(graph, node.operand(1))
    if weights is None or weights.values.ndim != 2 or len(graph.shape(node.reads[0])) < 2:
        return False
    nodes: tuple[Node, ...] = (node,)
    bias, outputs_axis = node.operand(2), 1
    if node.kind == "Gemm":
        is_scaled = node.number("alpha", 1.0) != 1.0 or (bias and node.number("beta", 1.0) != 1.0)
        if node.integer("transA", 0) or is_scaled:
            return False
        outputs_axis = 0 if node.integer("transB", 0) else 1
    else:
        nodes, bias = _with_bias(graph, node)
    product = _product(graph, nodes, weights, bias, channel_axis=outputs_axis)
    if product is None:
        return False
    made = Dense(
        name=node.name,
        nodes=node_names(*product.nodes),
        reads=(product.source,),
        writes=(product.writes,),
        weights=product.weights,
        bias=product.bias,
        input_zero_point=product.zero_point,
        result=product.result,
    )
    graph.replace(product.nodes, [made])
    return True


def _without_pad(
    graph: NodeGraph, product: Product, pads: tuple[int, int, int, int]
) -> tuple[str, tuple[int, int, int, int]]:
    """Return what a Pad by the zero point reads, and the convolution's pads with its own."""
    pad = graph.maker(product.source, "Pad")
    more = spatial_pads(graph, pad) if pad else None
    if pad is None or more is None or pad_value(graph, pad) != product.zero_point:
        return product.source, pads
    top, left, bottom, right = more if len(more) == 4 else (0, more[0], 0, more[1])
    return pad.reads[0], (pads[0] + top, pads[1] + left, pads[2] + bottom, pads[3] + right)


def _with_bias(graph: NodeGraph, node: Node) -> tuple[tuple[Node, ...], str]:
    """Return a MatMul with the sum behind it, and the name of what is added."""
    behind = graph.sole_reader(node.writes[0])
    if isinstance(behind, Node) and behind.kind == "Add" and not behind.domain:
        bias = next((name for name in behind.reads if name != node.writes[0]), "")
        value = real_constant(graph, bias) if bias else None
        is_row = value is not None and value.size in (1, *value.shape[-1:])
        if is_row and graph.shape(behind.writes[0]) == graph.shape(node.writes[0]):
            return (node, behind), bias
    return (node,), ""


def _product(
    graph: NodeGraph, nodes: tuple[Node, ...], weights: Weights, bias: str, *, channel_axis: int
) -> Product | None:
    source = levels_behind(graph, nodes[0].reads[0])
    if source is None or (weights.scales.size > 1 and weights.axis != channel_axis):
        return None
    values = np.ascontiguousarray(np.moveaxis(weights.values, channel_axis, 0))
    if values.min(initial=0) < -128 or values.max(initial=0) > 127:
        return None
    grid = graph.tensors[source].grid
    assert grid is not None
    scale = np.float32(grid.scale)
    behind = following(graph, nodes[-1].writes[0])
    result: ToLevels | ToFloat
    if behind is None:
        factors = np.atleast_1d(multiplier(scale, weights.scales, np.float32(1)))
        result = ToFloat(multipliers=factors)
    else:
        factors = multiplier(scale, weights.scales, np.float32(behind.grid.scale))
        result = behind.levels(factors)
    units = np.float64(scale) * weights.scales.astype(np.float64)
    offsets = _bias(graph, bias, units, len(values), behind, result)
    if offsets is None or not _fits(values, offsets):
        return None
    return Product(
        source=source,
        zero_point=grid.zero_point,
        weights=values.astype(np.int8),
        bias=offsets.astype(np.int32),
        result=result,
        nodes=nodes + (behind.nodes if behind else ()),
        writes=behind.tensor if behind else nodes[-1].writes[0],
    )


def _bias(
    graph: NodeGraph,
    name: str,
    units: NDArray[np.float64],
    count: int,
    behind: Following | None,
    result: ToLevels | ToFloat,
) -> NDArray[np.int64] | None:
    """Return a bias in units of the accumulators, None when it cannot be told or rounded."""
    if not name:
        return np.zeros(count, np.int64)
    stored = weights_behind(graph, name)
    if stored is not None and stored.values.size in (1, count):
        scales = stored.scales.astype(np.float64)
        if scales.size in (1, units.size) and bool(np.all(abs(scales / units - 1) < _SAME_UNIT)):
            return np.broadcast_to(stored.values.ravel(), (count,)).astype(np.int64)
    real = real_constant(graph, name)
    if real is None or real.size not in (1, count):
        return None
    if behind is not None and float(result.multipliers.max()) / 2 > _LARGEST_SHIFT:
        return None
    rounded = np.rint(real.ravel() / units)
    if not bool(np.all(abs(rounded) < 2**31)):
        return None
    return np.broadcast_to(rounded, (count,)).astype(np.int64)


def _fits(values: NDArray[np.int32], offsets: NDArray[np.int64]) -> bool:
    """Tell whether no sum of levels times weights can leave int32."""
    sums = np.abs(values.reshape(len(values), -1).astype(np.int64)).sum(axis=1)
    return bool(np.all(255 * sums + np.abs(offsets) < 2**31))
