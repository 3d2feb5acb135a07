"""Measure the engines of a compiled model on a device, and hold them to golden and host outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from edgekit.compiler.engine_build import EngineBuild, read_engine_build
from edgekit.core.metric import Metric
from edgekit.core.progress import Progress
from edgekit.core.registry import registry
from edgekit.core.report import DeviceReport, EngineReport, Latency, Mismatch, Parity
from edgekit.core.target import Target, load_target
from edgekit.data.tensors import read_tensors
from edgekit.devices.identity import split_uri
from edgekit.devices.job import Job, JobResult, TensorFile
from edgekit.evaluation.golden import GOLDEN_INPUTS, GOLDEN_OUTPUTS
from edgekit.evaluation.parity import compare, engine_tolerance, find_fault

if TYPE_CHECKING:
    import numpy as np

    from edgekit.core.options import Options
    from edgekit.core.stage import SplitView
    from edgekit.devices.session import DeviceInfo, Session

_EMULATED_RUNS = 3
_EMULATED_WARMUP = 1
Arrays = "dict[str, np.ndarray]"


class MeasureSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Say how much to measure; see the options of stage `profile`."""

    num_runs: int = 50
    warmup_runs: int = 10
    num_threads: int = 1
    num_images: int = 500


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what was found about all engines on one device."""

    engines: tuple[EngineReport, ...]
    device: DeviceReport
    mismatches: tuple[Mismatch, ...] = ()
    warnings: tuple[str, ...] = ()


class _Samples(NamedTuple):
    """Hold what the device runs: golden items first, then images of the test split."""

    inputs: dict[str, Any]
    golden: dict[str, Any]
    num_golden: int
    labels: Any


def measure_engines(
    model: Path,
    *,
    target: Target,
    runner: str,
    cache_dir: Path,
    settings: MeasureSettings,
    split: SplitView | None,
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
        split: Test samples to predict on the device; None for golden inputs only.
        metric: The recipe's metric, for `split`.
        scratch: Folder for temporary files.
        progress: Where to report.

    Raises:
        DeviceError: The device cannot be used.
        StageError: An engine's outputs differ from the golden ones; the first layer that does is
            named.
    """
    folders = sorted(path for path in (model / "engines").iterdir() if path.is_dir())
    if runner == "none":
        return _unmeasured(folders, target)
    samples = _samples(model, split, settings.num_images)
    _write_samples(scratch / "samples", samples.inputs)
    scheme, _ = split_uri(runner)
    device = registry("runners").get(scheme)()
    host = _host_predictions(model, cache_dir, scratch, samples, settings, progress)
    reports = []
    mismatches: list[Mismatch] = []
    with device.open(runner, target, cache_dir) as session:
        info: DeviceInfo = session.probe()
        for folder in folders:
            build = read_engine_build(folder)
            with progress.start(f"run {build.engine} on {runner}"):
                result = _run(session, folder, build, scratch, samples, settings, info)
            outputs = _read_outputs(session, result)
            report, found = _judge(build, folder, result, outputs, samples, metric, settings, info)
            reports.append(report)
            mismatches += _mismatches(build.engine, host.get(build.engine, outputs), found, samples)
    return Outcome(
        engines=tuple(reports),
        device=_device_report(runner, info),
        mismatches=tuple(mismatches),
        warnings=tuple(info.notes),
    )
