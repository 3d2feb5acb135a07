"""What methods, losses, teachers and training hooks offer one another.

All entries are light option structs; torch appears only behind `build`, `open` and calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgekit.learn.state import LoopState
    from edgekit.zoo.surgery import AnyEdit

OUTPUT = "output"
"""The tap every model has: its own output, the class scores."""

Taps: TypeAlias = "Mapping[str, torch.Tensor]"
"""Outputs of modules by name, batch first."""

TapShapes = Mapping[str, tuple[int, ...]]
"""Shape of each tap for one sample, without the batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Samples of one training step, as the student sees them.

    Attributes:
        inputs: in the model's order, batch first, augmented.
        labels: int64 [batch].
        indices: int64 [batch], position of each sample in the training split.
        step: number of steps taken before this one.
    """

    inputs: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    indices: torch.Tensor
    step: int


class Loss(Protocol):
    """Compare what a student gives with what it should give; the reduction is documented."""

    def __call__(self, student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return one number, shape ()."""
        ...


class Terms(Protocol):
    """Compute the weighted terms of a method for one batch.

    One that is also an `nn.Module` has its parameters trained along with the student (adapters)
    and thrown away afterwards.
    """

    def __call__(self, student: Taps, teacher: Taps, batch: Batch) -> dict[str, torch.Tensor]:
        """Return named terms, shape () each, already weighted; their sum is minimised."""
        ...


class Method(Protocol):
    """Distil in one way; implementers are options structs in `edgekit/learn/methods`."""

    @property
    def hard_label_weight(self) -> float:
        """Weight this method leaves to the labels; of several methods the lowest counts."""
        ...

    @property
    def student_taps(self) -> tuple[str, ...]:
        """Names of modules of the student whose outputs are needed, besides its own output."""
        ...

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Names of modules of the teacher whose outputs are needed, besides its own output."""
        ...

    def build(self, student: TapShapes, teacher: TapShapes) -> Terms:
        """Return what computes the terms.

        Raises:
            InputError: Student and teacher do not fit each other; the shapes are named.
        """
        ...


class TeacherProvider(Protocol):
    """Answer for a batch; always frozen: eval mode, no gradient, detached."""

    def __call__(self, batch: Batch) -> Taps:
        """Return the teacher's taps for a batch."""
        ...


class Teacher(Protocol):
    """Say where a teacher comes from; implementers are in `edgekit/learn/teachers`."""

    def open(
        self, received: nn.Module, taps: tuple[str, ...], *, remember: int | None
    ) -> TeacherProvider:
        """Return the provider.

        Args:
            received: The model the stage received.
            taps: Modules whose outputs are needed besides the model's output.
            remember: Number of training samples when each is always shown the same way, so that
                answers may be kept; None when images are augmented.
        """
        ...


class TrainingHook:
    """Take part in training: prune, quantize or average while it runs. Every method may be left.

    Order in each step: forward, backward, `before_step`, optimizer, `after_step`.
    """

    def start(self, state: LoopState) -> None:
        """Prepare, before the first step."""

    def before_step(self, state: LoopState) -> None:
        """Look at or change gradients before the optimizer uses them."""

    def after_step(self, state: LoopState) -> None:
        """Look at or change weights after the optimizer changed them."""

    def epoch(self, state: LoopState) -> None:
        """Act at the end of an epoch, before it is judged on the validation split."""

    def finalize(self, model: nn.Module) -> tuple[AnyEdit, ...]:
        """Leave a model that stands alone; return the surgery done to it."""
        return ()
