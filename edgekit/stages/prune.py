"""`prune`: remove whole channels from a torch model, and train the rest to make up for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import msgspec

from edgekit.core.errors import InputError, StageError, require_module
from edgekit.core.metric import Metric
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.options import Meta, Options, default_variant, variant
from edgekit.core.stage import StageContext, StageResult
from edgekit.core.target import Target
from edgekit.learn.finetune import FineTune

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from edgekit.compress.pruning.contract import Importance
    from edgekit.compress.pruning.prune import Pruned, Request
    from edgekit.learn.finetune import Outcome
    from edgekit.zoo.checkpoint import Loaded
    from edgekit.zoo.surgery import AnyEdit


class Prune(Options, frozen=True, kw_only=True):
    """Remove the least important channels of a torch model, everywhere they are used.

    Channels that are coupled by sums, depthwise convolutions or concatenations go together; the
    layer that gives the model's output keeps all of its own. What is left is smaller in memory and
    faster everywhere, no mask or sparse kernel is needed.
    """

    accepts: ClassVar[frozenset[ModelKind]] = frozenset({ModelKind.TORCH})
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[tuple[str, str], ...]] = (
        ("torch", "torch"),
        ("safetensors", "torch"),
        ("torch_pruning", "torch"),
    )

    ratio: Annotated[float, Meta(ge=0, lt=1, description="0.3 removes 30% of the MACs (see `by`)")]
    by: Annotated[
        Literal["macs", "params", "channels"], Meta(description="What `ratio` is a share of")
    ] = "macs"
    importance: Annotated[Options, variant("importance", "How channels are ranked")] = (
        msgspec.field(default_factory=default_variant("importance", "l2"))
    )
    scope: Annotated[
        Literal["global", "layer"],
        Meta(description="Rank all channels together, or take the same share of every layer"),
    ] = "global"
    round_to: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["simd"],
        Meta(description="Keep multiples of so many channels; simd: as fill the target's vectors"),
    ] = 1
    min_channels: Annotated[
        int, Meta(ge=1, le=65_536, description="Channels every layer keeps at least")
    ] = 1
    ignored: Annotated[
        tuple[str, ...], Meta(description="Modules that keep their channels: names or patterns")
    ] = ()
    finetune: Annotated[
        FineTune | None, Meta(description="Train what is left, with the input as teacher or so")
    ] = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Return the processor when channels are rounded to its vectors, else nothing."""
        return ("cpu",) if self.round_to == "simd" else ()

    def produces(self, kind: ModelKind) -> ModelKind:
        """Return TORCH."""
        return ModelKind.TORCH

    def check(self, target: Target | None, *, has_data: bool) -> None:
        """Refuse at plan time what needs data where there is none.

        Raises:
            InputError: Fine-tuning or the importance needs data.
        """
        wants = "finetune" if self.finetune is not None else None
        if wants is None and self._importance.num_batches:
            wants = "importance"
        if wants is not None and not has_data:
            raise InputError(
                f"prune.{wants} needs labelled data, and the recipe has none",
                hint="Add a `data:` section, or use importance l2 without finetune",
            )

    def requires(self, model: ModelHandle, ctx: StageContext) -> None:
        """Trace the model and refuse a ratio it can't give.

        Raises:
            InputError: A package is missing, `ignored` names nothing, `ratio` would leave a layer
                without channels, or data does not fit.
        """
        require_module("torch_pruning", "torch")
        self.check(ctx.target, has_data=ctx.data is not None)
        from edgekit.compress.pruning.prune import check_request
        from edgekit.zoo.probe import probe_inputs

        loaded = _load(model, ctx)
        if self.finetune is not None:
            from edgekit.learn.checks import check_trainable

            check_trainable(model.inputs, model.outputs, ctx, "prune.finetune")
        check_request(loaded.module, probe_inputs(model.inputs), self._request(ctx))

    def run(self, model: ModelHandle, ctx: StageContext) -> StageResult:
        """Cut, measure, train again, measure.

        Raises:
            StageError: The cut model is not what the masked one is, or training diverged.
        """
        from edgekit.compress.pruning.prune import prune_module
        from edgekit.zoo.probe import check_saved, probe_inputs

        loaded = _load(model, ctx)
        with ctx.progress.start("prune"):
            pruned = prune_module(
                loaded.module,
                probe_inputs(model.inputs),
                self._importance,
                self._request(ctx),
                batches=lambda: _batches(model, ctx, self._importance),
            )
        details = _details(loaded.module, pruned, model)
        warnings: tuple[str, ...] = ()
        surgery = (*loaded.surgery, *pruned.edits)
        if self.finetune is not None:
            cut = _save(pruned.module, loaded, surgery, model, ctx.scratch / "pruned")
            details["before_finetune"] = _plain(_measure(cut, ctx))
            outcome = self._finetune(pruned.module, model, ctx)
            details["finetune"] = outcome.details()
            warnings, surgery = outcome.warnings, (*surgery, *outcome.edits)
        handle = _save(pruned.module, loaded, surgery, model, ctx.workdir)
        check_saved(pruned.module, handle, allow_code=ctx.allow_code)
        return StageResult(
            model=handle,
            metrics=(*_measure(handle, ctx), *_cost(pruned.module, handle)),
            warnings=warnings,
            details=details,
        )

    def ensures(self, before: ModelHandle, result: StageResult, ctx: StageContext) -> None:
        """Check that the saved model loads, is sound, and has lost what was asked for.

        Raises:
            StageError: It has not.
        """
        from edgekit.compress.pruning.macs import count_layers, total_macs
        from edgekit.zoo.cost import zero_inputs
        from edgekit.zoo.probe import check_sound

        check_sound(result.model, allow_code=ctx.allow_code)
        macs = total_macs(
            count_layers(_load(result.model, ctx).module, zero_inputs(result.model.inputs))
        )
        details = result.details
        if macs != details["macs"]["after"]:
            raise StageError(
                "checking the pruned model on disk",
                found=f"{macs} MACs",
                expected=f"{details['macs']['after']}",
            )
        excess = details["achieved"] - details["requested"]
        if not -1e-9 <= excess <= details["step"] + 1e-9:
            raise StageError(
                f"checking how much was pruned, by {self.by}",
                found=f"{details['achieved']:.4f}",
                expected=f"{details['requested']:.4f} to within {details['step']:.4f}",
            )

    @property
    def _importance(self) -> Importance:
        return cast("Importance", self.importance)

    def _request(self, ctx: StageContext) -> Request:
        from edgekit.compress.pruning.allocate import Limits
        from edgekit.compress.pruning.prune import Request

        round_to = self.round_to
        if round_to == "simd":
            assert ctx.target is not None, "the pipeline gives the target to stages that read it"
            round_to = ctx.target.simd_lanes
        return Request(
            ratio=self.ratio,
            by=self.by,
            scope=self.scope,
            limits=Limits(min_channels=self.min_channels, round_to=round_to),
            ignored=self.ignored,
        )

    def _finetune(self, module: nn.Module, model: ModelHandle, ctx: StageContext) -> Outcome:
        from edgekit.learn.finetune import fine_tune

        assert self.finetune is not None
        teacher = _load(model, ctx).module if self.finetune.teacher is not None else None
        return fine_tune(module, teacher, ctx, self.finetune, inputs=model.inputs)


