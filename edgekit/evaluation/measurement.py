"""Measure the engines of a compiled model on a device, and hold them to golden and host outputs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from edgekit.compiler.engine_build import EngineBuild, read_engine_build
from edgekit.compiler.onnx_file import has_qdq, input_specs, load_onnx
from edgekit.compiler.session import open_session as open_session_here
from edgekit.compiler.session import run_session
from edgekit.core.errors import StageError
from edgekit.core.metric import Metric
from edgekit.core.progress import Progress
from edgekit.core.report import DeviceReport, EngineReport, Mismatch
from edgekit.core.target import Target, load_target
from edgekit.data.tensors import TensorFile as Written
from edgekit.data.tensors import write_tensors
from edgekit.devices.job import Job, JobResult, TensorFile
from edgekit.devices.measure import doubts, refuse_throttled, summarise
from edgekit.devices.session import open_session
from edgekit.evaluation.accuracy import score
from edgekit.evaluation.device_tensors import job_inputs, read_outputs
from edgekit.evaluation.engine_fault import locate_engine_fault
from edgekit.evaluation.golden import Golden, read_golden
from edgekit.evaluation.inputs import fit_inputs
from edgekit.evaluation.parity import Tolerance, require_parity
from edgekit.evaluation.step_costs import measure_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.core.options import Options
    from edgekit.core.stage import SplitView
    from edgekit.devices.session import DeviceInfo, Session

    Array = NDArray[Any]
    Arrays = dict[str, Array]

_EMULATED_RUNS = 3
_EMULATED_WARMUP = 1
_QUANTIZED = Tolerance(min_snr_db=20.0, max_abs_of_range=0.03)
"""Bound for int8: onnxruntime differs from itself by several steps between graph optimizations."""


class MeasureSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Say how much to measure; see the options of stage `profile`."""

    num_runs: int = 50
    warmup_runs: int = 10
    num_threads: int = 1
    num_images: int = 500
    allow_code: bool = False
    per_layer: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what was found about all engines on one device."""

    engines: tuple[EngineReport, ...]
    device: DeviceReport | None
    mismatches: tuple[Mismatch, ...] = ()
    warnings: tuple[str, ...] = ()


class Samples(NamedTuple):
    """Hold what the device runs: the golden items first, then images of the test split.

    Args:
        inputs: Arrays by the model's input names, items along axis 0.
        golden: The golden inputs and outputs.
        labels: Class of each image after the golden items; empty without a split.
        reference: What the ONNX model gives for the images, run as written.
        is_quantized: Whether the model is an int8 one.
    """

    inputs: Arrays
    golden: Golden
    labels: Array
    reference: Arrays
    is_quantized: bool

    @property
    def num_golden(self) -> int:
        """Return how many of the items are golden."""
        return len(next(iter(self.golden.inputs.values())))

    @property
    def num_items(self) -> int:
        """Return the number of all items."""
        return len(next(iter(self.inputs.values())))

    def images(self, outputs: Mapping[str, Array]) -> Arrays:
        """Return the part of outputs that belongs to the images."""
        return {name: array[self.num_golden :] for name, array in outputs.items()}

    def first(self, outputs: Mapping[str, Array]) -> Arrays:
        """Return the part of outputs that belongs to the golden items."""
        return {name: array[: self.num_golden] for name, array in outputs.items()}


def gather_samples(model: Path, split: SplitView | None, num_images: int) -> Samples:
    """Collect golden items and test images for a compiled model.

    Args:
        model: A COMPILED payload.
        split: Test samples, or None.
        num_images: How many of them.
    """
    import numpy as np

    golden = read_golden(model / "golden")
    graph = load_onnx(model / "model.onnx")
    is_quantized = has_qdq(graph)
    if split is None or num_images == 0:
        return Samples(dict(golden.inputs), golden, np.zeros(0, np.int64), {}, is_quantized)
    specs = input_specs(graph)
    images = fit_inputs(specs, {name: a[:num_images] for name, a in split.inputs.items()})
    inputs = {name: np.concatenate([golden.inputs[name], images[name]]) for name in golden.inputs}
    session = open_session_here(model / "model.onnx", optimization="off")
    reference = run_session(session, images)
    labels = np.asarray(split.labels[:num_images])
    return Samples(inputs, golden, labels, reference, is_quantized)


def report_build(build: EngineBuild, place: Path) -> EngineReport:
    """Return what is known of an engine before it runs; `place` is its folder."""
    return EngineReport(
        engine=build.engine,
        size_bytes=(place / build.library).stat().st_size,
        disqualified=build.disqualified,
        integer_ops=build.integer_ops,
        float_ops=build.float_ops,
        notes=build.notes,
    )


def measure_engines(
    model: Path,
    *,
    target: Target,
    runner: str,
    cache_dir: Path,
    settings: MeasureSettings,
    samples: Samples,
    metric: Options | None,
    scratch: Path,
    progress: Progress,
) -> Outcome:
    """Run every engine below `model/engines` on the device.

    Args:
        model: A COMPILED payload.
        target: What the engines were compiled for.
        runner: Runner URI, or `none` for targets that cannot be reached.
        cache_dir: The user's cache folder.
        settings: How much to measure.
        samples: What to run.
        metric: The recipe's metric for the images.
        scratch: Folder for temporary files.
        progress: Where to report.

    Raises:
        DeviceError: The device cannot be used.
        StageError: An engine's outputs differ from the golden ones.
    """
    if runner == "none":
        return _unmeasured(model, target)
    tolerance = _QUANTIZED if samples.is_quantized else Tolerance()
    folder = scratch / "samples"
    written = write_tensors(folder, samples.inputs)
    reports, mismatches, warnings = [], [], []
    host = _host_outputs(model, cache_dir, folder, written, samples, progress)
    with open_session(runner, target, cache_dir, progress) as session:
        info = session.probe()
        inputs = job_inputs(session.push(folder, "samples"), written)
        for build, place in _engines(model / "engines"):
            with progress.start(f"run {build.engine} on {runner}"):
                job = _job(session, place, build, inputs, samples, settings, info)
                result = session.run(job)
            refuse_throttled(result.device)
            outputs = read_outputs(session, result)
            locate = functools.partial(
                locate_engine_fault,
                model / "model.onnx",
                samples.golden.inputs,
                engine=build.engine,
                target=target,
                session=session,
                tolerance=tolerance.max_abs_of_range,
                scratch=scratch,
                progress=progress,
            )
            judge = _Judge(samples, tolerance, metric, settings, locate)
            report = judge.report(build, place, result, outputs, info)
            equals_host = _equals_host(build, host.get(build.engine), outputs)
            report = msgspec.structs.replace(report, equals_host=equals_host)
            if settings.per_layer and job.num_runs and not _counts_whole_runs(build, info):
                report = msgspec.structs.replace(report, steps=measure_steps(session, job, build))
            elif settings.per_layer:
                warnings.append(f"{build.engine}: its operators cannot be measured one by one here")
            reports.append(report)
            mismatches += judge.mismatches(build.engine, host.get(build.engine), outputs)
            warnings += [f"{build.engine}: {text}" for text in doubts(result.times_us)]
    return Outcome(
        engines=tuple(reports),
        device=_device_report(runner, info),
        mismatches=tuple(mismatches),
        warnings=(*info.notes, *warnings),
    )


class _Judge(NamedTuple):
    """Turn what a device program found into a report."""

    samples: Samples
    tolerance: Tolerance
    metric: Options | None
    settings: MeasureSettings
    locate: Callable[[], str | None]

    def report(
        self,
        build: EngineBuild,
        place: Path,
        result: JobResult,
        outputs: Arrays,
        info: DeviceInfo,
    ) -> EngineReport:
        parity = require_parity(
            self.samples.golden.outputs,
            self.samples.first(outputs),
            between=f"engine {build.engine} on {info.kind} device and the ONNX model",
            tolerance=self.tolerance,
            locate=self.locate,
        )
        accuracy = self.accuracy(self.samples.images(outputs))
        instructions = result.instructions_per_run
        is_real = info.kind != "emulated"
        return msgspec.structs.replace(
            report_build(build, place),
            parity=parity,
            accuracy=accuracy,
            accuracy_loss=self.loss(accuracy),
            num_images=len(self.samples.labels),
            latency=summarise(result.times_us, result.threads or 1) if result.times_us else None,
            instructions_m=None if instructions is None else instructions / 1e6,
            peak_rss_mib=result.peak_rss_kib / 1024 if is_real and result.peak_rss_kib else None,
            first_run_ms=result.first_run_us / 1e3 if is_real and result.first_run_us else None,
        )

    def loss(self, accuracy: Metric | None) -> float | None:
        reference = self.accuracy(self.samples.reference)
        if accuracy is None or reference is None:
            return None
        sign = -1.0 if accuracy.better == "lower" else 1.0
        return sign * (reference.value - accuracy.value)

    def accuracy(self, images: Arrays) -> Metric | None:
        if self.metric is None or not len(self.samples.labels):
            return None
        allow = self.settings.allow_code
        return score(images, self.samples.labels, self.metric, allow_code=allow)

    def mismatches(self, engine: str, host: Arrays | None, device: Arrays) -> list[Mismatch]:
        if host is None or not len(self.samples.labels):
            return []
        name = next((n for n, array in device.items() if array.ndim == 2), None)
        if name is None:
            return []
        here = self.samples.images(host)[name].argmax(1)
        there = self.samples.images(device)[name].argmax(1)
        return [
            Mismatch(
                engine=engine,
                index=int(i),
                host=int(here[i]),
                device=int(there[i]),
                label=int(self.samples.labels[i]),
            )
            for i in (here != there).nonzero()[0]
        ]


def _counts_whole_runs(build: EngineBuild, info: DeviceInfo) -> bool:
    """Tell whether an emulator cannot see where the engine's operators begin and end."""
    return info.kind == "emulated" and not build.steps


