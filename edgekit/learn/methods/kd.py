"""Knowledge distillation from softened class scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options
from edgekit.learn.contracts import OUTPUT
from edgekit.learn.losses.kl import Kl

if TYPE_CHECKING:
    import torch

    from edgekit.learn.contracts import Batch, Taps, TapShapes, Terms


class Kd(Options, frozen=True, kw_only=True):
    """Learn the teacher's class probabilities, softened by a temperature, beside the labels.

    L = (1 - a) * CE(y, softmax(z_s)) + a * T^2 * KL(softmax(z_t/T) || softmax(z_s/T))
    with a = `weight` and T = `temperature`; the divergence is summed over classes and averaged
    over the batch, so the published weights hold.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2;
    defaults T = 4, a = 0.9 are those of the comparison by Tian et al., "Contrastive Representation
    Distillation", 2020.
    """

    student_taps: ClassVar[tuple[str, ...]] = ()
    teacher_taps: ClassVar[tuple[str, ...]] = ()

    temperature: Annotated[float, Meta(gt=0, le=1000, description="T, the softening of both")] = 4.0
    weight: Annotated[float, Meta(ge=0, le=1, description="a; the labels weigh 1 - a")] = 0.9

    @property
    def hard_label_weight(self) -> float:
        """Return 1 - a."""
        return 1.0 - self.weight

    def build(self, student: TapShapes, teacher: TapShapes) -> Terms:
        """Return the computation of the term `kd`.

        Raises:
            InputError: Student and teacher have different numbers of classes.
        """
        if student[OUTPUT] != teacher[OUTPUT]:
            raise InputError(
                "method 'kd' compares class scores",
                found=f"student output {student[OUTPUT]}, teacher output {teacher[OUTPUT]}",
                expected="equal shapes",
                hint="Give the student the teacher's number of classes",
            )
        return _Terms(weight=self.weight, divergence=Kl(temperature=self.temperature))


@dataclass(frozen=True, kw_only=True)
class _Terms:
    weight: float
    divergence: Kl

    def __call__(self, student: Taps, teacher: Taps, batch: Batch) -> dict[str, torch.Tensor]:
        return {"kd": self.weight * self.divergence(student[OUTPUT], teacher[OUTPUT])}
