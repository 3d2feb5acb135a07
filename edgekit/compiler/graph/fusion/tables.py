"""Functions from levels to levels, as tables of 256 entries."""

from __future__ import annotations

import numpy as np

from edgekit.compiler.graph.fusion.cones import Cone, cones, evaluate_cone
from edgekit.compiler.graph.fusion.quantized import LEVELS, QUANTIZE, is_quantize, node_names
from edgekit.compiler.graph.nodes.node_graph import NodeGraph
from edgekit.compiler.graph.operators import Lookup


def fuse_tables(graph: NodeGraph) -> None:
    """Replace every function from levels to levels by a `Lookup`.

    The table holds what ONNX defines, computed in float32, so that it is exact.

    Args:
        graph: With grids assigned; changed in place.
    """

    def is_levels(name: str) -> bool:
        return name not in graph.constants and graph.tensors[name].grid is not None

    # From behind: x * hard-sigmoid(x) is one table, although its factor is one by itself.
    for node in reversed(list(graph.nodes())):
        if node.kind == QUANTIZE and graph.producer(node.writes[0]) is node:
            found = cones(graph, node.writes[0], is_levels) if is_quantize(graph, node) else []
            if found:
                graph.replace([node], [_lookup(graph, found[0])])
                graph.prune()


def _lookup(graph: NodeGraph, cone: Cone) -> Lookup:
    levels = LEVELS[graph.dtype(cone.source)]
    values = np.arange(levels.low, levels.high + 1).astype(levels.dtype)
    table = evaluate_cone(graph, cone, values).astype(graph.dtype(cone.result))
    return Lookup(
        name=cone.nodes[-1].name,
        nodes=node_names(*cone.nodes),
        reads=(cone.source,),
        writes=(cone.result,),
        table=table,
    )