def _equals_host(build: EngineBuild, host: Arrays | None, device: Arrays) -> bool | None:
    """Compare bits; an integer model compiled by us has the same ones everywhere.

    Raises:
        StageError: It has not.
    """
    if host is None:
        return None
    differing = [name for name, array in device.items() if array.tobytes() != host[name].tobytes()]
    if differing and build.engine == "tvm" and build.integer_ops and not build.float_ops:
        raise StageError(
            f"engine tvm: outputs {', '.join(differing)} on the device",
            found="other bits than on this machine",
            expected="the same: all its operators are integer ones",
            hint="This is a fault of edgekit; please report it with the model",
        )
    return not differing


def _host_outputs(
    model: Path,
    cache_dir: Path,
    folder: Path,
    written: tuple[Written, ...],
    samples: Samples,
    progress: Progress,
) -> dict[str, Arrays]:
    """Run the engines built for this machine; empty when the device is this machine."""
    if not (model / "host").is_dir():
        return {}
    found: dict[str, Arrays] = {}
    settings = MeasureSettings(num_runs=0)
    with open_session("local:", load_target("host"), cache_dir, progress) as session:
        info = session.probe()
        inputs = job_inputs(session.push(folder, "samples"), written)
        for build, place in _engines(model / "host"):
            with progress.start(f"run {build.engine} on this machine"):
                job = _job(session, place, build, inputs, samples, settings, info)
                found[build.engine] = read_outputs(session, session.run(job))
    return found


