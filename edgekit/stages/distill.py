"""`distill`: the model received teaches a student, which takes its place."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from edgekit.core.model import ModelHandle, ModelKind, TensorSpec
from edgekit.core.options import Meta, Options, default_variant
from edgekit.core.stage import StageContext, StageResult
from edgekit.data.splits import PartName
from edgekit.learn.checks import check_same_shapes, check_teacher_fits, check_trainable
from edgekit.learn.finetune import Methods, teach
from edgekit.learn.options import Training
from edgekit.learn.teachers.input import Input
from edgekit.zoo.architecture import ArchitectureChoice


def _kd() -> tuple[Options, ...]:
    return (default_variant("methods", "kd")(),)


class Distill(Training, frozen=True, kw_only=True):
    """Train a student of another architecture on labels and on what the received model says."""

    accepts: ClassVar[frozenset[ModelKind]] = frozenset({ModelKind.TORCH})
    version: ClassVar[int] = 1
    data_parts: ClassVar[tuple[PartName, ...]] = ("train", "validation")
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("torch", "torch"), ("safetensors", "torch"))
    reads: ClassVar[tuple[str, ...]] = ()
    needs_data: ClassVar[bool] = True

    student: Annotated[ArchitectureChoice, Meta(description="Architecture of the student")]
    methods: Annotated[
        Methods, Meta(min_length=1, description="How the teacher teaches, one or several")
    ] = msgspec.field(default_factory=_kd)

    def produces(self, kind: ModelKind) -> ModelKind:
        """Return TORCH."""
        return ModelKind.TORCH

    def requires(self, model: ModelHandle, ctx: StageContext) -> None:
        """Refuse when data is missing, or data, student and teacher do not fit one another.

        Raises:
            InputError: Names the shapes or counts that differ.
        """
        inputs, outputs = self.student.entry().signature()
        check_teacher_fits(model, outputs)
        check_same_shapes(inputs, model.inputs)
        check_trainable(model.inputs, model.outputs, ctx, "distill")

    def run(self, model: ModelHandle, ctx: StageContext) -> StageResult:
        """Train the student, save it, measure it on the test split.

        Raises:
            StageError: Training diverged.
        """
        from edgekit.evaluation import accuracy
        from edgekit.learn.objective import Lesson
        from edgekit.zoo.checkpoint import ArchitectureRef, load, save
        from edgekit.zoo.cost import measure_cost
        from edgekit.zoo.probe import check_saved

        teacher = load(model, allow_code=ctx.allow_code).module
        reference = ArchitectureRef.of_zoo(self.student)
        student = reference.build(seed=ctx.seed)
        lesson = Lesson(teacher=Input(), received=teacher, methods=self.methods)
        outcome = teach(student, ctx, self, lesson=lesson, inputs=model.inputs)
        handle = save(
            student,
            ctx.workdir,
            architecture=reference,
            inputs=model.inputs,
            outputs=self._outputs(model),
            labels=ctx.data.label_names if ctx.data is not None else model.labels,
        )
        check_saved(student, handle)
        return StageResult(
            model=handle,
            metrics=(*accuracy.measure(handle, ctx), *measure_cost(student, handle)),
            warnings=outcome.warnings,
            details=outcome.details(),
        )

    def ensures(self, before: ModelHandle, result: StageResult, ctx: StageContext) -> None:
        """Check that what was saved loads, has finite weights and gives the declared outputs."""
        from edgekit.zoo.probe import check_sound

        check_sound(result.model)

    def _outputs(self, model: ModelHandle) -> tuple[TensorSpec, ...]:
        # The student takes the teacher's place, so its one output keeps the teacher's name.
        _, outputs = self.student.entry().signature()
        name = model.outputs[0].name
        return tuple(TensorSpec(name, spec.dtype, spec.shape) for spec in outputs)
