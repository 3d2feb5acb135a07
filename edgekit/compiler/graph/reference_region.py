"""Run a region's ONNX model: by onnxruntime node by node, else by ONNX's own evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgekit.compiler.graph.operators import Region
from edgekit.compiler.session import open_session
from edgekit.core.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def run_region(region: Region, operands: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Run a region.

    Args:
        region: What to run.
        operands: Arrays of `region.reads`.

    Returns:
        Arrays of `region.writes`.
    """
    import numpy as np
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_model_from_string(region.model)
    feed = dict(zip(region.reads, map(np.asarray, operands), strict=True))
    wanted = list(region.writes)
    try:
        results = open_session(model, optimization="off").run(wanted, feed)
    except InputError:  # an operator or type onnxruntime has no kernel for
        results = ReferenceEvaluator(model).run(wanted, feed)
    return [np.asarray(result) for result in results]
