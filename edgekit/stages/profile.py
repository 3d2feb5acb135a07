"""`profile`: run every engine on the device: parity, accuracy, latency or executed instructions."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from edgekit.core.errors import StageError
from edgekit.core.files import link_tree
from edgekit.core.metric import Metric
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.options import Meta, Options
from edgekit.core.stage import StageContext, StageResult
from edgekit.core.target import Target


class Profile(Options, frozen=True, kw_only=True):
    """Measure the compiled engines on the device behind the runner.

    Emulated devices give correctness and executed instructions only, and fewer runs of them.
    """

    accepts: ClassVar[frozenset[ModelKind]] = frozenset({ModelKind.COMPILED})
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("cpu", "name", "os")
    measures: ClassVar[bool] = True

    num_runs: Annotated[int, Meta(ge=1, le=1_000_000, description="Counted runs")] = 50
    warmup_runs: Annotated[int, Meta(ge=0, le=1_000_000, description="Runs before them")] = 10
    num_threads: Annotated[int, Meta(ge=1, le=256, description="Threads of the engine")] = 1
    num_images: Annotated[
        int, Meta(ge=0, description="Test samples predicted on the device; 0 for none")
    ] = 500

    def produces(self, kind: ModelKind) -> ModelKind:
        """Return the kind it was given: a measurement changes no model."""
        return kind

    def modules(self, target: Target | None) -> tuple[str, ...]:
        """Return the modules that this stage reaches by name rather than by import."""
        return ("edgekit.devices.ort_device",)

    def requires(self, model: ModelHandle, ctx: StageContext) -> None:
        """Refuse a runner that does not exist, before anything is started."""
        from edgekit.devices.identity import split_uri

        if not (model.path / "engines").is_dir():
            raise StageError("the compiled model has no engines", hint="Run `compile` first")
        if ctx.runner not in (None, "none"):
            split_uri(str(ctx.runner))

    def run(self, model: ModelHandle, ctx: StageContext) -> StageResult:
        """Measure each engine; the model's files are handed on unchanged."""
        from edgekit.evaluation.measurement import (
            MeasureSettings,
            gather_samples,
            measure_engines,
        )

        assert ctx.target is not None
        link_tree(model.path, ctx.workdir)
        split = ctx.data.test if ctx.data is not None and self.num_images else None
        outcome = measure_engines(
            model.path,
            target=ctx.target,
            runner=ctx.runner or "none",
            cache_dir=ctx.cache_dir,
            settings=MeasureSettings(
                num_runs=self.num_runs,
                warmup_runs=self.warmup_runs,
                num_threads=self.num_threads,
                num_images=self.num_images,
                allow_code=ctx.allow_code,
            ),
            samples=gather_samples(model.path, split, self.num_images),
            metric=ctx.metric,
            scratch=ctx.scratch,
            progress=ctx.progress,
        )
        metrics = [
            Metric(f"{engine.engine}_p50_ms", engine.latency.p50_ms, "ms", "lower")
            for engine in outcome.engines
            if engine.latency is not None
        ]
        return StageResult(
            model=ModelHandle(
                ModelKind.COMPILED, ctx.workdir, model.inputs, model.outputs, model.labels
            ),
            metrics=tuple(metrics),
            warnings=outcome.warnings,
            details={
                "engines": msgspec.to_builtins(outcome.engines),
                "device": msgspec.to_builtins(outcome.device),
                "mismatches": msgspec.to_builtins(outcome.mismatches),
            },
        )

    def ensures(self, before: ModelHandle, result: StageResult, ctx: StageContext) -> None:
        """Nothing beyond what measuring checks itself: parity raises where it is broken."""
