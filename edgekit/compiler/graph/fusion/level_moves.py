"""Let operators that only move values move levels, and drop what quantizes and undoes it.

Moving commutes with dequantizing, and with quantizing as well, since rounding keeps the order of
values: DequantizeLinear sinks below what only moves values, QuantizeLinear rises above it, and
where the two meet they cancel or become one `Rescale`.
"""

from __future__ import annotations

import msgspec
import numpy as np

from edgekit.arithmetic.requantize import multiplier
from edgekit.compiler.graph.fusion.quantized import (
    DEQUANTIZE,
    LEVELS,
    QUANTIZE,
    is_quantize,
    level_of,
    levels_behind,
    node_names,
    quantizer,
)
from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph, with_reads
from edgekit.compiler.graph.nodes.windows import pad_value
from edgekit.compiler.graph.operators import Rescale, ToLevels

_MOVES = frozenset(
    {
        *("Reshape", "Transpose", "MaxPool", "GlobalMaxPool", "Slice", "Split", "Gather", "Tile"),
        *("Expand", "DepthToSpace", "SpaceToDepth", "Resize", "Upsample", "Pad", "Concat"),
        *("Identity",),
    }
)


def move_levels(graph: NodeGraph) -> None:
    """Bring quantizing and dequantizing nodes together and merge them where they meet.

    Args:
        graph: With grids assigned; changed in place.
    """
    unify_quantizers(graph)
    while any(
        change(graph, node)
        for node in graph.nodes()
        if not node.domain
        for change in (_sink, _rise, _meet)
    ):
        graph.prune()


def unify_quantizers(graph: NodeGraph) -> None:
    """Make one node of those that quantize, or dequantize, the same tensor by the same grid."""
    seen: dict[tuple[object, ...], str] = {}
    for node in graph.nodes():
        if node.kind not in (QUANTIZE, DEQUANTIZE) or node.domain:
            continue
        found = quantizer(graph, node)
        if found is None or found.scales.size > 1 or node.writes[0] in graph.outputs:
            continue
        key = (
            (node.kind, node.reads[0], found.dtype),
            (float(found.scales[0]), int(found.zero_points[0])),
        )
        if key in seen:
            graph.replace([node], [])
            graph.redirect(node.writes[0], seen[key])
        else:
            seen[key] = node.writes[0]


def _sink(graph: NodeGraph, node: Node) -> bool:
    """Move levels instead of what they dequantize to."""
    if not _is_move(graph, node):
        return False
    reads = _data(node)
    sources = [levels_behind(graph, name) for name in reads]
    kinds = {(graph.tensors[name].grid, graph.dtype(name)) for name in sources if name}
    if len(kinds) != 1 or None in sources:
        return False
    dequantize = graph.producer(reads[0])
    assert isinstance(dequantize, Node)
    [(grid, dtype)] = kinds
    moved = [
        graph.add_tensor(f"{name}_levels", graph.shape(name), dtype, grid) if name else ""
        for name in node.writes
    ]
    named = tuple(name for name in sources if name)
    changed = _on_levels(graph, node, named, tuple(moved))
    behind = [
        msgspec.structs.replace(
            dequantize,
            name=graph.new_name(f"{node.name}_dequantize"),
            reads=(levels, *dequantize.reads[1:]),
            writes=(name,),
        )
        for levels, name in zip(moved, node.writes, strict=True)
        if name
    ]
    graph.replace([node], [changed, *behind])
    return True


def _rise(graph: NodeGraph, node: Node) -> bool:
    """Quantize before values are moved instead of behind it."""
    if not is_quantize(graph, node):
        return False
    move = graph.producer(node.reads[0])
    if not isinstance(move, Node) or graph.sole_reader(node.reads[0]) is not node:
        return False
    if not _is_move(graph, move) or len([name for name in move.writes if name]) != 1:
        return False
    if any(name in graph.constants for name in _data(move)):
        return False
    tensor = graph.tensors[node.writes[0]]
    above, levels = [], []
    for name in _data(move):
        shape = graph.shape(name)
        levels.append(graph.add_tensor(f"{name}_levels", shape, tensor.dtype, tensor.grid))
        quantize = msgspec.structs.replace(
            with_reads(node, (name, *node.reads[1:])),
            name=graph.new_name(f"{move.name}_quantize"),
            writes=(levels[-1],),
        )
        above.append(quantize)
    changed = _on_levels(graph, move, tuple(levels), node.writes)
    graph.replace([move, node], [*above, changed])
    unify_quantizers(graph)
    return True


def _meet(graph: NodeGraph, node: Node) -> bool:
    """Merge a QuantizeLinear with the DequantizeLinear it reads."""
    if not is_quantize(graph, node):
        return False
    source, result = levels_behind(graph, node.reads[0]), node.writes[0]
    if source is None:
        return False
    old, new = graph.tensors[source], graph.tensors[result]
    assert old.grid is not None
    assert new.grid is not None
    dequantize = graph.producer(node.reads[0])
    assert isinstance(dequantize, Node)
    nodes = node_names(dequantize, node)
    if (old.grid, old.dtype) == (new.grid, new.dtype):
        same = msgspec.structs.replace(
            node, kind="Identity", reads=(source,), nodes=nodes, attributes={}
        )
        graph.replace([node], [same])
        graph.bypass(same)
        return True
    levels = LEVELS[new.dtype]
    factor = multiplier(np.float32(old.grid.scale), np.float32(1), np.float32(new.grid.scale))
    rescale = Rescale(
        name=node.name,
        nodes=nodes,
        reads=(source,),
        writes=(result,),
        input_zero_point=old.grid.zero_point,
        result=ToLevels(
            multipliers=np.atleast_1d(factor),
            zero_point=new.grid.zero_point,
            low=levels.low,
            high=levels.high,
        ),
    )
    graph.replace([node], [rescale])
    return True


def _is_move(graph: NodeGraph, node: Node) -> bool:
    if node.kind not in _MOVES or node.domain:
        return False
    if node.kind in ("Resize", "Upsample"):
        return node.text("mode", "nearest") == "nearest"
    if node.kind == "Pad":
        mode = node.text("mode", "constant")
        # Any level can be filled in, but only 0 is sure to be one.
        return graph.opset >= 11 and (mode != "constant" or pad_value(graph, node) == 0.0)
    if node.kind == "MaxPool":
        return not any(node.writes[1:])
    return True


def _data(node: Node) -> tuple[str, ...]:
    return node.reads if node.kind == "Concat" else node.reads[:1]


def _on_levels(
    graph: NodeGraph, node: Node, levels: tuple[str, ...], writes: tuple[str, ...]
) -> Node:
    rest = node.reads[len(levels) :]
    if node.kind == "Pad" and node.text("mode", "constant") == "constant":
        tensor = graph.tensors[levels[0]]
        assert tensor.grid is not None
        level = np.asarray(level_of(0.0, tensor.grid, tensor.dtype), tensor.dtype)
        rest = (rest[0], graph.add_constant(f"{node.name}_level", level), *rest[2:])
    return msgspec.structs.replace(node, reads=(*levels, *rest), writes=writes)
