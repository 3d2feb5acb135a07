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
    _check_inputs(inputs, data.signature())
    check_num_classes(outputs, len(data.label_names))


def _check_inputs(inputs: tuple[TensorSpec, ...], signature: tuple[TensorSpec, ...]) -> None:
    available = {spec.name: spec for spec in signature}
    for spec in inputs:
        found = available.get(spec.name)
        if found is None:
            raise InputError(
                f"the model's input '{spec.name}'",
                found=f"data with {', '.join(available)}",
                expected="data of that name",
                hint="Rename it by the dataset's options; for text, list it in the outputs of "
                "`tokenize`",
            )
        if (found.shape, found.dtype) != (spec.shape, spec.dtype):
            raise InputError(
                f"the model's input '{spec.name}'",
                found=f"preprocessed samples of {describe(found)}",
                expected=describe(spec),
                hint=_fitting_hint(found, spec),
            )


def _fitting_hint(found: TensorSpec, spec: TensorSpec) -> str:
    if found.dtype != spec.dtype and spec.dtype == "float32":
        return "Add `to-float: {scale: 255}` to the recipe's `preprocess`"
    return "Change the model's options, or the recipe's `preprocess`"


def fit_inputs(inputs: tuple[TensorSpec, ...], ctx: StageContext) -> tuple[TensorSpec, ...]:
    """Return a fresh model's inputs with the data's name where there is only one to choose from.

    Raises:
        InputError: The preprocessed samples have another shape or type.
    """
    if ctx.data is None:
        return inputs
    signature = ctx.data.signature()
    if len(inputs) == len(signature) == 1:
        inputs = (TensorSpec(signature[0].name, inputs[0].dtype, inputs[0].shape),)
    _check_inputs(inputs, signature)
    return inputs


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


def check_same_shapes(student: tuple[TensorSpec, ...], teacher: tuple[TensorSpec, ...]) -> None:
    """Refuse a student that takes other inputs than its teacher; names may differ.

    Raises:
        InputError: Names both shapes.
    """
    mine, theirs = (tuple(describe(spec) for spec in side) for side in (student, teacher))
    if mine != theirs:
        raise InputError(
            "student and teacher",
            found=f"student input {' and '.join(mine)}, teacher input {' and '.join(theirs)}",
            expected="equal inputs",
            hint="Change the options of the student's architecture",
        )


def metric_of(ctx: StageContext) -> MetricFunction:
    """Return the recipe's metric, top-1 accuracy without one.

    Raises:
        InputError: The metric is the user's code and was not allowed.
    """
    chosen = ctx.metric if ctx.metric is not None else registry("metrics").get("top-1")()
    if getattr(chosen, "requires_code", False) and not ctx.allow_code:
        raise InputError(
            "the metric runs your Python code, which is not done unasked",
            hint="Read that code, then repeat the command with --allow-code",
        )
    return cast("MetricFunction", chosen)


def describe(spec: TensorSpec) -> str:
    """Return a shape and type as text: `[N, 1, 28, 28] float32`."""
    sizes = ", ".join("N" if size is None else str(size) for size in spec.shape)
    return f"[{sizes}] {spec.dtype}"
