"""What a second thread brings, held against what two independent processes bring.

Two processes show what the machine gives to code that needs no coordination: memory bandwidth and
clock are shared, and other tenants take their part.
"""

from __future__ import annotations

import msgspec

from bench.cpu.jobs.child import Child
from bench.cpu.jobs.timing import Timing, TimingJob

_REPEATS = 3
_BUDGET_S = 3.0


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """Compare two threads with two processes.

    Args:
        alone_ms: Median of one thread, the other core idle.
        beside_ms: Median of one thread while the other core runs the same.
        threads_ms: Median of two threads.
        processes_scaling: Throughput of two processes over that of one.
        threads_scaling: Speed of two threads over that of one.
        ratio: The second over the first; the goal is 0.9.
    """

    alone_ms: float
    beside_ms: float
    threads_ms: float
    processes_scaling: float
    threads_scaling: float
    ratio: float


def measure_scaling(model: str, library: str) -> Scaling:
    """Measure a net's library with one thread, two processes and two threads, in turns."""
    job = TimingJob(
        model=model,
        engines=("edgekit",),
        files={"edgekit": library},
        num_threads=1,
        budget_s=_BUDGET_S,
    )
    alone, beside, threads = [], [], []
    for _ in range(_REPEATS):
        alone.append(_median(Child("bench.cpu.jobs.timing", job)))
        pair = [
            Child("bench.cpu.jobs.timing", msgspec.structs.replace(job, core=core))
            for core in (0, 1)
        ]
        beside += [_median(child) for child in pair]
        threads.append(
            _median(Child("bench.cpu.jobs.timing", msgspec.structs.replace(job, num_threads=2)))
        )
    one, one_of_two, both = min(alone), min(beside), min(threads)
    processes_scaling, threads_scaling = 2 * one / one_of_two, one / both
    return Scaling(
        alone_ms=one,
        beside_ms=one_of_two,
        threads_ms=both,
        processes_scaling=round(processes_scaling, 3),
        threads_scaling=round(threads_scaling, 3),
        ratio=round(threads_scaling / processes_scaling, 3),
    )


def _median(child: Child) -> float:
    return child.answer(dict[str, Timing])["edgekit"].median_ms
