"""Training as part of another stage: after pruning, say, with the model before it as teacher.

Light: other stages hold `FineTune` as an option; torch is loaded by the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from edgekit.core.errors import InputError
from edgekit.core.model import TensorSpec
from edgekit.core.options import Meta, Options, variant
from edgekit.core.stage import StageContext
from edgekit.learn.options import Training

if TYPE_CHECKING:
    from torch import nn

    from edgekit.learn.contracts import TrainingHook
    from edgekit.learn.objective import Lesson
    from edgekit.learn.state import EpochRecord
    from edgekit.zoo.surgery import AnyEdit

Methods = tuple[Annotated[Options, variant("methods", "Distillation method")], ...]


class FineTune(Training, frozen=True, kw_only=True):
    """Train again, gently, on labels and on a teacher if one is named."""

    epochs: Annotated[int, Meta(ge=1, le=10_000, description="Passes over the training split")] = 3
    lr: Annotated[float, Meta(gt=0, le=10, description="Highest learning rate")] = 0.02
    teacher: Annotated[Options, variant("teachers", "Who teaches, such as input")] | None = None
    methods: Annotated[Methods, Meta(description="How the teacher teaches, such as kd")] = ()

    def __post_init__(self) -> None:
        """Refuse a teacher without a method and a method without a teacher."""
        super().__post_init__()
        if self.teacher is not None and not self.methods:
            raise InputError("a teacher is named, but no method", hint="Add `methods: [kd]`")
        if self.methods and self.teacher is None:
            raise InputError("methods are named, but no teacher", hint="Add `teacher: input`")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Report a finished training.

    Args:
        records: One per epoch.
        best_epoch: The epoch whose weights the model has now, counted from 1.
        metric: Name of the validation metric.
        edits: Surgery that training hooks did.
        warnings: Sentences for the report.
    """

    records: tuple[EpochRecord, ...]
    best_epoch: int
    metric: str
    edits: tuple[AnyEdit, ...] = ()
    warnings: tuple[str, ...] = ()

    def details(self) -> dict[str, Any]:
        """Return the course of the training as plain data for a report."""
        return {
            "best_epoch": self.best_epoch,
            "validation_metric": self.metric,
            "epochs": msgspec.to_builtins(self.records),
        }


def fine_tune(
    module: nn.Module,
    teacher_module: nn.Module | None,
    ctx: StageContext,
    options: FineTune,
    *,
    inputs: tuple[TensorSpec, ...] | None = None,
    hooks: Sequence[TrainingHook] = (),
) -> Outcome:
    """Train `module` in place on the training split; leave it in eval mode at its best epoch.

    Args:
        module: The student.
        teacher_module: What `teacher: input` stands for: the model as the stage received it, a
            separate object that shares no weights with `module`. Ignored without a teacher.
        ctx: Data, metric, seed and threads.
        options: How to train.
        inputs: The model's inputs in the order of its arguments; by default the data's order.
        hooks: Who takes part in the training.

    Raises:
        InputError: No data, or the data does not fit the model.
        StageError: Training diverged.
    """
    lesson = None
    if options.teacher is not None:
        from edgekit.learn.objective import Lesson

        if teacher_module is None:
            raise ValueError("options name a teacher, so teacher_module is needed")
        lesson = Lesson(teacher=options.teacher, received=teacher_module, methods=options.methods)
    return teach(module, ctx, options, lesson=lesson, inputs=inputs, hooks=hooks)


def teach(
    module: nn.Module,
    ctx: StageContext,
    options: Training,
    *,
    lesson: Lesson | None = None,
    inputs: tuple[TensorSpec, ...] | None = None,
    hooks: Sequence[TrainingHook] = (),
) -> Outcome:
    """Train `module` in place, on labels and on a lesson if there is one; see `fine_tune`."""
    import torch

    from edgekit.core.registry import registry
    from edgekit.learn.checks import metric_of, require_data
    from edgekit.learn.determinism import deterministic
    from edgekit.learn.loop import Loop
    from edgekit.learn.objective import make_objective
    from edgekit.learn.tensors import to_tensors

    data = require_data(ctx, "training")
    names = tuple(spec.name for spec in (inputs or data.signature()))
    train, validation = to_tensors(data.train, names), to_tensors(data.validation, names)
    metric = metric_of(ctx)
    with deterministic(seed=ctx.seed, num_threads=ctx.num_threads):
        objective = make_objective(
            module,
            lesson=lesson,
            probe=train.take(torch.arange(min(2, len(train))))[0],
            label_smoothing=options.label_smoothing,
            remember=None if options.augment.is_active else len(train),
        )
        loop = Loop(
            train=train,
            validation=validation,
            options=options,
            objective=objective,
            metric=metric,
            seed=ctx.seed,
            progress=ctx.progress,
            hooks=hooks,
        )
        state, edits = loop.run(module)
    return Outcome(
        records=tuple(state.records),
        best_epoch=state.best_epoch,
        metric=registry("metrics").name_of(type(metric)),
        edits=edits,
        warnings=_warnings(state.records[state.best_epoch - 1], validation.labels),
    )


def _warnings(best: EpochRecord, labels: Any) -> tuple[str, ...]:  # noqa: ANN401 - a tensor
    import math

    guess = math.log(len(labels.unique()))
    if best.validation_loss < guess:
        return ()
    return (
        f"training taught the model nothing: its best validation loss is "
        f"{best.validation_loss:.3g}, guessing evenly gives {guess:.3g}; try a lower lr",
    )
