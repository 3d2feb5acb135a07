"""What sources of torch models have in common: load weights, save, measure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.model import TensorSpec
from edgekit.core.stage import StageContext, StageResult

if TYPE_CHECKING:
    from torch import nn

    from edgekit.zoo.checkpoint import ArchitectureRef


def save_source(
    module: nn.Module,
    ctx: StageContext,
    *,
    architecture: ArchitectureRef,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    weights: str | None,
) -> StageResult:
    """Save a model into the work folder, with weights from a file if there is one.

    Accuracy is measured only then: that of random weights would become the reference for drops.

    Raises:
        InputError: The weights don't fit.
        StageError: The model does not survive being saved and loaded.
    """
    from edgekit.evaluation import accuracy
    from edgekit.zoo.checkpoint import save
    from edgekit.zoo.cost import measure_cost
    from edgekit.zoo.probe import check_saved
    from edgekit.zoo.weights import fit_weights, read_weights

    if weights is not None:
        fit_weights(module, read_weights(Path(weights)), Path(weights))
    labels = ctx.data.label_names if ctx.data is not None else ()
    handle = save(
        module.eval(),
        ctx.workdir,
        architecture=architecture,
        inputs=inputs,
        outputs=outputs,
        labels=labels,
    )
    check_saved(module, handle, allow_code=ctx.allow_code)
    measured = accuracy.measure(handle, ctx) if weights is not None else ()
    return StageResult(model=handle, metrics=(*measured, *measure_cost(module, handle)))
