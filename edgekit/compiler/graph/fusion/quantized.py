"""Read QuantizeLinear and DequantizeLinear: grids of activations, levels of weights and biases.

A tensor of levels carries its grid from here on. A DequantizeLinear that reads it by another grid,
or one grid per channel, is no operand of an integer operator and stays a node.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgekit.arithmetic.affine import INT8, UINT8, Levels
from edgekit.compiler.graph.fusion.float_values import clip_bounds
from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.compiler.graph.operators import ToLevels
from edgekit.compiler.graph.tensors import Grid
from edgekit.compiler.onnx_tensors import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
LEVELS: dict[str, Levels] = {"uint8": UINT8, "int8": INT8}


class Quantizer(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold the parameters of a QuantizeLinear or DequantizeLinear.

    Args:
        scales: float32, [1] for one grid, [channels] along `axis`.
        zero_points: int32, same shape.
        dtype: Of the levels.
        axis: Of the channels; of no meaning for one grid.
    """

    scales: NDArray[np.float32]
    zero_points: NDArray[np.int32]
    dtype: str
    axis: int

    @property
    def grid(self) -> Grid | None:
        """Return the one grid of 8-bit levels, or None."""
        if self.scales.size != 1 or self.dtype not in LEVELS:
            return None
        return Grid(scale=float(self.scales[0]), zero_point=int(self.zero_points[0]))


