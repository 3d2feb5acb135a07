"""A network of the zoo, with fresh weights or with weights from a file."""

from __future__ import annotations

from typing import Annotated, ClassVar

from edgekit.core.errors import require_module
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.options import path_option
from edgekit.core.stage import StageContext, StageResult
from edgekit.learn.checks import check_num_classes, fit_inputs
from edgekit.zoo.architecture import ArchitectureChoice


class Architecture(ArchitectureChoice, frozen=True, kw_only=True):
    """Start from a network of the zoo: `{architecture: resnet8, options: {width: 16}}`.

    Without `weights` the network is fresh, drawn from the recipe's seed, for a `train` stage.
    """

    accepts: ClassVar[frozenset[ModelKind]] = frozenset()
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()

    weights: Annotated[
        str | None, path_option("State dict: safetensors, or .pt with tensors only")
    ] = None

    def produces(self, kind: ModelKind | None) -> ModelKind:
        """Return TORCH."""
        return ModelKind.TORCH

    def requires(self, model: ModelHandle | None, ctx: StageContext) -> None:
        """Refuse data that does not fit the network.

        Raises:
            InputError: Shapes or the number of classes differ; torch is missing.
        """
        require_module("torch", "torch")
        inputs, outputs = self.entry().signature()
        fit_inputs(inputs, ctx)
        if ctx.data is not None:
            check_num_classes(outputs, len(ctx.data.label_names))

    def run(self, model: ModelHandle | None, ctx: StageContext) -> StageResult:
        """Build the network, load weights if there are any, and save it."""
        from edgekit.sources._fresh import save_source
        from edgekit.zoo.checkpoint import ArchitectureRef

        inputs, outputs = self.entry().signature()
        reference = ArchitectureRef.of_zoo(self)
        return save_source(
            reference.build(seed=ctx.seed),
            ctx,
            architecture=reference,
            inputs=fit_inputs(inputs, ctx),
            outputs=outputs,
            weights=self.weights,
        )

    def ensures(self, before: ModelHandle | None, result: StageResult, ctx: StageContext) -> None:
        """Check that what was saved loads and gives finite outputs of the declared shape."""
        from edgekit.zoo.probe import check_sound

        check_sound(result.model)
