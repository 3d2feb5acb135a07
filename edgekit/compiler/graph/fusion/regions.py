"""Group what has no kernel of ours into regions, as large as they can be."""

from __future__ import annotations

from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph, Step, read_by
from edgekit.compiler.graph.nodes.read_onnx import nodes_as_model
from edgekit.compiler.graph.operators import Operator, Region, Reshape


def leave_light(graph: NodeGraph, light: list[tuple[Operator, Node]]) -> None:
    """Turn operators that do little back into nodes where they stand between nodes.

    TVM fuses them into what is beside them, which saves a pass over memory and a copy.

    Args:
        graph: With its operators fused; changed in place.
        light: From `fuse_float`.
    """
    is_changed = True
    while is_changed:
        is_changed = False
        present = {id(step) for step in graph.steps}
        for operator, node in light:
            if id(operator) in present and _is_among_nodes(graph, operator):
                graph.replace([operator], [node])
                is_changed = True


def _is_among_nodes(graph: NodeGraph, operator: Operator) -> bool:
    readers = [step for name in operator.writes for step in graph.readers(name)]
    behind = bool(readers) and all(isinstance(step, Node) for step in readers)
    before = all(isinstance(graph.producer(name), Node) for name in operator.reads)
    return before or behind if isinstance(operator, Reshape) else before and behind


def make_regions(graph: NodeGraph) -> None:
    """Replace every node that is left by a `Region`.

    Neighbouring nodes share a region unless something outside would then have to run both before
    and after it.

    Args:
        graph: With its operators; changed in place.
    """
    graph.prune()
    graph.sort()
    for members in _groups(graph):
        graph.replace(members, [_region(graph, members)])
    graph.sort()


def _groups(graph: NodeGraph) -> list[list[Node]]:
    group = {id(step): index for index, step in enumerate(graph.steps)}
    followers: dict[int, set[int]] = {index: set() for index in group.values()}
    edges = [
        (producer, step)
        for step in graph.steps
        for name in read_by(step)
        if (producer := graph.producer(name)) is not None
    ]
    for producer, step in edges:
        followers[group[id(producer)]].add(group[id(step)])
    for producer, step in edges:
        if isinstance(producer, Node) and isinstance(step, Node):
            first, second = group[id(producer)], group[id(step)]
            if first != second and not _detours(followers, first, second):
                _unite(group, followers, first, second)
    members: dict[int, list[Node]] = {}
    for node in graph.nodes():
        members.setdefault(group[id(node)], []).append(node)
    return list(members.values())


def _detours(followers: dict[int, set[int]], first: int, second: int) -> bool:
    """Tell whether a way leads from one group to another through a third."""
    seen = {first, second}
    waiting = [index for index in followers[first] if index not in seen]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if second in followers[current]:
            return True
        waiting.extend(followers[current])
    return False


def _unite(group: dict[int, int], followers: dict[int, set[int]], first: int, second: int) -> None:
    for key, index in group.items():
        if index == second:
            group[key] = first
    followers[first] = (followers[first] | followers.pop(second)) - {first, second}
    for after in followers.values():
        if second in after:
            after.discard(second)
            after.add(first)
    followers[first].discard(first)


def _region(graph: NodeGraph, nodes: list[Node]) -> Region:
    made = {name for node in nodes for name in node.writes if name}
    reads = dict.fromkeys(
        name
        for node in nodes
        for name in read_by(node)
        if name not in made and name not in graph.constants
    )
    inside = {id(node) for node in nodes}
    writes = [
        name
        for node in nodes
        for name in node.writes
        if name and (name in graph.outputs or _is_read(graph.readers(name), inside))
    ]
    model = nodes_as_model(
        nodes,
        inputs=[graph.tensors[name] for name in reads],
        outputs=[graph.tensors[name] for name in writes],
        constants=graph.constants,
        opset=graph.opset,
    )
    return Region(
        name=nodes[0].name,
        nodes=tuple(dict.fromkeys(name for node in nodes for name in node.nodes)),
        reads=tuple(reads),
        writes=tuple(writes),
        model=model.SerializeToString(deterministic=True),
        operators=tuple(node.kind for node in nodes),
    )


def _is_read(readers: list[Step], inside: set[int]) -> bool:
    return any(id(reader) not in inside for reader in readers)
