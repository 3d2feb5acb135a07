"""Use a bundle from Python: check it, pick the engine, preprocess, run, name the labels.

model = edgekit.load("dist/host")
scores = model.run({"image": batch})["logits"]
"""

from __future__ import annotations

import contextlib
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from edgekit.core.errors import InputError, near
from edgekit.core.files import write_json
from edgekit.core.places import cache_folder
from edgekit.core.progress import NullProgress, Progress
from edgekit.core.report import BuildReport, EngineReport
from edgekit.core.target import Target, host_cpu, load_target, tile_file
from edgekit.devices.cpu import runs_here
from edgekit.pipeline.provenance import provenance
from edgekit.pipeline.race import select_engine
from edgekit.pipeline.verify import OpenBundle, open_bundle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.data.portable import Preprocessing
    from edgekit.evaluation.tuning import TuneSettings, Tuning

    Array = NDArray[Any]


class EngineRunner(Protocol):
    """Run a batch of model inputs."""

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return outputs by name, batch first."""
        ...


class DeployedModel:
    """A bundle ready to run on this machine.

    Args:
        bundle: The open bundle; only its files are used.
        engine: Name of the engine; None for the selected one, or the first that runs here.
        num_threads: Threads the engine may use.

    Attributes:
        engine: Name of the engine in use.
        labels: Class names, empty when the model has none.
        report: What the build measured.
    """

    def __init__(self, bundle: OpenBundle, *, engine: str | None, num_threads: int) -> None:
        from edgekit.data.portable import read_preprocessing

        self.report: BuildReport = bundle.report
        self.engine = _choose(bundle, engine)
        self.labels: tuple[str, ...] = bundle.manifest.labels
        self._preprocessing: Preprocessing = read_preprocessing(bundle.folder / "preprocess")
        place = bundle.folder / "engines" / self.engine
        self._run = _ENGINES[self.engine](place, num_threads)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the raw inputs that `run` takes."""
        return tuple(spec.name for spec in self._preprocessing.raw_inputs)

    def run(self, samples: Mapping[str, object]) -> dict[str, Array]:
        """Preprocess raw samples and run them.

        Args:
            samples: What numpy can turn into arrays, by input name, batch first.

        Returns:
            Outputs by name, batch first.

        Raises:
            InputError: A name, shape or type is not what the model was built for.
        """
        if not isinstance(samples, Mapping):
            names = ", ".join(self.inputs)
            raise InputError(
                "running a model",
                found=f"a {type(samples).__name__}",
                expected=f"a mapping with {names}, such as {{'{self.inputs[0]}': batch}}",
            )
        inputs = self._preprocessing.apply(samples)
        if not len(next(iter(inputs.values()))):
            raise InputError("running a model", found="an empty batch", expected="one sample")
        return self._run(inputs)

    def predict(self, samples: Mapping[str, object]) -> list[str]:
        """Return the label of the highest score of each sample.

        Raises:
            InputError: As for `run`, or the model has no labels.
        """
        if not self.labels:
            raise InputError("this model has no labels", hint="Use run() for its raw outputs")
        scores = next(iter(self.run(samples).values()))
        return [self.labels[int(index)] for index in scores.argmax(1)]


def load(bundle: str | Path, *, engine: str | None = None, num_threads: int = 1) -> DeployedModel:
    """Verify a bundle and make it ready to run on this machine.

    Loading runs native code of the bundle: `verify` shows that it is unchanged, not that it is
    harmless, so load only bundles you trust. The engine that the build selected is used when it
    runs here; a bundle for another machine runs by an engine that is portable.

    Args:
        bundle: Folder or `.tar` of a bundle.
        engine: Name of the engine, to override the choice.
        num_threads: Threads the engine may use.

    Raises:
        InputError: The bundle is damaged or was changed, or no engine of it runs here.
    """
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_bundle(Path(bundle)))
        model = DeployedModel(opened, engine=engine, num_threads=num_threads)
        # A .tar is unpacked to a temporary folder; mapped libraries need it as long as the model.
        weakref.finalize(model, stack.pop_all().close)
    return model


