"""What one training step minimises: labels, and what methods add to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from edgekit.core.options import Options
from edgekit.learn.contracts import OUTPUT, Batch, Method, Teacher, TeacherProvider, Terms
from edgekit.learn.losses.cross_entropy import CrossEntropy
from edgekit.learn.taps import TapRecorder, tap_shapes

LABELS = "labels"
"""Name of the term of the hard labels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """What a teacher adds to training on labels.

    Attributes:
        teacher: entry of the `teachers` registry.
        received: the model the stage received.
        methods: entries of the `methods` registry.
    """

    teacher: Options
    received: nn.Module
    methods: tuple[Options, ...]


class Objective:
    """Compute the weighted terms of a batch.

    Args:
        student: Runs the student.
        label_loss: Loss of the hard labels.
        label_weight: Its weight; at 0 labels are not looked at.
        provider: Runs the teacher, or None without one.
        terms: The methods' parts; a name that comes again gets the number of its method.
    """

    def __init__(
        self,
        student: TapRecorder,
        *,
        label_loss: CrossEntropy,
        label_weight: float = 1.0,
        provider: TeacherProvider | None = None,
        terms: Sequence[Terms] = (),
    ) -> None:
        self._student = student
        self._label_loss = label_loss
        self._label_weight = label_weight
        self._provider = provider
        self._terms = tuple(terms)

    def __call__(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return named terms, shape () each; their sum is minimised."""
        student = self._student(batch.inputs)
        found: dict[str, torch.Tensor] = {}
        if self._label_weight > 0:
            loss = self._label_loss(student[OUTPUT], batch.labels)
            found[LABELS] = self._label_weight * loss
        if self._provider is not None:
            teacher = self._provider(batch)
            for number, terms in enumerate(self._terms, start=1):
                for name, value in terms(student, teacher, batch).items():
                    found[name if name not in found else f"{name}#{number}"] = value
        return found

    def adapters(self) -> list[nn.Parameter]:
        """Return the parameters of methods that are trained along with the student."""
        modules = [terms for terms in self._terms if isinstance(terms, nn.Module)]
        return [parameter for module in modules for parameter in module.parameters()]


def make_objective(
    model: nn.Module,
    *,
    lesson: Lesson | None,
    probe: Sequence[torch.Tensor],
    label_smoothing: float,
    remember: int | None,
) -> Objective:
    """Return the objective of a model on labels alone, or also on a lesson.

    Args:
        model: The student.
        lesson: Teacher and methods, or None.
        probe: A few samples in the model's order, to find the shapes of taps with.
        label_smoothing: For the label term.
        remember: Number of training samples when teachers may keep their answers, else None.

    Raises:
        InputError: A tap is not there, or student and teacher do not fit each other.
    """
    label_loss = CrossEntropy(label_smoothing=label_smoothing)
    if lesson is None:
        return Objective(TapRecorder(model), label_loss=label_loss)
    methods = cast("tuple[Method, ...]", lesson.methods)
    wanted = tuple(dict.fromkeys(tap for method in methods for tap in method.teacher_taps))
    recorder = TapRecorder(
        model, tuple(dict.fromkeys(tap for method in methods for tap in method.student_taps))
    )
    provider = cast(Teacher, lesson.teacher).open(lesson.received, wanted, remember=remember)
    shapes = tap_shapes(recorder, model, probe)
    theirs = tap_shapes(TapRecorder(lesson.received, wanted), lesson.received, probe)
    return Objective(
        recorder,
        label_loss=label_loss,
        label_weight=min(method.hard_label_weight for method in methods),
        provider=provider,
        terms=[method.build(shapes, theirs) for method in methods],
    )
