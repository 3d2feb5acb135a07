"""Translate ONNX nodes into operators with a kernel of our own, as far as there is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgekit.compiler.graph.fusion.affine import affine
from edgekit.compiler.graph.fusion.float_products import convolution, gemm, matmul
from edgekit.compiler.graph.fusion.float_values import (
    BINARY_KINDS,
    UNARY_KINDS,
    binary,
    concat,
    reshape,
    softmax,
    unary,
)
from edgekit.compiler.graph.fusion.spatial import average_pool, global_average, max_pool, resize
from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph
from edgekit.compiler.graph.operators import Elementwise, Operator, Reshape, Unary

Translation = Callable[[NodeGraph, Node], list[Operator] | None]

TRANSLATIONS: Mapping[str, tuple[Translation, ...]] = {
    **dict.fromkeys(UNARY_KINDS, (unary,)),
    **dict.fromkeys(BINARY_KINDS, (affine, binary)),
    "BatchNormalization": (affine,),
    "Conv": (convolution,),
    "Gemm": (gemm,),
    "MatMul": (matmul,),
    "MaxPool": (max_pool,),
    "GlobalMaxPool": (max_pool,),
    "AveragePool": (average_pool,),
    "GlobalAveragePool": (global_average,),
    "ReduceMean": (global_average,),
    "Resize": (resize,),
    "Upsample": (resize,),
    "Softmax": (softmax,),
    "Concat": (concat,),
    "Reshape": (reshape,),
    "Identity": (reshape,),
}
"""What may become of a node of each type, in the order in which it is tried."""


def fuse_float(graph: NodeGraph) -> list[tuple[Operator, Node]]:
    """Translate every node there is an operator for; the others stay.

    Args:
        graph: Clean, its quantized patterns translated already; changed in place.

    Returns:
        Operators that each stand for one node and do little, with that node.
    """
    light: list[tuple[Operator, Node]] = []
    for node in graph.nodes():
        for translate in TRANSLATIONS.get(node.kind, ()) if not node.domain else ():
            made = translate(graph, node)
            if made is not None:
                graph.replace([node], made)
                if len(made) == 1 and isinstance(made[0], Elementwise | Unary | Reshape):
                    light.append((made[0], node))
                break
    return light
