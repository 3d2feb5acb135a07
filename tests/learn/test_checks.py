from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.core.errors import InputError
from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.registry import registry
from edgekit.core.stage import StageContext
from edgekit.data.source import Data
from edgekit.learn.checks import (
    check_data_fits,
    check_same_shapes,
    check_teacher_fits,
    check_trainable,
    fit_inputs,
    metric_of,
)

IMAGE = (TensorSpec("image", "float32", (None, 1, 8, 8)),)
LOGITS = (TensorSpec("logits", "float32", (None, 10)),)


def test_data_that_fits_passes(context: Callable[..., StageContext]) -> None:
    check_trainable(IMAGE, LOGITS, context(), "train")


def test_missing_data_is_told(context: Callable[..., StageContext]) -> None:
    with pytest.raises(InputError, match=r"train needs labelled data.*edgekit list datasets"):
        check_trainable(IMAGE, LOGITS, context(data=None), "train")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            TensorSpec("image", "float32", (None, 1, 28, 28)),
            r"'image': found preprocessed samples of \[N, 1, 8, 8\] float32, "
            r"expected \[N, 1, 28, 28\] float32",
        ),
        (TensorSpec("pixels", "float32", (None, 1, 8, 8)), r"'pixels': found data with image"),
    ],
)
def test_data_that_does_not_fit_is_told(
    spec: TensorSpec, message: str, context: Callable[..., StageContext]
) -> None:
    with pytest.raises(InputError, match=message):
        check_data_fits((spec,), LOGITS, context().data)


def test_whole_numbers_are_sent_to_the_preprocessing(digits: Data) -> None:
    raw = Data(dataset=digits.dataset)
    with pytest.raises(InputError, match=r"of \[N, 1, 8, 8\] uint8.*Add `to-float"):
        check_data_fits(IMAGE, LOGITS, raw)


def test_another_number_of_classes_is_told(context: Callable[..., StageContext]) -> None:
    outputs = (TensorSpec("logits", "float32", (None, 3)),)
    with pytest.raises(InputError, match=r"found 3 classes and data with 10 labels.*to 10"):
        check_data_fits(IMAGE, outputs, context().data)


def test_teacher_and_student_of_other_sizes_are_told() -> None:
    teacher = ModelHandle(ModelKind.TORCH, Path(), IMAGE, LOGITS)
    student = (TensorSpec("scores", "float32", (None, 7)),)
    with pytest.raises(
        InputError,
        match=r"student output \[N, 7\] float32, teacher output \[N, 10\] float32",
    ):
        check_teacher_fits(teacher, student)
    with pytest.raises(InputError, match=r"student input \[N, 7\] float32, teacher input"):
        check_same_shapes(student, IMAGE)


def test_a_fresh_model_takes_the_datas_name(context: Callable[..., StageContext]) -> None:
    ours = (TensorSpec("input", "float32", (None, 1, 8, 8)),)
    assert fit_inputs(ours, context()) == IMAGE
    assert fit_inputs(ours, context(data=None, folder="b")) == ours


def test_a_fresh_model_of_another_shape_is_told(context: Callable[..., StageContext]) -> None:
    with pytest.raises(InputError, match=r"expected \[N, 3\] float32"):
        fit_inputs((TensorSpec("input", "float32", (None, 3)),), context())


def test_top_1_is_the_metric_unless_the_recipe_has_one(
    context: Callable[..., StageContext],
) -> None:
    assert type(metric_of(context(metric=None))) is registry("metrics").get("top-1")


def test_a_metric_of_the_users_code_is_not_run_unasked(
    context: Callable[..., StageContext],
) -> None:
    metric = registry("metrics").get("python")(function="os:getcwd")
    with pytest.raises(InputError, match=r"not done unasked.*--allow-code"):
        metric_of(context(metric=metric))
    assert metric_of(context(metric=metric, allow_code=True, folder="b")) is metric
