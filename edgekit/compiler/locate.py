"""Find the first layer at which two runs of one model part ways.

Comparing outputs says that an engine is wrong, not where. Here tensors inside the graph become
outputs as well: a few per round, spread over the part that is still in doubt, because a device
takes a limited number of outputs and each one keeps an operator from being fused away. A few
rounds are enough to name one node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from edgekit.compiler.onnx_tensors import is_known_dtype
from edgekit.compiler.session import open_session, run_session

if TYPE_CHECKING:
    import numpy as np
    import onnx

    RunVariant = Callable[[onnx.ModelProto, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """Name the first node whose output is wrong although its inputs are right.

    Args:
        node: Name of the node, or its type and number where it has none.
        operator: Its type.
        tensor: The output that differs.
        max_abs: Largest difference.
        range: Largest absolute reference value.
        snr_db: Signal-to-noise ratio of the whole tensor in dB.
    """

    node: str
    operator: str
    tensor: str
    max_abs: float
    range: float
    snr_db: float


class _Layer(msgspec.Struct, frozen=True):
    node: str
    operator: str
    tensor: str


def intermediates(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], *, num_threads: int = 1
) -> dict[str, np.ndarray]:
    """Return every tensor the model computes, run node by node as written.

    Args:
        model: A checked model.
        inputs: Arrays by input name, items along axis 0.
        num_threads: Threads inside an operator.

    Returns:
        Arrays by tensor name, in topological order; outputs of operators whose type ONNX cannot
        infer are missing.
    """
    names = [layer.tensor for layer in _layers(model)]
    session = open_session(expose(model, names), num_threads=num_threads, optimization="off")
    return run_session(session, inputs, outputs=names)


def expose(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """Return a copy whose outputs are the model's own and `tensors`."""
    import onnx

    types = _types(model)
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    present = {info.name for info in exposed.graph.output}
    for name in tensors:
        if name not in present:
            exposed.graph.output.append(types[name])
    return exposed


def first_divergence(
    model: onnx.ModelProto,
    inputs: Mapping[str, np.ndarray],
    run_variant: RunVariant,
    *,
    tolerance: float,
    max_outputs: int = 16,
) -> Divergence | None:
    """Find the first node, in topological order, whose output leaves the reference.

    Args:
        model: A checked model.
        inputs: Arrays by input name; one item is enough and fastest.
        run_variant: Compiles and runs a model with further outputs; returns arrays by name.
        tolerance: Largest difference allowed, as a share of the tensor's largest value.
        max_outputs: Tensors looked at in one round, at least 2.

    Returns:
        The node, or None when no tensor differs by more than the tolerance.
    """
    reference = intermediates(model, inputs)
    layers = [layer for layer in _layers(model) if _is_comparable(reference[layer.tensor])]
    first, last = 0, len(layers)  # the culprit is in layers[first:last], if anywhere
    found: Divergence | None = None
    while first < last:
        probes = _spread(first, last, max_outputs)
        names = [layers[probe].tensor for probe in probes]
        results = run_variant(expose(model, names), inputs)
        differing = (
            (probe, difference)
            for probe in probes
            if (difference := _compare(layers[probe], reference, results, tolerance))
        )
        probe, difference = next(differing, (last, None))
        # Everything up to the probe before this one agreed.
        first = max((known for known in probes if known < probe), default=first - 1) + 1
        if difference is None:
            return found
        found, last = difference, probe
    return found


def _layers(model: onnx.ModelProto) -> list[_Layer]:
    types = _types(model)
    return [
        _Layer(node.name or f"{node.op_type}_{index}", node.op_type, name)
        for index, node in enumerate(model.graph.node)
        for name in node.output
        if name in types
    ]


def _types(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    return {info.name: info for info in (*graph.value_info, *graph.output) if is_known_dtype(info)}


def _spread(first: int, last: int, count: int) -> list[int]:
    """Return up to `count` numbers spread over [first, last), the last one among them."""
    total = last - first
    steps = min(total, count)
    return [first + math.ceil((index + 1) * total / steps) - 1 for index in range(steps)]


def _is_comparable(array: np.ndarray) -> bool:
    return bool(array.size and array.dtype.kind in "fiu")


def _compare(
    layer: _Layer,
    reference: Mapping[str, np.ndarray],
    results: Mapping[str, np.ndarray],
    tolerance: float,
) -> Divergence | None:
    import numpy as np

    expected = reference[layer.tensor].astype(np.float64).ravel()
    actual = results[layer.tensor].astype(np.float64).ravel()
    error = np.abs(expected - actual)
    scale = float(np.max(np.abs(expected)))
    # Written so that a NaN in either tensor counts as a difference.
    if bool(np.all(error <= tolerance * scale)):
        return None
    noise, signal = float(np.sum(error**2)), float(np.sum(expected**2))
    return Divergence(
        node=layer.node,
        operator=layer.operator,
        tensor=layer.tensor,
        max_abs=float(np.max(error)),
        range=scale,
        snr_db=10 * math.log10(signal / noise) if signal > 0 and noise > 0 else -math.inf,
    )