def profile_bundle(
    bundle: Path,
    *,
    runner: str | None,
    num_runs: int,
    num_threads: int,
    per_layer: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Measure the engines of a bundle again: parity on its golden inputs, time, memory.

    Args:
        bundle: Folder or `.tar`.
        runner: Runner URI; None for the target's own.
        num_runs: Counted runs.
        num_threads: Threads of the engines.
        per_layer: Whether to measure each step of the engines as well.
        progress: Who listens.

    Returns:
        The bundle's report with fresh engine figures; stages and verdicts are the build's own.

    Raises:
        InputError: The bundle is damaged or was changed.
        DeviceError: The device cannot be used.
        StageError: An engine's outputs differ from the golden ones.
    """
    from edgekit.evaluation.measurement import MeasureSettings, gather_samples, measure_engines

    with (
        open_bundle(bundle) as opened,
        tempfile.TemporaryDirectory(prefix="edgekit-profile-") as scratch,
    ):
        target = msgspec.convert(opened.manifest.target, Target)
        outcome = measure_engines(
            opened.folder,
            target=target,
            runner=runner or target.runner,
            cache_dir=cache_folder(),
            settings=MeasureSettings(
                num_runs=num_runs, num_threads=num_threads, num_images=0, per_layer=per_layer
            ),
            samples=gather_samples(opened.folder, None, 0),
            metric=None,
            scratch=Path(scratch),
            progress=progress or NullProgress(),
        )
        selection = select_engine(_with_accuracy(outcome.engines, opened.report), target.engines)
        return msgspec.structs.replace(
            opened.report,
            engines=selection.engines,
            selected=selection.winner.engine if selection.winner else None,
            selected_by=selection.selected_by,
            device=outcome.device,
            warnings=outcome.warnings,
            verdicts=(),
            output=str(bundle),
        )


def tune_model(
    model: Path,
    *,
    target: str,
    runner: str | None,
    settings: TuneSettings,
    progress: Progress | None = None,
) -> tuple[Tuning, Path]:
    """Measure kernel tiles for a model and write them to targets/tiles/NAME.json in this folder.

    Args:
        model: An ONNX file, or a folder or `.tar` of a bundle.
        target: Name of the target.
        runner: Runner URI; None for the target's own.
        settings: How much to measure.
        progress: Who listens.

    Returns:
        What was found and the file it was written to.

    Raises:
        InputError: The model cannot be compiled, or the target has no runner.
        DeviceError: The device cannot be used.
    """
    from edgekit.evaluation.tuning import tune

    chosen = load_target(target)
    uri = runner or chosen.runner
    if uri == "none":
        raise InputError(
            f"tuning for {chosen.name}", found="no runner", hint="Name one with --runner URI"
        )
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-tune-"))
        if model.suffix != ".onnx":
            model = stack.enter_context(open_bundle(model)).folder / "model.onnx"
        tuning = tune(
            model,
            chosen,
            runner=uri,
            cache_dir=cache_folder(),
            compiler=provenance(["edgekit.compiler.child"]).source,
            settings=settings,
            scratch=Path(scratch),
            progress=progress or NullProgress(),
        )
    path = tile_file(chosen.name, Path("targets"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, tuning.table)
    return tuning, path


def _with_accuracy(
    engines: tuple[EngineReport, ...], built: BuildReport
) -> tuple[EngineReport, ...]:
    # Accuracy needs the test data, which does not travel: the build's figure stands.
    known = {engine.engine: engine for engine in built.engines}
    return tuple(
        msgspec.structs.replace(
            engine,
            accuracy=known[engine.engine].accuracy,
            num_images=known[engine.engine].num_images,
        )
        if engine.engine in known
        else engine
        for engine in engines
    )


def _choose(bundle: OpenBundle, wanted: str | None) -> str:
    folder = bundle.folder / "engines"
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if wanted is not None:
        if wanted not in names or wanted not in _ENGINES:
            raise InputError(f"this bundle has no engine '{wanted}'", hint=near(wanted, names))
        return wanted
    is_native = runs_here(msgspec.convert(bundle.manifest.target, Target))
    selected = bundle.measurements.selected
    order = ([selected] if selected else []) + names
    for name in order:
        if name in _ENGINES and (is_native or name in _PORTABLE):
            return name
    raise InputError(
        f"no engine of this bundle runs on this machine ({host_cpu().isa})",
        found=", ".join(names),
        hint="Build again with --target host",
    )


def _tvm(place: Path, num_threads: int) -> EngineRunner:
    import numpy as np

    from edgekit.devices.library import CompiledLibrary

    library = CompiledLibrary(_library(place))
    library.set_threads(num_threads)

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        count = len(next(iter(inputs.values())))
        rows = []
        for index in range(count):
            one = {
                tensor.name: np.ascontiguousarray(
                    inputs[tensor.name][index : index + 1], tensor.dtype
                )
                for tensor in library.inputs
            }
            rows.append(library.run_one(one))
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return run


def _onnxruntime(place: Path, num_threads: int) -> EngineRunner:
    from edgekit.compiler.session import open_session, run_session

    session = open_session(_library(place), num_threads=num_threads)

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return run_session(session, inputs)

    return run


def _library(place: Path) -> Path:
    from edgekit.compiler.engine_build import read_engine_build

    build = read_engine_build(place)
    if build.library not in build.files:
        raise InputError(
            f"{place / 'engine.json'}", found=build.library, expected=f"one of {build.files}"
        )
    return place / build.library


_ENGINES = {"tvm": _tvm, "onnxruntime": _onnxruntime}
_PORTABLE = frozenset({"onnxruntime"})
