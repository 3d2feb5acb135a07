"""`compile`: build every engine the target allows, and the golden tensors that hold them to it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import msgspec

from edgekit.core.errors import StageError
from edgekit.core.metric import Metric
from edgekit.core.model import ModelHandle, ModelKind
from edgekit.core.options import Meta, Options, variant
from edgekit.core.registry import registry
from edgekit.core.stage import StageContext, StageResult
from edgekit.core.target import Target, load_target

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.compiler.engine_build import EngineBuild


class Compile(Options, frozen=True, kw_only=True):
    """Compile an ONNX model for the target with each engine.

    For a target that is not this machine, each engine is built for this machine too: the host's
    predictions are what those of the device are compared with.
    """

    accepts: ClassVar[frozenset[ModelKind]] = frozenset({ModelKind.ONNX})
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("cpu", "dtypes", "engines", "name", "os", "tiles")

    engines: (
        Annotated[
            tuple[Annotated[Options, variant("engines")], ...],
            Meta(min_length=1, description="Default: the target's engines"),
        ]
        | None
    ) = None
    winograd: (
        Annotated[
            Literal["auto", "off", "f2", "f4"],
            Meta(description="Fast float convolutions: quicker, larger. Default: the engine's"),
        ]
        | None
    ) = None
    size_limit_mib: (
        Annotated[float, Meta(gt=0, description="What auto keeps to. Default: budget.size_mib")]
        | None
    ) = None
    num_golden: Annotated[int, Meta(ge=1, le=256, description="Golden samples in the bundle")] = 8

    def produces(self, kind: ModelKind) -> ModelKind:
        """Return COMPILED."""
        return ModelKind.COMPILED

    def with_budget(self, size_mib: float | None) -> Self:
        """Return the stage as it keeps to a budget that limits the engine's size."""
        if self.size_limit_mib is not None or size_mib is None:
            return self
        return msgspec.structs.replace(self, size_limit_mib=size_mib)

    def check(self, target: Target | None, *, has_data: bool) -> None:
        """Refuse engines that do not exist, at plan time."""
        self.chosen(target)

    def modules(self, target: Target | None) -> tuple[str, ...]:
        """Return the modules that this stage reaches by name rather than by import."""
        engines = tuple(type(engine).__module__ for engine in self.chosen(target).values())
        return (*engines, "edgekit.compiler.child")

    def packages(self, target: Target) -> tuple[tuple[str, str], ...]:
        """Return the packages that the engines need, with the extra that brings each."""
        engines = self.chosen(target).values()
        return (("onnx", "onnx"), *(pair for engine in engines for pair in engine.packages))

    def chosen(self, target: Target | None) -> dict[str, Any]:
        """Return the engines to build by name, with the options of this stage handed on.

        Raises:
            InputError: The target names an engine that does not exist.
        """
        named = registry("engines")
        if self.engines is not None:
            pairs = [(named.name_of(type(engine)), engine) for engine in self.engines]
        else:
            names = target.engines if target is not None else ()
            pairs = [(name, named.get(name)()) for name in names]
        return {name: self._handed_on(engine) for name, engine in pairs}

    def _handed_on(self, engine: Options) -> Options:
        shared = {"winograd": self.winograd, "size_limit_mib": self.size_limit_mib}
        known = set(engine.__struct_fields__)
        own = {name: value for name, value in shared.items() if name in known and value is not None}
        return msgspec.structs.replace(engine, **own)

    def requires(self, model: ModelHandle, ctx: StageContext) -> None:
        """Check the model file before any engine starts."""
        from edgekit.compiler.onnx_file import load_onnx

        load_onnx(model.path / "model.onnx")
        _target(ctx)

    def run(self, model: ModelHandle, ctx: StageContext) -> StageResult:
        """Build the engines into `engines/NAME`, and `host/NAME` for a foreign target."""
        from edgekit.data.portable import write_preprocessing
        from edgekit.devices.cpu import runs_here
        from edgekit.evaluation.golden import write_golden
        from edgekit.evaluation.measurement import report_build

        target = _target(ctx)
        engines = self.chosen(target)
        source = ctx.workdir / "model.onnx"
        shutil.copyfile(model.path / "model.onnx", source)
        handle = ModelHandle(
            ModelKind.COMPILED, ctx.workdir, model.inputs, model.outputs, model.labels
        )
        write_golden(model, ctx, ctx.workdir / "golden", num_items=self.num_golden)
        write_preprocessing(
            ctx.workdir / "preprocess",
            raw_inputs=ctx.data.raw_signature() if ctx.data is not None else model.inputs,
            inputs=model.inputs,
            steps=ctx.data.preprocess if ctx.data is not None else (),
            labels=model.labels,
        )
        builds = [
            _build(engine, source, ctx.workdir / "engines" / name, target, ctx)
            for name, engine in engines.items()
        ]
        if not runs_here(target):
            host = load_target("host")
            for name, engine in engines.items():
                _build(engine, source, ctx.workdir / "host" / name, host, ctx)
        reports = [report_build(build, ctx.workdir / "engines" / build.engine) for build in builds]
        return StageResult(
            model=handle,
            metrics=tuple(
                Metric(f"{report.engine}_bytes", float(report.size_bytes), "B", "lower")
                for report in reports
            ),
            details={"engines": msgspec.to_builtins(reports)},
        )

    def ensures(self, before: ModelHandle, result: StageResult, ctx: StageContext) -> None:
        """Check that every engine left what it declared."""
        for folder in sorted((ctx.workdir / "engines").iterdir()):
            if not (folder / "engine.json").is_file():
                raise StageError(f"engine '{folder.name}' left no engine.json")


def _target(ctx: StageContext) -> Target:
    if ctx.target is None:
        raise AssertionError("compile reads the target, so the pipeline passes it")
    return ctx.target


def _build(
    engine: Any,  # noqa: ANN401 - an entry of the engines' registry
    onnx_path: Path,
    out: Path,
    target: Target,
    ctx: StageContext,
) -> EngineBuild:
    out.mkdir(parents=True)
    with ctx.progress.start(f"compile with {out.name} for {target.name}"):
        build: EngineBuild = engine.build(onnx_path, out, target, progress=ctx.progress)
    return build
