"""How far an int8 model is from the float one it was made of: metric, parity, integer kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from edgekit.core.metric import Metric
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.registry import registry
from edgekit.core.report import Parity
from edgekit.core.stage import StageContext
from edgekit.evaluation.accuracy import score
from edgekit.evaluation.parity import compare
from edgekit.evaluation.predict import ONNX_FILE, predict

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

_NUM_COMPARED = 512
_LEAST_AGREEMENT = 0.98


class Int8Comparison(NamedTuple):
    """Hold what was measured on the test split.

    Attributes:
        metrics: The recipe's metric of the int8 model, where there is one.
        details: `parity_to_float`, `optimizations` (onnxruntime's graph as written against its
            optimized one, also in steps of the output), and the `drop` of the metric.
        warnings: Sentences for the report.
    """

    metrics: tuple[Metric, ...]
    details: dict[str, Any]
    warnings: tuple[str, ...]


def compare_int8(
    before: ModelHandle, after: ModelHandle, ctx: StageContext, *, max_drop: float
) -> Int8Comparison:
    """Run both models on the test split.

    Args:
        before: Float model, torch or ONNX.
        after: int8 ONNX model.
        ctx: With data.
        max_drop: Loss of the metric beyond which there is a warning.

    Raises:
        StageError: An output is not finite.
    """
    assert ctx.data is not None
    split = ctx.data.test
    floats, levels = (_predict(model, split.inputs, ctx) for model in (before, after))
    details: dict[str, Any] = {"parity_to_float": msgspec.to_builtins(compare(floats, levels))}
    parity, details["optimizations"] = _off_against_on(after, split.inputs, ctx)
    warnings = tuple(_kernel_warnings(parity))
    if ctx.metric is None:
        return Int8Comparison((), details, warnings)
    was, now = (
        score(outputs, split.labels, ctx.metric, allow_code=ctx.allow_code)
        for outputs in (floats, levels)
    )
    details["drop"] = drop_between(was, now)
    return Int8Comparison((now,), details, (*warnings, *_drop_warnings(was, now, max_drop)))


def drop_on_validation(
    before: ModelHandle, ctx: StageContext
) -> Callable[[onnx.ModelProto], float]:
    """Return what tells how much of the metric an int8 graph loses on the validation split.

    Not on the test split: settings that are chosen by it would make its figures too good.

    Args:
        before: Float model.
        ctx: With data; without a metric, top-1 accuracy counts.
    """
    assert ctx.data is not None
    split = ctx.data.validation
    metric = ctx.metric or registry("metrics").get("top-1")()
    folder = ctx.scratch / "trial"

    def measure(model: ModelHandle) -> Metric:
        outputs = _predict(model, split.inputs, ctx)
        return score(outputs, split.labels, metric, allow_code=ctx.allow_code)

    was = measure(before)

    def drop(graph: onnx.ModelProto) -> float:
        from edgekit.compiler.onnx_file import save_onnx

        save_onnx(graph, folder / ONNX_FILE)
        trial = ModelHandle(ModelKind.ONNX, folder, before.inputs, before.outputs, before.labels)
        return drop_between(was, measure(trial))

    return drop


def drop_between(was: Metric, now: Metric) -> float:
    """Return how much worse a metric became; negative when it became better."""
    return now.value - was.value if was.better == "lower" else was.value - now.value


def _predict(model: ModelHandle, inputs: Arrays, ctx: StageContext) -> dict[str, NDArray[Any]]:
    return predict(
        model,
        inputs,
        num_threads=ctx.num_threads,
        allow_code=ctx.allow_code,
        progress=ctx.progress,
    )


def _off_against_on(
    model: ModelHandle, inputs: Arrays, ctx: StageContext
) -> tuple[Parity, dict[str, Any]]:
    import onnx

    from edgekit.compress.quant.graph import output_steps

    some = {name: array[:_NUM_COMPARED] for name, array in inputs.items()}
    off, on = (
        predict(model, some, num_threads=ctx.num_threads, optimize=optimize)
        for optimize in (False, True)
    )
    parity = compare(off, on)
    steps = output_steps(onnx.load(model.path / ONNX_FILE, load_external_data=False))
    in_steps = {
        name: round(float(abs(off[name] - on[name]).max()) / step, 3)
        for name, step in steps.items()
        if name in off
    }
    return parity, {**msgspec.to_builtins(parity), "max_steps": in_steps}


def _kernel_warnings(parity: Parity) -> Iterator[str]:
    if parity.top1_agreement < _LEAST_AGREEMENT:
        yield (
            f"onnxruntime's integer kernels on this machine agree with the graph as written for "
            f"{parity.top1_agreement:.1%} of the samples only; figures of int8 models from here "
            f"are not those of other devices"
        )


def _drop_warnings(was: Metric, now: Metric, max_drop: float) -> Iterator[str]:
    if drop_between(was, now) > max_drop:
        yield (
            f"{now.name} fell from {was.value:.4f} to {now.value:.4f}, by more than max_drop "
            f"{max_drop:g}; try another observer, or `ignored`"
        )
