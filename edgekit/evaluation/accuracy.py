"""The recipe's metric on the held-out test split, after every stage that gives a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import InputError
from edgekit.core.metric import Metric
from edgekit.core.model import ModelHandle
from edgekit.core.options import Options
from edgekit.core.registry import registry
from edgekit.core.stage import StageContext
from edgekit.evaluation.predict import predict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def measure(model: ModelHandle, ctx: StageContext) -> tuple[Metric, ...]:
    """Return the metric of a torch or ONNX model on the test split; nothing without data.

    Raises:
        InputError: The data does not fit the model, the labels don't fit its outputs, or the
            metric is code that was not allowed.
        StageError: The model gives NaN.
    """
    if ctx.data is None or ctx.metric is None:
        return ()
    split = ctx.data.test
    outputs = predict(
        model,
        split.inputs,
        num_threads=ctx.num_threads,
        allow_code=ctx.allow_code,
        progress=ctx.progress,
    )
    return (score(outputs, split.labels, ctx.metric, allow_code=ctx.allow_code),)


def score(
    outputs: Mapping[str, Array], labels: Array, metric: Options, *, allow_code: bool = False
) -> Metric:
    """Compute a metric from outputs that were predicted here or on a device.

    Args:
        outputs: Arrays by output name, items along axis 0.
        labels: Class indices, one per item.
        metric: An entry of the `metrics` registry.
        allow_code: Whether the metric may be the user's Python code.

    Raises:
        InputError: Outputs and labels differ in number, or the metric is code not allowed.
    """
    name = registry("metrics").name_of(type(metric))
    if getattr(metric, "requires_code", False) and not allow_code:
        raise InputError(
            f"metric '{name}' runs your Python code, which is not done unasked",
            hint="Read that code, then repeat the command with --allow-code",
        )
    for output, array in outputs.items():
        if len(array) != len(labels):
            raise InputError(
                f"measuring {name}: output '{output}'",
                found=f"shape {list(array.shape)}",
                expected=f"{len(labels)} rows, one per label",
            )
    # One output goes as a plain array: metrics choose by name only where there is a choice.
    given: Any = outputs if len(outputs) > 1 else next(iter(outputs.values()))
    entry: Any = metric
    return Metric(name, float(entry.compute(given, labels)), entry.unit, entry.better)
