"""Where a net's time goes: every step of edgekit's library, and its share of the measured peak."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.cpu.device_runs import run_on
from bench.cpu.processor import Peak
from bench.nets.catalog import net_images
from edgekit.core.target import load_target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_JOBS, _RUNS = 5, 10


class KernelTime(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one step's time.

    Args:
        name: The step.
        kind: Kernel.
        dtype: `int8` for integer operators.
        us: Microseconds with one thread: the mean of 10 runs, the least of 5 such means.
        share_of_run: Of all steps' time.
        gops: Billions of operations a second, as the operator is written: Winograd's may lie above
            the peak. 0 for operators without multiply-adds.
        share_of_peak: Of the core's measured peak.
    """

    name: str
    kind: str
    dtype: str
    us: float
    share_of_run: float
    gops: float
    share_of_peak: float


def kernel_times(model: str, library: Path, target: str, peak: Peak) -> list[KernelTime]:
    """Time every step of a library, slowest first.

    Args:
        model: Name of the net.
        library: edgekit's library, with `engine.json` beside it.
        target: What it was compiled for.
        peak: Of one core.
    """
    from edgekit.compiler.engine_build import EngineBuild
    from edgekit.core.files import read_json

    facts = {
        step.name: step for step in read_json(library.parent / "engine.json", EngineBuild).steps
    }
    images = net_images(model, 1, 7)
    jobs = [_step_times(images, library, target) for _ in range(_JOBS)]
    times = [(name, min(job[name] for job in jobs)) for name in jobs[0]]
    total_us = sum(us for _, us in times)
    found = []
    for name, us in sorted(times, key=lambda item: -item[1]):
        fact = facts[name]
        best = peak.int8_gops if fact.dtype == "int8" else peak.fp32_gops
        gops = 2 * fact.macs / us / 1e3 if us else 0.0
        found.append(
            KernelTime(
                name=name,
                kind=fact.kind,
                dtype=fact.dtype,
                us=round(us, 1),
                share_of_run=round(us / total_us, 4),
                gops=round(gops, 1),
                share_of_peak=round(gops / best, 3),
            )
        )
    return found


def _step_times(images: NDArray[np.float32], library: Path, target: str) -> dict[str, float]:
    ran = run_on(
        "local:",
        load_target(target),
        "tvm",
        library,
        images,
        mode="steps",
        num_runs=_RUNS,
        warmup_runs=_RUNS,
    )
    return {step.name: step.us or 0.0 for step in ran.result.steps or ()}
