"""Count instructions on emulated boards, and compare the bits of what comes out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from bench.arm.results import ArmResults, BusyLoop
from bench.assembly import cycles, hottest, loops_of
from bench.cpu.device_runs import run_on
from bench.cpu.jobs.building import BuildJob, Built
from bench.cpu.jobs.child import Child, ChildError
from bench.cpu.jobs.outputs import NUM_REFERENCE_IMAGES, SEED, reference_outputs
from bench.cpu.results import Row, code_digest
from bench.nets.catalog import Precision, net_images, net_path
from bench.record import machine, versions
from edgekit.core.errors import EdgekitError
from edgekit.core.target import load_target

_BUSIEST = 8


class Counting:
    """Count instructions and keep the results.

    Args:
        path: Result file, written after every count.
        nets_folder: Where nets, libraries and reference outputs are kept.
    """

    def __init__(self, path: Path, nets_folder: Path) -> None:
        self._path = path
        self._nets_folder = nets_folder
        self.results = ArmResults()
        if path.exists():
            self.results = msgspec.json.decode(path.read_bytes(), type=ArmResults)
        if self.results.code != code_digest():
            rows = [row for row in self.results.rows if row.engine != "edgekit"]
            self.results = ArmResults(code=code_digest(), rows=rows)
        self.results.machine, self.results.versions = machine(), versions()

    def count(self, net: str, precision: Precision, target: str) -> None:
        """Count both engines' instructions of one net, as far as it has not been done."""
        place, onnx = f"{net}/{precision}/{target}", net_path(self._nets_folder, net, precision)
        try:
            if self.results.instructions(net, precision, target, "onnxruntime") is None:
                images = net_images(net, 1, SEED)
                self._run(net, precision, target, "onnxruntime", onnx, images)
            if self.results.instructions(net, precision, target, "edgekit") is None:
                self._count_ours(net, precision, target, onnx)
            self.results.not_measured.pop(place, None)
        except (ChildError, EdgekitError) as error:
            self.results.not_measured[place] = str(error)
            print(f"{place}: {error}", flush=True)
        self.save()

    def save(self) -> None:
        """Write the result file."""
        text = msgspec.json.format(msgspec.json.encode(self.results), indent=1)
        self._path.write_bytes(text + b"\n")

    def _count_ours(self, net: str, precision: Precision, target: str, onnx: Path) -> None:
        place = f"{net}/{precision}/{target}"
        out = self._nets_folder / "libraries" / target / f"{net}-{precision}"
        job = BuildJob(onnx=str(onnx), out=str(out), target=target, static_library=True)
        built = Child("bench.cpu.jobs.building", job).answer(Built)
        images = net_images(net, NUM_REFERENCE_IMAGES, SEED)
        outputs = self._run(net, precision, target, "edgekit", out / built.library, images)
        expected = self._expected(net, precision, onnx, images)
        if precision == "int8":
            self.results.equals_reference[place] = bool(np.array_equal(outputs, expected))
        else:
            difference = np.abs(outputs - expected).max() / np.ptp(expected)
            self.results.difference_of_range[place] = float(f"{difference:.3g}")
        self.results.loops[place] = _busy_loops(next(out.glob("*.a")), load_target(target).cpu.core)

    def _run(
        self,
        net: str,
        precision: str,
        target: str,
        engine: str,
        model: Path,
        images: np.ndarray,
    ) -> np.ndarray:
        ran = run_on(
            f"emulated:{target}",
            load_target(target),
            "tvm" if engine == "edgekit" else "onnxruntime",
            model,
            images,
            mode="latency",
            num_runs=1,
        )
        counted = ran.result.instructions_per_run
        assert counted is not None, "this qemu does not count"
        row = Row(
            model=net,
            precision=precision,
            target=target,
            threads=1,
            engine=engine,
            instructions_m=round(counted / 1e6, 3),
        )
        self.results.rows.append(row)
        print(f"{net}/{precision}/{target}, {engine}: {row.instructions_m} M", flush=True)
        return ran.outputs

    def _expected(
        self, net: str, precision: Precision, onnx: Path, images: np.ndarray
    ) -> np.ndarray:
        """Return what the numpy reference makes of the images; kept, for it is slow."""
        kept = self._nets_folder / "reference" / f"{net}_{precision}-{self.results.code}.npy"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, reference_outputs(onnx, images))
        return np.load(kept)


def _busy_loops(archive: Path, core: str) -> list[BusyLoop]:
    """Return what llvm-mca says about the loops with the most multiply-adds."""
    loops = sorted(hottest(loops_of(archive)).values(), key=lambda loop: -loop.macs)[:_BUSIEST]
    return [
        BusyLoop(
            kernel=loop.function,
            cycles_per_mac=round(cycles(loop, core) / loop.macs, 4),
            macs=loop.macs,
            stack_accesses=loop.stack_accesses,
        )
        for loop in loops
    ]
