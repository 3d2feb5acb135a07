"""Hold a network's operators, each alone, against onnxruntime run node by node."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from edgekit.compiler.graph.operators import Network, Operator
from edgekit.compiler.graph.reference import run_operator
from edgekit.compiler.locate import intermediates

# Sums of some hundred float32 products in another order, as a share of the largest value.
FLOAT_TOLERANCE = 1e-5


def operator_errors(
    network: Network, model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Give every operator what onnxruntime computed before it, and compare what it makes of it.

    Returns:
        Largest error by operator name: in steps for levels, as a share of the largest value for
        floats. Tensors the model does not have are taken from the operator itself.
    """
    values = dict(inputs) | intermediates(model, inputs)
    errors = {}
    for operator in network.operators:
        results = run_operator(network, operator, [values[name] for name in operator.reads])
        for name, result in zip(operator.writes, results, strict=True):
            expected = values.setdefault(name, result)
            errors[operator.name] = _error(expected, result)
    return errors


def allowed_error(operator: Operator) -> float:
    """Return the error that rounding at each of the operator's ties may cause."""
    if getattr(operator, "add", None) is not None and operator.reads[1:]:
        # Two requantizations: a step of the first is worth `first_multiplier` steps of the second.
        multiplier = operator.add.first_multiplier  # type: ignore[attr-defined]
        return 1.0 + float(np.ceil(multiplier))
    return 1.0


def _error(expected: np.ndarray, found: np.ndarray) -> float:
    assert expected.shape == found.shape
    assert expected.dtype == found.dtype
    difference = np.abs(expected.astype(np.float64) - found.astype(np.float64))
    largest = float(difference.max(initial=0.0))
    if expected.dtype.kind in "iu":
        return largest
    return largest / max(float(np.abs(expected).max(initial=0.0)), 1e-6)
