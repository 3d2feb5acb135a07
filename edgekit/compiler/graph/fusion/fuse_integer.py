"""Replace quantized patterns by integer operators.

A pattern is a node that reads dequantized levels and whose result is quantized again, through
nothing but clips. Levels between two operators stay levels: nothing is computed in another grid
than the one the model states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgekit.compiler.graph.fusion.float_values import is_float
from edgekit.compiler.graph.fusion.integer_products import integer_convolution, integer_dense
from edgekit.compiler.graph.fusion.integer_values import integer_average, integer_binary
from edgekit.compiler.graph.fusion.level_moves import move_levels
from edgekit.compiler.graph.fusion.quantized import (
    DEQUANTIZE,
    assign_grids,
    is_quantize,
    levels_behind,
)
from edgekit.compiler.graph.fusion.tables import fuse_tables
from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.compiler.graph.operators import Dequantize, Quantize

_PATTERNS: Mapping[str, Callable[[NodeGraph, Node], bool]] = {
    "Conv": integer_convolution,
    **dict.fromkeys(("Gemm", "MatMul"), integer_dense),
    **dict.fromkeys(("Add", "Sub", "Mul"), integer_binary),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean"), integer_average),
}


def fuse_integer(graph: NodeGraph) -> None:
    """Replace every quantized pattern there is an integer operator for.

    Args:
        graph: Clean, with dequantized constants unfolded; changed in place.
    """
    assign_grids(graph)
    move_levels(graph)
    fuse_tables(graph)
    for node in graph.nodes():
        if node.kind in _PATTERNS and not node.domain:
            _PATTERNS[node.kind](graph, node)
    graph.prune()


def fuse_borders(graph: NodeGraph) -> None:
    """Make operators of the quantizing and dequantizing nodes that stand alone."""
    for node in graph.nodes():
        kind: type[Quantize | Dequantize] | None = None
        if is_quantize(graph, node) and is_float(graph, node.reads[0]):
            kind = Quantize
        elif node.kind == DEQUANTIZE and levels_behind(graph, node.writes[0]):
            kind = Dequantize
        if kind is not None:
            made = kind(name=node.name, nodes=node.nodes, reads=node.reads[:1], writes=node.writes)
            graph.replace([node], [made])
