"""From an ONNX model to the operator graph.

ONNX is read directly, not through TVM's importer: names and attributes stay exact, quantized
patterns stay recognisable, and what one operator lacks costs that operator only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.compiler.graph.check import check_nodes
from edgekit.compiler.graph.fusion.epilogues import fuse_epilogues
from edgekit.compiler.graph.fusion.fuse_float import fuse_float
from edgekit.compiler.graph.fusion.fuse_integer import fuse_borders, fuse_integer
from edgekit.compiler.graph.fusion.named_functions import name_functions
from edgekit.compiler.graph.fusion.regions import leave_light, make_regions
from edgekit.compiler.graph.nodes.cleanup import clean
from edgekit.compiler.graph.nodes.constants import (
    fold_dequantized,
    fold_quantized,
    hand_out_constants,
    settle,
)
from edgekit.compiler.graph.nodes.dynamic_quantization import expand_dynamic
from edgekit.compiler.graph.nodes.node_graph import NodeGraph
from edgekit.compiler.graph.nodes.qlinear import expand_qlinear
from edgekit.compiler.graph.nodes.read_onnx import read_onnx
from edgekit.compiler.graph.nodes.windows import merge_pads
from edgekit.compiler.graph.operators import Network, Operator

if TYPE_CHECKING:
    import onnx


def read_network(model: onnx.ModelProto) -> Network:
    """Read a model into operators with kernels of our own, and regions of all others.

    Args:
        model: Checked, with fixed shapes of inputs and outputs.

    Returns:
        The network; names of inputs, outputs and inner tensors are the model's.

    Raises:
        InputError: A size is only known at run time, a type is not handled, or a quantized pattern
            is wrong; the node is named.
    """
    graph = read_onnx(model)
    expand_qlinear(graph)
    expand_dynamic(graph)
    settle(graph)
    check_nodes(graph)
    fold_quantized(graph)
    clean(graph)
    merge_pads(graph)
    fuse_integer(graph)
    fold_dequantized(graph)
    clean(graph)
    merge_pads(graph)
    hand_out_constants(graph)
    name_functions(graph)
    light = fuse_float(graph)
    fuse_borders(graph)
    fuse_epilogues(graph)
    leave_light(graph, light)
    make_regions(graph)
    return _network(graph)


def _network(graph: NodeGraph) -> Network:
    operators = [step for step in graph.steps if isinstance(step, Operator)]
    assert len(operators) == len(graph.steps), "a node is left"
    named = dict.fromkeys(graph.inputs)
    named |= dict.fromkeys(name for item in operators for name in (*item.reads, *item.writes))
    return Network(
        tensors={name: graph.tensors[name] for name in named},
        operators=tuple(operators),
        inputs=graph.inputs,
        outputs=graph.outputs,
    )
