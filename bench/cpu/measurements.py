"""Fill in the results of one x86 processor, each figure once, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bench.cpu.jobs.building import BuildJob, Built
from bench.cpu.jobs.child import Child, ChildError
from bench.cpu.jobs.contenders import ENGINES
from bench.cpu.jobs.outputs import Compared, OutputsJob
from bench.cpu.jobs.start import Start, StartJob
from bench.cpu.jobs.timing import Timing, TimingJob
from bench.cpu.kernels import kernel_times
from bench.cpu.results import Results, Row, save_results
from bench.cpu.scaling import measure_scaling
from bench.nets.catalog import Precision, net_path

_THREADS = (1, 2)
_START_REPEATS = 3
_SCALED = ("resnet18", "resnet50")


class _Case(NamedTuple):
    """Hold a net in a precision, its file and edgekit's libraries by engine."""

    net: str
    precision: Precision
    files: dict[str, str]

    @property
    def key(self) -> str:
        return f"{self.net}/{self.precision}"


@contextlib.contextmanager
def _undisturbed(*, realtime: bool) -> Iterator[None]:
    """Let programs that are started here go before all others, if that is wanted."""
    if not realtime:
        yield
        return
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


class Measurements:
    """Measure nets and keep the results.

    Args:
        results: So far; target, versions and peak are set.
        path: Result file, written after every measurement.
        nets_folder: Where nets and libraries are kept.
        openvino: Folder OpenVINO was installed to; None when it is an ordinary package.
        budget_s: Seconds for each comparison of times.
    """

    def __init__(
        self,
        results: Results,
        path: Path,
        *,
        nets_folder: Path,
        openvino: Path | None,
        budget_s: float,
    ) -> None:
        self._results = results
        self._path = path
        self._nets_folder = nets_folder
        self._environment = {"PYTHONPATH": str(openvino)} if openvino else {}
        self._budget_s = budget_s

    def measure(self, net: str, precision: Precision) -> None:
        """Measure one net in one precision, as far as it has not been."""
        self._count_macs(net)
        case = _Case(net, precision, {"onnx": str(self._onnx(net, precision))})
        self._build(case)
        for threads in _THREADS:
            self._time(case, threads)
        for engine in self._engines(case):
            self._once(
                self._results.starts,
                f"{case.key}/{engine}",
                lambda e=engine: self._start(case, e),
                is_timed=True,
            )
        if "edgekit" in case.files:
            self._examine(case)

    def _onnx(self, net: str, precision: Precision) -> Path:
        return net_path(self._nets_folder, net, precision)

    def _count_macs(self, net: str) -> None:
        from edgekit.compiler.onnx_file import load_onnx, specialise
        from edgekit.evaluation.cost import count_macs

        if net not in self._results.macs:
            self._results.macs[net] = count_macs(
                specialise(load_onnx(self._onnx(net, "fp32"))).graph
            )

    def _engines(self, case: _Case) -> list[str]:
        """Return who takes part: the exact option concerns int8 alone."""
        missing = {engine for engine in ENGINES if engine.startswith("edgekit")} - set(case.files)
        if case.precision == "fp32":
            missing.add("onnxruntime-exact")
        if "openvino" not in self._results.versions:
            missing.add("openvino")
        return [engine for engine in ENGINES if engine not in missing]

    def _once(
        self,
        found: dict[str, Any],
        key: str,
        measure: Callable[[], object],
        *,
        is_timed: bool = False,
    ) -> None:
        """Measure what is missing; a failure is kept as the reason why there is no figure."""
        if key in found:
            return
        try:
            with _undisturbed(realtime=is_timed and self._results.is_realtime):
                found[key] = measure()
            self._results.not_measured.pop(key, None)
        except ChildError as error:
            self._results.not_measured[key] = str(error)
            print(f"{key}: {error}", flush=True)
        save_results(self._results, self._path)

    def _build(self, case: _Case) -> None:
        """Compile, and once more without Winograd where it was used."""
        built = self._compile(case, "edgekit", case.key, "auto")
        if built is not None and built.winograd_kernels:
            self._compile(case, "edgekit-direct", f"{case.key}/direct", "off")

    def _compile(
        self, case: _Case, engine: str, key: str, winograd: Literal["auto", "off"]
    ) -> Built | None:
        out = self._nets_folder / "libraries" / self._results.target / key.replace("/", "-")
        job = BuildJob(
            onnx=case.files["onnx"], out=str(out), target=self._results.target, winograd=winograd
        )
        if not out.exists():
            self._results.libraries.pop(key, None)
        self._once(
            self._results.libraries,
            key,
            lambda: Child("bench.cpu.jobs.building", job).answer(Built),
        )
        built = self._results.libraries.get(key)
        if built is not None:
            case.files[engine] = str(out / built.library)
        return built

    def _time(self, case: _Case, threads: int) -> None:
        engines = self._engines(case)
        if set(engines) <= set(self._results.times(case.net, case.precision, threads)):
            return
        job = TimingJob(
            model=case.net,
            engines=tuple(engines),
            files=case.files,
            num_threads=threads,
            budget_s=self._budget_s,
        )
        timings: dict[str, dict[str, Timing]] = {}
        self._once(
            timings,
            f"{case.key}/{threads} threads",
            lambda: Child("bench.cpu.jobs.timing", job, self._environment).answer(
                dict[str, Timing]
            ),
            is_timed=True,
        )
        for found in timings.values():
            self._keep(case, threads, found)

    def _keep(self, case: _Case, threads: int, timings: dict[str, Timing]) -> None:
        kind = (case.net, case.precision, self._results.target, threads)
        others = [
            row
            for row in self._results.rows
            if (row.model, row.precision, row.target, row.threads) != kind
        ]
        new = [
            Row(
                model=case.net,
                precision=case.precision,
                target=self._results.target,
                threads=threads,
                engine=engine,
                min_ms=timing.min_ms,
                median_ms=timing.median_ms,
            )
            for engine, timing in timings.items()
        ]
        self._results.rows = [*others, *new]
        words = ", ".join(f"{row.engine} {row.min_ms} ms" for row in new)
        print(f"{case.key}, {threads} threads: {words}", flush=True)
        save_results(self._results, self._path)

    def _start(self, case: _Case, engine: str) -> Start:
        job = StartJob(model=case.net, engine=engine, files=case.files)
        starts = [
            Child("bench.cpu.jobs.start", job, self._environment).answer(Start)
            for _ in range(_START_REPEATS)
        ]
        return min(starts, key=lambda start: start.first_result_ms)

    def _examine(self, case: _Case) -> None:
        """Compare edgekit's outputs, time its kernels, and try a second thread on ResNets."""
        library, peak = case.files["edgekit"], self._results.peak
        assert peak is not None
        job = OutputsJob(
            model=case.net,
            precision=case.precision,
            onnx=case.files["onnx"],
            float_onnx=str(self._onnx(case.net, "fp32")),
            library=library,
        )
        self._once(
            self._results.outputs,
            case.key,
            lambda: Child("bench.cpu.jobs.outputs", job).answer(Compared),
        )
        self._once(
            self._results.kernels,
            case.key,
            lambda: kernel_times(case.net, Path(library), self._results.target, peak),
            is_timed=True,
        )
        if case.net in _SCALED:
            self._once(
                self._results.scaling,
                case.key,
                lambda: measure_scaling(case.net, library),
                is_timed=True,
            )