class Weights(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold a dequantized constant.

    Args:
        values: Its levels less their zero points, int32.
        scales: float32 [1] or [channels].
        axis: Of the channels.
    """

    values: NDArray[np.int32]
    scales: NDArray[np.float32]
    axis: int


class Following(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold what leads from a float result to levels: clips and a QuantizeLinear.

    Args:
        nodes: All of them; nothing else reads what is between.
        tensor: The levels.
        grid: Their grid.
        low: Smallest level that passes the clips.
        high: Largest level.
    """

    nodes: tuple[Node, ...]
    tensor: str
    grid: Grid
    low: int
    high: int

    def levels(self, multipliers: NDArray[np.float32]) -> ToLevels:
        """Return the requantization by these multipliers."""
        return ToLevels(
            multipliers=np.atleast_1d(multipliers),
            zero_point=self.grid.zero_point,
            low=self.low,
            high=self.high,
        )


def quantizer(graph: NodeGraph, node: Node) -> Quantizer | None:
    """Return the parameters of a node, None when they are in blocks or not known before the run."""
    scale = graph.value(node.operand(1))
    if scale is None or node.integer("block_size", 0) or str(scale.dtype) != "float32":
        return None
    if node.operand(2):
        zero_point = graph.value(node.operand(2))
        if zero_point is None:
            return None
    else:
        zero_point = np.zeros(scale.shape, _default_dtype(graph, node))
    rank = len(graph.shape(node.reads[0]))
    axis = node.integer("axis", 1)
    return Quantizer(
        scales=scale.astype(np.float32).ravel(),
        zero_points=np.broadcast_to(zero_point.astype(np.int32).ravel(), (scale.size,)),
        dtype=str(zero_point.dtype),
        axis=axis % rank if rank else 0,
    )


def assign_grids(graph: NodeGraph) -> None:
    """Give every tensor of levels the grid of those who write or read it."""
    for kind, place in ((QUANTIZE, "writes"), (DEQUANTIZE, "reads")):
        for node in graph.nodes():
            if node.kind != kind or node.domain:
                continue
            tensor = getattr(node, place)[0]
            found = quantizer(graph, node)
            if tensor in graph.constants or found is None or found.grid is None:
                continue
            known = graph.tensors[tensor]
            if known.grid is None and known.dtype == found.dtype:
                graph.tensors[tensor] = msgspec.structs.replace(known, grid=found.grid)


def levels_behind(graph: NodeGraph, tensor: str) -> str | None:
    """Return the tensor of levels that a float tensor is the dequantized form of."""
    node = graph.maker(tensor, DEQUANTIZE)
    if node is None or node.reads[0] in graph.constants:
        return None
    found = quantizer(graph, node)
    source = node.reads[0]
    grid = graph.tensors[source].grid
    return source if found is not None and grid is not None and found.grid == grid else None


def is_quantize(graph: NodeGraph, node: Node) -> bool:
    """Tell whether a node gives a tensor of levels with a grid."""
    if node.kind != QUANTIZE or node.domain:
        return False
    return node.reads[0] not in graph.constants and graph.tensors[node.writes[0]].grid is not None


def weights_behind(graph: NodeGraph, tensor: str) -> Weights | None:
    """Return the levels of a dequantized constant, also through a Transpose."""
    transpose = graph.maker(tensor, "Transpose")
    node = graph.maker(transpose.reads[0] if transpose else tensor, DEQUANTIZE)
    if node is None or node.reads[0] not in graph.constants:
        return None
    found = quantizer(graph, node)
    if found is None:
        return None
    stored = graph.constants[node.reads[0]].astype(np.int32)
    spread = [1] * stored.ndim
    if found.scales.size > 1:
        spread[found.axis] = -1
    values, axis = stored - found.zero_points.reshape(spread), found.axis
    if transpose is not None:
        order = transpose.integers("perm", range(values.ndim)[::-1])
        values, axis = values.transpose(order), order.index(axis)
    return Weights(values=values, scales=found.scales, axis=axis)


def real_constant(graph: NodeGraph, tensor: str) -> NDArray[np.float64] | None:
    """Return the real value of a float constant or of a dequantized one."""
    value = graph.value(tensor)
    if value is not None:
        return value.astype(np.float64)
    found = weights_behind(graph, tensor)
    if found is None:
        return None
    spread = [1] * found.values.ndim
    if found.scales.size > 1:
        spread[found.axis] = -1
    return found.values * found.scales.astype(np.float64).reshape(spread)


def following(graph: NodeGraph, tensor: str) -> Following | None:
    """Follow a float tensor to the one QuantizeLinear that reads it, through ReLUs and clips.

    Rounding keeps the order of values, so that a clip before it is a clip of levels behind it.
    """
    nodes: list[Node] = []
    low, high = -math.inf, math.inf
    while True:
        node = graph.sole_reader(tensor)
        if not isinstance(node, Node) or node.domain or node.reads[0] != tensor:
            return None
        nodes.append(node)
        if is_quantize(graph, node):
            break
        bounds = clip_bounds(graph, node) if node.kind in ("Relu", "Clip") else None
        if bounds is None:
            return None
        low, high = (min(max(value, bounds[0]), bounds[1]) for value in (low, high))
        tensor = node.writes[0]
    levels = nodes[-1].writes[0]
    grid = graph.tensors[levels].grid
    assert grid is not None
    lowest, highest = (level_of(value, grid, graph.dtype(levels)) for value in (low, high))
    return Following(nodes=tuple(nodes), tensor=levels, grid=grid, low=lowest, high=highest)


def level_of(value: float, grid: Grid, dtype: str) -> int:
    """Return the level of one real number, as QuantizeLinear defines it."""
    levels = LEVELS[dtype]
    with np.errstate(over="ignore"):
        scaled = float(np.rint(np.float32(value) / np.float32(grid.scale)))
    return int(min(max(scaled, levels.low - grid.zero_point), levels.high - grid.zero_point)) + (
        grid.zero_point
    )


def node_names(*nodes: Node) -> tuple[str, ...]:
    """Return the names of all nodes of the model that some nodes stand for."""
    return tuple(dict.fromkeys(name for node in nodes for name in node.nodes))


def _default_dtype(graph: NodeGraph, node: Node) -> str:
    if node.kind == DEQUANTIZE:
        return graph.dtype(node.reads[0])
    return DTYPES.get(node.integer("output_dtype", 0), "uint8")