def _load(model: ModelHandle, ctx: StageContext) -> Loaded:
    from edgekit.zoo.checkpoint import load

    return load(model, allow_code=ctx.allow_code)


def _save(
    module: nn.Module,
    loaded: Loaded,
    surgery: tuple[AnyEdit, ...],
    model: ModelHandle,
    folder: Path,
) -> ModelHandle:
    from edgekit.zoo.checkpoint import save

    folder.mkdir(parents=True, exist_ok=True)
    return save(
        module,
        folder,
        architecture=loaded.architecture,
        surgery=surgery,
        inputs=model.inputs,
        outputs=model.outputs,
        labels=model.labels,
    )


def _batches(
    model: ModelHandle, ctx: StageContext, importance: Importance
) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
    import torch

    from edgekit.learn.tensors import to_tensors

    assert ctx.data is not None
    split = to_tensors(ctx.data.train, tuple(spec.name for spec in model.inputs))
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(ctx.seed))
    with ctx.progress.start("gradients", importance.num_batches, "batches") as task:
        for start in range(importance.num_batches):
            indices = order[start * importance.batch_size :][: importance.batch_size]
            if not len(indices):
                break
            yield tuple(x[indices] for x in split.inputs), split.labels[indices]
            task.advance()


def _measure(model: ModelHandle, ctx: StageContext) -> tuple[Metric, ...]:
    from edgekit.evaluation.accuracy import measure

    return measure(model, ctx)


def _cost(module: nn.Module, handle: ModelHandle) -> tuple[Metric, ...]:
    from edgekit.zoo.cost import measure_cost

    return measure_cost(module, handle)


def _details(before: nn.Module, pruned: Pruned, model: ModelHandle) -> dict[str, Any]:
    from edgekit.compress.pruning.macs import count_layers, total_macs, total_params
    from edgekit.zoo.cost import zero_inputs

    inputs = zero_inputs(model.inputs)
    old, new = count_layers(before, inputs), count_layers(pruned.module, inputs)
    return {
        "requested": pruned.allocation.requested,
        "achieved": pruned.allocation.achieved,
        "step": pruned.allocation.step,
        "macs": {"before": total_macs(old), "after": total_macs(new)},
        "params": {"before": total_params(old), "after": total_params(new)},
        "layers": pruned.layers(),
        "untouched": pruned.coupling.untouched,
        "difference_to_masked": pruned.difference,
    }


def _plain(metrics: tuple[Metric, ...]) -> dict[str, float]:
    return {metric.name: metric.value for metric in metrics}