def _engines(folder: Path) -> list[tuple[EngineBuild, Path]]:
    places = sorted(path for path in folder.iterdir() if path.is_dir())
    return [(read_engine_build(place), place) for place in places]


def _job(
    session: Session,
    place: Path,
    build: EngineBuild,
    inputs: tuple[TensorFile, ...],
    samples: Samples,
    settings: MeasureSettings,
    info: DeviceInfo,
) -> Job:
    name = session.push(place, build.engine)
    is_emulated = info.kind == "emulated"
    runs = min(settings.num_runs, _EMULATED_RUNS) if is_emulated else settings.num_runs
    if is_emulated and "instructions" not in info.measures:
        runs = 0
    return Job(
        engine=build.engine,  # type: ignore[arg-type]
        model=f"{name}/{build.library}",
        inputs=inputs,
        outputs=f"outputs-{name}",
        num_items=samples.num_items,
        warmup_runs=min(settings.warmup_runs, _EMULATED_WARMUP if is_emulated else 10**6),
        num_runs=runs,
        num_threads=settings.num_threads,
        mode="latency" if runs else "outputs",
    )


def _unmeasured(model: Path, target: Target) -> Outcome:
    reports = tuple(report_build(build, place) for build, place in _engines(model / "engines"))
    text = f"{target.name} has no runner, so it is compile only: nothing ran, nothing was measured"
    return Outcome(engines=reports, device=None, warnings=(text,))


def _device_report(runner: str, info: DeviceInfo) -> DeviceReport:
    return DeviceReport(
        runner=runner,
        kind=info.kind,
        cpu_model=info.cpu_model,
        cores=info.cores,
        memory_mib=info.memory_mib,
        os=info.os,
        fingerprint=info.fingerprint,
    )
