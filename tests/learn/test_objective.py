from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from edgekit.core.errors import InputError
from edgekit.core.options import Options
from edgekit.learn.contracts import Batch, Taps, TapShapes
from edgekit.learn.losses.mse import Mse
from edgekit.learn.methods.kd import Kd
from edgekit.learn.objective import LABELS, Lesson, Objective, make_objective
from edgekit.learn.optimise import make_optimizer
from edgekit.learn.options import Training
from edgekit.learn.teachers.input import Input


class Regress(nn.Module):
    """Compares a layer of the student with one of the teacher through a trained matrix."""

    def __init__(self, ours: int, theirs: int) -> None:
        super().__init__()
        self.adapter = nn.Linear(ours, theirs)

    def forward(self, student: Taps, teacher: Taps, batch: Batch) -> dict[str, torch.Tensor]:
        assert len(student["0"]) == len(batch.labels)
        return {"hint": Mse()(self.adapter(student["0"]), teacher["1"])}


class Hint(Options, frozen=True, kw_only=True):
    """A method with an adapter, as a new file would bring one."""

    student_taps: ClassVar[tuple[str, ...]] = ("0",)
    teacher_taps: ClassVar[tuple[str, ...]] = ("1",)
    hard_label_weight: ClassVar[float] = 1.0

    def build(self, student: TapShapes, teacher: TapShapes) -> Regress:
        return Regress(student["0"][0], teacher["1"][0])


def batch() -> Batch:
    labels = torch.tensor([0, 1, 1])
    return Batch(inputs=(torch.randn(3, 4),), labels=labels, indices=labels, step=0)


@pytest.fixture
def student() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


@pytest.fixture
def teacher() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 2))


def objective(student: nn.Module, lesson: Lesson | None) -> Objective:
    return make_objective(
        student, lesson=lesson, probe=(torch.zeros(2, 4),), label_smoothing=0.0, remember=None
    )


@pytest.fixture
def hinting(student: nn.Sequential, teacher: nn.Sequential) -> Objective:
    return objective(student, Lesson(teacher=Input(), received=teacher, methods=(Hint(),)))


def test_without_a_lesson_only_labels_count(student: nn.Sequential) -> None:
    assert set(objective(student, None)(batch())) == {LABELS}


def test_methods_see_the_taps_they_ask_for(hinting: Objective) -> None:
    found = hinting(batch())
    assert set(found) == {LABELS, "hint"}
    assert all(term.shape == () for term in found.values())


def test_adapters_and_student_learn_and_the_teacher_does_not(
    hinting: Objective, student: nn.Sequential, teacher: nn.Sequential
) -> None:
    torch.stack(list(hinting(batch()).values())).sum().backward()
    assert all(parameter.grad is not None for parameter in hinting.adapters())
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_adapters_are_in_the_optimizer_and_not_in_the_student(
    hinting: Objective, student: nn.Sequential
) -> None:
    optimizer = make_optimizer(student, hinting.adapters(), Training())
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    ours = {id(p) for p in student.parameters()}
    adapters = {id(p) for p in hinting.adapters()}
    assert len(adapters) == 2
    assert trained == ours | adapters
    assert not ours & adapters


def test_labels_are_not_looked_at_when_they_weigh_nothing(
    student: nn.Sequential, teacher: nn.Sequential
) -> None:
    lesson = Lesson(teacher=Input(), received=teacher, methods=(Kd(weight=1.0),))
    assert set(objective(student, lesson)(batch())) == {"kd"}


def test_a_tap_that_is_not_there_is_refused(student: nn.Sequential) -> None:
    lesson = Lesson(teacher=Input(), received=nn.Linear(4, 2), methods=(Hint(),))
    with pytest.raises(InputError, match="the model has no module '1'"):
        objective(student, lesson)


def test_probing_leaves_the_students_mode_alone(
    student: nn.Sequential, teacher: nn.Sequential
) -> None:
    student.train()
    objective(student, Lesson(teacher=Input(), received=teacher, methods=(Kd(),)))
    assert student.training
    assert not teacher.training
