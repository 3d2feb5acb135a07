"""The first layer at which an ONNX graph parts from the model it was made from.

A wrong output says nothing about where it went wrong. Here every inner value of the graph is
computed and held against a reference value of the same meaning, in the order of the graph; the
first that differs is the layer to look at, since everything after it is wrong as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from edgekit.arithmetic.similarity import snr_db
from edgekit.evaluation.parity import Tolerance, is_within
from edgekit.evaluation.predict import run_whole

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    Array = NDArray[Any]


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """Name the first layer that differs.

    Args:
        layer: Node name, which is the module's name in exported graphs.
        op: Operator type.
        value: Name of the graph value.
        snr_db: Signal over difference at that value; None where a value is not finite.
    """

    layer: str
    op: str
    value: str
    snr_db: float | None

    def __str__(self) -> str:
        found = "NaN or infinity" if self.snr_db is None else f"SNR {self.snr_db:.1f} dB"
        return f"'{self.layer}' ({self.op}, {found})"


def first_divergence(
    graph: onnx.ModelProto,
    reference: Mapping[str, Array],
    values: Mapping[str, Array],
    tolerance: Tolerance | None = None,
) -> Divergence | None:
    """Return the first layer whose value differs from its reference.

    Args:
        graph: The graph whose order decides what is first.
        reference: Right values by the graph's value names; missing ones are not judged.
        values: Values of the graph, from `graph_values`.
        tolerance: How far a layer may be off.
    """
    wanted = tolerance or Tolerance()
    for node in graph.graph.node:
        for name in node.output:
            if name not in reference or name not in values:
                continue
            right, found = reference[name], values[name]
            if right.shape != found.shape or right.dtype.kind not in "fiu":
                continue
            if not _is_finite(found) and _is_finite(right):
                return Divergence(layer=node.name, op=node.op_type, value=name, snr_db=None)
            # Masks of attention are infinite on both sides, which is no difference.
            if not _is_finite(right) or not _is_finite(found):
                continue
            if not is_within({name: right}, {name: found}, wanted):
                ratio = snr_db(right, found)
                return Divergence(layer=node.name, op=node.op_type, value=name, snr_db=ratio)
    return None


def graph_values(
    graph: onnx.ModelProto,
    inputs: Mapping[str, Array],
    *,
    optimize: bool = False,
) -> dict[str, Array]:
    """Return every inner value and output of a graph by its name.

    Args:
        graph: The ONNX graph, batch open or as large as the inputs.
        inputs: Arrays by input name; few items, since all values are held at once.
        optimize: Whether onnxruntime may rewrite the graph; what it may not do is fuse away a
            value that is asked for.

    Raises:
        InputError: onnxruntime refuses the graph or the inputs.
    """
    import onnx

    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    known = {info.name for info in watched.graph.output}
    for node in watched.graph.node:
        for name in node.output:
            if name and name not in known:
                # Without a type: onnxruntime infers it, and a wrong guess would be an error.
                watched.graph.output.append(onnx.ValueInfoProto(name=name))
                known.add(name)
    return run_whole(watched, inputs, optimize=optimize)


def _is_finite(array: Array) -> bool:
    import numpy as np

    return bool(np.isfinite(array).all())
