"""From a prepared float graph and calibration data to an int8 graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.compress.quant.backend import Quantized
from edgekit.compress.quant.calibration import Calibration, calibrate
from edgekit.compress.quant.graph import matching_nodes
from edgekit.compress.quant.observer import Range
from edgekit.compress.quant.qdq import (
    Operators,
    activations,
    chosen_nodes,
    out_of_range,
    write_qdq,
)
from edgekit.core.errors import InputError

if TYPE_CHECKING:
    import onnx


def quantize_static(
    model: onnx.ModelProto,
    calibration: Calibration,
    *,
    operators: Operators,
    per_channel: bool,
    ignored: Sequence[str] = (),
    known: Mapping[str, Range] | None = None,
) -> Quantized:
    """Choose ranges and write the int8 graph.

    Args:
        model: From `prepare`.
        calibration: Data and observer.
        operators: What becomes integer.
        per_channel: One scale per output channel of a weight, or one per tensor.
        ignored: Node names, patterns or operator types that stay float.
        known: Ranges that were found elsewhere; only the others are calibrated.

    Raises:
        InputError: A pattern of `ignored` matches nothing, or nothing is left to quantize.
        StageError: An activation is NaN or infinite.
    """
    kept = matching_nodes(model, ignored)
    nodes = chosen_nodes(model, operators, kept)
    found = dict(known or {})
    missing = [name for name in activations(model, nodes) if name not in found]
    if missing:
        found |= calibrate(model, missing, calibration)
    wide = out_of_range(model, found, nodes)
    nodes = [name for name in nodes if name not in wide]
    if not nodes:
        raise InputError(
            "quantizing the model",
            found="no operator that could become integer",
            hint="List less under `ignored`" if ignored else "Leave out this stage",
        )
    written = write_qdq(model, found, nodes, per_channel=per_channel)
    return Quantized(model=written, kept_float=wide)
