from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from edgekit.core.errors import InputError
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.registry import registry
from edgekit.core.schema import Where, resolve_variant, to_plain
from edgekit.core.stage import Stage, StageContext, StageResult
from edgekit.learn.methods.kd import Kd
from edgekit.sources.architecture import Architecture
from edgekit.stages.distill import Distill
from edgekit.stages.train import Train
from edgekit.zoo.architecture import ArchitectureChoice
from edgekit.zoo.checkpoint import load


def mlp(*hidden: int, **options: object) -> ArchitectureChoice:
    kind = registry("architectures").get("mlp")
    entry = kind(**{"hidden": hidden, "input_shape": (1, 8, 8), **options})
    return ArchitectureChoice(architecture="mlp", options=entry)


@pytest.fixture
def teacher(context: Callable[..., StageContext]) -> ModelHandle:
    choice = mlp(64)
    source = Architecture(architecture="mlp", options=choice.options)
    fresh = source.run(None, context(folder="source")).model
    return Train(epochs=5, batch_size=32, lr=0.1).run(fresh, context(folder="teacher")).model


def drive(stage: Stage, model: ModelHandle, ctx: StageContext) -> StageResult:
    stage.requires(model, ctx)
    result = stage.run(model, ctx)
    stage.ensures(model, result, ctx)
    return result


def test_keeps_its_contract() -> None:
    stage = Distill(student=mlp(8))
    assert isinstance(stage, Stage)
    assert stage.accepts == {ModelKind.TORCH}
    assert stage.produces(ModelKind.TORCH) is ModelKind.TORCH
    assert stage.methods == (Kd(),)


def test_a_student_learns_from_its_teacher(
    teacher: ModelHandle, context: Callable[..., StageContext]
) -> None:
    stage = Distill(student=mlp(16), epochs=6, batch_size=32, lr=0.1)
    result = drive(stage, teacher, context())
    found = {metric.name: metric.value for metric in result.metrics}
    assert found["top-1"] > 0.85
    assert found["params"] == 64 * 16 + 16 + 160 + 10
    assert set(result.details["epochs"][0]["terms"]) == {"labels", "kd"}


def test_the_student_takes_the_teachers_place(
    teacher: ModelHandle, context: Callable[..., StageContext]
) -> None:
    stage = Distill(student=mlp(8), epochs=1, batch_size=200)
    model = drive(stage, teacher, context()).model
    assert (model.inputs, model.outputs, model.labels) == (
        teacher.inputs,
        teacher.outputs,
        teacher.labels,
    )
    assert load(model).architecture.options["hidden"] == [8]


def test_the_teacher_is_left_as_it_was(
    teacher: ModelHandle, context: Callable[..., StageContext]
) -> None:
    before = {name: value.clone() for name, value in load(teacher).module.state_dict().items()}
    drive(Distill(student=mlp(8), epochs=1, batch_size=200), teacher, context())
    after = load(teacher).module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_distilling_twice_leaves_the_same_bytes(
    teacher: ModelHandle, context: Callable[..., StageContext]
) -> None:
    stage = Distill(student=mlp(8), epochs=2, batch_size=50)
    first, again = (
        (drive(stage, teacher, context(folder=name)).model.path / "weights.safetensors")
        for name in ("a", "b")
    )
    assert first.read_bytes() == again.read_bytes()


def test_a_student_with_other_classes_is_refused(
    teacher: ModelHandle, context: Callable[..., StageContext]
) -> None:
    stage = Distill(student=mlp(8, num_classes=7))
    with pytest.raises(
        InputError, match=r"student output \[N, 7\] float32, teacher output \[N, 10\] float32"
    ):
        stage.requires(teacher, context())


def test_a_student_with_other_inputs_is_refused(
    teacher: ModelHandle, context: Callable[..., StageContext]
) -> None:
    stage = Distill(student=mlp(8, input_shape=(64,)))
    with pytest.raises(
        InputError, match=r"student input \[N, 64\] float32, teacher input \[N, 1, 8, 8\] float32"
    ):
        stage.requires(teacher, context())


def test_missing_data_is_refused(
    teacher: ModelHandle, context: Callable[..., StageContext]
) -> None:
    with pytest.raises(InputError, match=r"distill needs labelled data"):
        Distill(student=mlp(8)).requires(teacher, context(data=None))


def test_a_recipe_names_student_and_methods() -> None:
    recipe = {
        "distill": {
            "student": {"architecture": "mlp", "options": {"hidden": [8]}},
            "epochs": 2,
            "methods": [{"kd": {"temperature": 2}}],
        }
    }
    found = resolve_variant(recipe, "stages", Where())
    assert found.methods == (Kd(temperature=2.0),)
    assert found.student.entry().hidden == (8,)
    assert resolve_variant({"distill": to_plain(found)}, "stages", Where()) == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "option 'student' is missing"),
        ({"student": {"architecture": "resnet9"}}, r"unknown architecture 'resnet9'.*'resnet8'"),
        ({"student": {"architecture": "mlp"}, "methods": []}, r"methods is \[\]"),
        (
            {"student": {"architecture": "mlp", "options": {"widht": 3}}},
            r"student.options.widht: unknown option",
        ),
    ],
)
def test_recipes_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_variant({"distill": options}, "stages", Where())
