"""Sums, products and averages of levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.arithmetic.requantize import multiplier
from edgekit.compiler.graph.fusion.float_products import is_image
from edgekit.compiler.graph.fusion.float_values import spread_order
from edgekit.compiler.graph.fusion.quantized import (
    Following,
    following,
    levels_behind,
    node_names,
)
from edgekit.compiler.graph.fusion.spatial import covers_all, divisors, is_spatial_mean
from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.compiler.graph.nodes.windows import Window, window_of
from edgekit.compiler.graph.operators import (
    AddLevels,
    Elementwise,
    GlobalAverage,
    Operator,
    Pool,
)
from edgekit.compiler.graph.tensors import Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray


def integer_binary(graph: NodeGraph, node: Node) -> bool:
    """Replace an Add, Sub or Mul of two tensors of levels; returns whether it was one."""
    behind = following(graph, node.writes[0])
    if behind is None or len(node.reads) != 2:
        return False
    order = spread_order(graph, node, is_commutative=node.kind != "Sub")
    if order is None:
        return False
    sources = tuple(levels_behind(graph, name) for name in order)
    if sources[0] is None or sources[1] is None:
        return False
    first, second = (graph.tensors[name].grid for name in sources if name)
    assert first is not None
    assert second is not None
    make = _product if node.kind == "Mul" else _sum
    reads = (sources[0], sources[1])
    graph.replace([node, *behind.nodes], [make(node, reads, (first, second), behind)])
    return True


def integer_average(graph: NodeGraph, node: Node) -> bool:
    """Replace an average of levels, over windows or over all; returns whether it was one."""
    source = levels_behind(graph, node.reads[0])
    behind = following(graph, node.writes[0])
    if source is None or behind is None or not is_image(graph, source):
        return False
    grid = graph.tensors[source].grid
    assert grid is not None
    shape = graph.shape(source)
    if is_spatial_mean(graph, node):
        made = _global_average(node, source, grid, shape[2] * shape[3], behind)
    elif node.kind == "AveragePool":
        window = window_of(graph, node, node.integers("kernel_shape"))
        made = _average_pool(graph, node, source, grid, window, behind)
        if covers_all(window, shape):
            made = _global_average(node, source, grid, shape[2] * shape[3], behind)
    else:
        return False
    graph.replace([node, *behind.nodes], [made])
    return True


def _sum(
    node: Node, reads: tuple[str, str], grids: tuple[Grid, Grid], behind: Following
) -> Operator:
    scale = np.float32(behind.grid.scale)
    first, second = (
        float(multiplier(np.float32(grid.scale), np.float32(1), scale)) for grid in grids
    )
    return Elementwise(
        name=node.name,
        nodes=node_names(node, *behind.nodes),
        reads=reads,
        writes=(behind.tensor,),
        function="add",
        add=AddLevels(
            first_multiplier=first,
            first_zero_point=grids[0].zero_point,
            second_multiplier=-second if node.kind == "Sub" else second,
            second_zero_point=grids[1].zero_point,
            zero_point=behind.grid.zero_point,
            low=behind.low,
            high=behind.high,
        ),
    )


def _product(
    node: Node, reads: tuple[str, str], grids: tuple[Grid, Grid], behind: Following
) -> Operator:
    first, second = (np.float32(grid.scale) for grid in grids)
    return Elementwise(
        name=node.name,
        nodes=node_names(node, *behind.nodes),
        reads=reads,
        writes=(behind.tensor,),
        function="mul",
        zero_points=(grids[0].zero_point, grids[1].zero_point),
        result=behind.levels(multiplier(first, second, np.float32(behind.grid.scale))),
    )


def _global_average(node: Node, source: str, grid: Grid, count: int, behind: Following) -> Operator:
    return GlobalAverage(
        name=node.name,
        nodes=node_names(node, *behind.nodes),
        reads=(source,),
        writes=(behind.tensor,),
        input_zero_point=grid.zero_point,
        result=behind.levels(_over(grid, behind.grid, np.asarray([count]))),
    )


def _average_pool(
    graph: NodeGraph, node: Node, source: str, grid: Grid, window: Window, behind: Following
) -> Operator:
    counts = divisors(graph, node, window)
    is_even = bool((counts == counts.flat[0]).all())
    return Pool(
        name=node.name,
        nodes=node_names(node, *behind.nodes),
        reads=(source,),
        writes=(behind.tensor,),
        mode="average",
        window=window.size,
        strides=window.strides,
        pads=window.pads,
        dilations=window.dilations,
        divisors=counts,
        input_zero_point=grid.zero_point,
        result=behind.levels(
            _over(grid, behind.grid, counts.ravel()[:1] if is_even else counts.ravel())
        ),
    )


def _over(grid: Grid, result: Grid, counts: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return input scale over output scale over the numbers of values, rounded once."""
    scales = np.float64(np.float32(grid.scale)) / np.float64(np.float32(result.scale))
    return (scales / counts).astype(np.float32)
