"""What has to fit before minutes are spent on training; light."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from edgekit.core.errors import InputError, require_module
from edgekit.core.model import ModelHandle, TensorSpec
from edgekit.core.registry import registry
from edgekit.core.stage import DataView, StageContext

if TYPE_CHECKING:
    from edgekit.data.contracts import MetricFunction


def require_data(ctx: StageContext, who: str) -> DataView:
    """Return the recipe's data.

    Raises:
        InputError: The recipe has none.
    """
    if ctx.data is None:
        raise InputError(
            f"{who} needs labelled data, and the recipe has none",
            hint="Add `data: {name: ...}`; `edgekit list datasets` shows the names",
        )
    return ctx.data


def check_trainable(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], ctx: StageContext, who: str
) -> None:
    """Refuse to train when torch, data or one of its parts is missing, or data and model differ.

    Raises:
        InputError: Names the shapes or counts that differ.
    """
    require_module("torch", "torch")
    data = require_data(ctx, who)
    check_data_fits(inputs, outputs, data)
    for part in (data.train, data.validation):
        if not len(part):
            raise InputError(f"{who} needs samples to learn from and samples to choose by")


def check_data_fits(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], data: DataView
) -> None:
    """Compare a model's signature with the data.

    Raises:
        InputError: Inputs differ in name, shape or type, or there are more labels than classes.
    """
    available = {spec.name: spec for spec in data.signature()}
    for spec in inputs:
        found = available.get(spec.name)
        if found is None:
            raise InputError(
                f"the model's input '{spec.name}'",
                found=f"data with {', '.join(available)}",
                expected="data of that name",
            )
        if (found.shape, found.dtype) != (spec.shape, spec.dtype):
            raise InputError(
                f"the model's input '{spec.name}'",
                found=f"preprocessed samples of {describe(found)}",
                expected=describe(spec),
                hint="Change the model's options or the recipe's `preprocess`",
            )
    check_num_classes(outputs, len(data.label_names))


def check_num_classes(outputs: tuple[TensorSpec, ...], num_labels: int) -> None:
    """Refuse a classifier with fewer or more scores than there are labels.

    Raises:
        InputError: The numbers differ.
    """
    scores = outputs[0].shape[-1]
    if scores != num_labels:
        raise InputError(
            f"the model's output '{outputs[0].name}'",
            found=f"{scores} classes and data with {num_labels} labels",
            expected="equal numbers",
            hint=f"Set the architecture's num_classes to {num_labels}",
        )


def check_teacher_fits(teacher: ModelHandle, student: tuple[TensorSpec, ...]) -> None:
    """Refuse a student whose output has another shape than its teacher's.

    Raises:
        InputError: Names both shapes.
    """
    if teacher.outputs[0].shape != student[0].shape:
        raise InputError(
            "student and teacher",
            found=f"student output {describe(student[0])}, "
            f"teacher output {describe(teacher.outputs[0])}",
            expected="equal outputs",
            hint="Give the student the teacher's number of classes",
        )


def metric_of(ctx: StageContext) -> MetricFunction:
    """Return the recipe's metric, top-1 accuracy without one."""
    chosen = ctx.metric if ctx.metric is not None else registry("metrics").get("top-1")()
    return cast("MetricFunction", chosen)


def describe(spec: TensorSpec) -> str:
    """Return a shape and type as text: `[N, 1, 28, 28] float32`."""
    sizes = ", ".join("N" if size is None else str(size) for size in spec.shape)
    return f"[{sizes}] {spec.dtype}"
