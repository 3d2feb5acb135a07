"""Let an operator finish what comes behind it: activations, residual sums, shapes.

Only what nothing else reads, and the caller does not receive, can be left out.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
import numpy as np

from edgekit.compiler.graph.fusion.quantized import LEVELS
from edgekit.compiler.graph.nodes.node_graph import NodeGraph, Step
from edgekit.compiler.graph.operators import (
    AddLevels,
    Convolution,
    Dense,
    Elementwise,
    GlobalAverage,
    Lookup,
    Operator,
    Reshape,
    ToLevels,
    Unary,
)

_Bounded = TypeVar("_Bounded", ToLevels, AddLevels)


def fuse_epilogues(graph: NodeGraph) -> None:
    """Merge operators into those before them until nothing changes.

    Args:
        graph: Its operators; changed in place.
    """
    while any(
        merge(graph, step)
        for step in graph.steps
        for merge in (_merge_activation, _merge_residual, _merge_table, _merge_reshape)
    ):
        pass


def _merge_activation(graph: NodeGraph, step: Step) -> bool:
    """Put an activation into the product or sum before it."""
    if not isinstance(step, Unary):
        return False
    producer = graph.producer(step.reads[0])
    if graph.sole_reader(step.reads[0]) is not step:
        return False
    if not isinstance(producer, Convolution | Dense | Elementwise):
        return False
    if producer.activation is not None or isinstance(producer.result, ToLevels):
        return False
    _join(graph, producer, step, activation=step.activation)
    return True


def _merge_residual(graph: NodeGraph, step: Step) -> bool:
    """Put a sum of two tensors into the product that makes one of them, the later one first."""
    if not isinstance(step, Elementwise) or step.function != "add":
        return False
    order = sorted(step.reads, key=lambda name: _place(graph, name), reverse=True)
    return any(_fold_sum(graph, step, name) for name in order)


def _fold_sum(graph: NodeGraph, total: Elementwise, own: str) -> bool:
    first, second = total.reads
    residual = second if own == first else first
    producer = graph.producer(own)
    if not isinstance(producer, Convolution | Dense) or graph.sole_reader(own) is not total:
        return False
    if len(producer.reads) > 1 or producer.activation is not None:
        return False
    if graph.shape(own) != graph.shape(residual) or graph.dtype(own) != graph.dtype(residual):
        return False
    if total.add is None and producer.result is not None:
        return False
    add = total.add
    if add is not None and own != first:
        add = _swapped(add)
    if total.add is not None and not isinstance(producer.result, ToLevels):
        return False
    _join(
        graph,
        producer,
        total,
        reads=(producer.reads[0], residual),
        activation=total.activation,
        add=add,
    )
    return True


def _merge_table(graph: NodeGraph, step: Step) -> bool:
    """Let the operator before a table that only bounds levels keep to these bounds itself."""
    if not isinstance(step, Lookup):
        return False
    source = step.reads[0]
    producer = graph.producer(source)
    if graph.dtype(source) != graph.dtype(step.writes[0]) or graph.sole_reader(source) is not step:
        return False
    low, high = int(step.table.min()), int(step.table.max())
    levels = LEVELS[graph.dtype(source)]
    everything = np.arange(levels.low, levels.high + 1)
    if not np.array_equal(everything.clip(low, high), step.table):
        return False
    if not isinstance(producer, Convolution | Dense | Elementwise | GlobalAverage):
        return False
    add = None if isinstance(producer, GlobalAverage) else producer.add
    if add is not None:
        _join(graph, producer, step, add=_bounded(add, low, high))
    elif isinstance(producer.result, ToLevels):
        _join(graph, producer, step, result=_bounded(producer.result, low, high))
    else:
        return False
    return True


def _bounded(result: _Bounded, low: int, high: int) -> _Bounded:
    """Return a requantization with the bounds of a clip behind it."""
    return msgspec.structs.replace(
        result,
        low=min(max(result.low, low), high),
        high=min(max(result.high, low), high),
    )


def _merge_reshape(graph: NodeGraph, step: Step) -> bool:
    """Merge Reshapes in a row, let an average write its rows, move others behind activations."""
    source = step.reads[0] if step.reads else ""
    before = graph.producer(source)
    if isinstance(step, Unary) and isinstance(before, Reshape):
        return graph.sole_reader(source) is step and _swap(graph, before, step)
    if not isinstance(step, Reshape):
        return False
    if isinstance(before, Reshape):
        merged = msgspec.structs.replace(
            step, reads=before.reads, nodes=_union(before.nodes, step.nodes)
        )
        graph.replace([step], [merged])
        graph.prune()
        return True
    is_rows = graph.shape(step.writes[0]) == graph.shape(source)[:2]
    if isinstance(before, GlobalAverage) and is_rows and graph.sole_reader(source) is step:
        _join(graph, before, step)
        return True
    return _drop(graph, step)


def _swap(graph: NodeGraph, before: Reshape, step: Unary) -> bool:
    """Apply an activation before a Reshape instead of behind it."""
    source = before.reads[0]
    inner = graph.add_tensor(f"{source}_{step.activation.function}", graph.shape(source), "float32")
    graph.replace(
        [before, step],
        [
            msgspec.structs.replace(step, reads=(source,), writes=(inner,)),
            msgspec.structs.replace(before, reads=(inner,), writes=step.writes),
        ],
    )
    return True


def _drop(graph: NodeGraph, step: Reshape) -> bool:
    """Drop a Reshape to the shape its operand has."""
    source, result = step.reads[0], step.writes[0]
    if graph.shape(source) != graph.shape(result) or result in graph.outputs:
        return False
    graph.replace([step], [])
    graph.redirect(result, source)
    return True


def _join(graph: NodeGraph, first: Operator, second: Operator, **changes: object) -> None:
    merged = msgspec.structs.replace(
        first,
        nodes=_union(first.nodes, second.nodes),
        writes=second.writes,
        **changes,
    )
    graph.replace([first, second], [merged])


def _place(graph: NodeGraph, tensor: str) -> int:
    producer = graph.producer(tensor)
    return next((i for i, step in enumerate(graph.steps) if step is producer), -1)


def _swapped(add: AddLevels) -> AddLevels:
    return msgspec.structs.replace(
        add,
        first_multiplier=add.second_multiplier,
        first_zero_point=add.second_zero_point,
        second_multiplier=add.first_multiplier,
        second_zero_point=add.first_zero_point,
    )


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
