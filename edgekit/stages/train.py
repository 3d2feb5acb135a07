"""`train`: fit a torch model to the training split."""

from __future__ import annotations

from typing import ClassVar

from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.stage import StageContext, StageResult
from edgekit.data.splits import PartName
from edgekit.learn.checks import check_trainable
from edgekit.learn.finetune import teach
from edgekit.learn.options import Training


class Train(Training, frozen=True, kw_only=True):
    """Train a torch model on labels; the epoch that is best on the validation split is kept."""

    accepts: ClassVar[frozenset[ModelKind]] = frozenset({ModelKind.TORCH})
    version: ClassVar[int] = 1
    data_parts: ClassVar[tuple[PartName, ...]] = ("train", "validation")
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("torch", "torch"), ("safetensors", "torch"))
    reads: ClassVar[tuple[str, ...]] = ()
    needs_data: ClassVar[bool] = True

    def produces(self, kind: ModelKind) -> ModelKind:
        """Return TORCH."""
        return ModelKind.TORCH

    def requires(self, model: ModelHandle, ctx: StageContext) -> None:
        """Refuse when data is missing or does not fit the model.

        Raises:
            InputError: Names the shapes or counts that differ.
        """
        check_trainable(model.inputs, model.outputs, ctx, "train")

    def run(self, model: ModelHandle, ctx: StageContext) -> StageResult:
        """Train, save, measure on the test split.

        Raises:
            StageError: Training diverged.
        """
        from edgekit.evaluation import accuracy
        from edgekit.zoo.checkpoint import load, save
        from edgekit.zoo.cost import measure_cost
        from edgekit.zoo.probe import check_saved

        loaded = load(model, allow_code=ctx.allow_code)
        outcome = teach(loaded.module, ctx, self, inputs=model.inputs)
        handle = save(
            loaded.module,
            ctx.workdir,
            architecture=loaded.architecture,
            surgery=loaded.surgery,
            inputs=model.inputs,
            outputs=model.outputs,
            labels=ctx.data.label_names if ctx.data is not None else model.labels,
        )
        check_saved(loaded.module, handle, allow_code=ctx.allow_code)
        return StageResult(
            model=handle,
            metrics=(*accuracy.measure(handle, ctx), *measure_cost(loaded.module, handle)),
            warnings=outcome.warnings,
            details=outcome.details(),
        )

    def ensures(self, before: ModelHandle, result: StageResult, ctx: StageContext) -> None:
        """Check that what was saved loads, has finite weights and gives the declared outputs."""
        from edgekit.zoo.probe import check_sound

        check_sound(result.model, allow_code=ctx.allow_code)
