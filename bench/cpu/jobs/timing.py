"""`python -m bench.cpu.jobs.timing JOB`: time engines against each other in one process.

Engines take turns in random order, round by round, so that what else the machine does hits all
alike. A turn begins with a run that is not counted: it brings the net back into the caches. Idle
threads of the engine before may still be spinning, so a turn waits for them to go to sleep.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from pathlib import Path

import msgspec

from bench.cpu.jobs.child import reply
from bench.cpu.jobs.contenders import Opened, open_contender
from bench.nets.catalog import net_images

_RUNS_PER_TURN = 2
_LEAST_ROUNDS = 25
_WAIT_S = 0.01
_IMAGE_SEED = 7


class TimingJob(msgspec.Struct, frozen=True, kw_only=True):
    """Say what to time.

    Args:
        model: Name of the net.
        engines: Which contenders.
        files: `onnx`, and edgekit's libraries by engine.
        num_threads: Threads of each engine; the process is pinned to as many cores.
        budget_s: Seconds to spend, if that allows 50 runs of each engine.
        core: Which of the cores to take; None for the last ones.
    """

    model: str
    engines: tuple[str, ...]
    files: dict[str, str]
    num_threads: int
    budget_s: float
    core: int | None = None


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one engine's times in milliseconds."""

    min_ms: float
    median_ms: float
    num_runs: int


def main(arguments: list[str]) -> None:
    """Run a job given as JSON and print its timings by engine as JSON."""
    job = msgspec.json.decode(arguments[0].encode(), type=TimingJob)
    cores = sorted(os.sched_getaffinity(0))
    wanted = cores[-job.num_threads :] if job.core is None else [cores[job.core]]
    os.sched_setaffinity(0, wanted)
    image = net_images(job.model, 1, _IMAGE_SEED)
    files = {name: Path(path) for name, path in job.files.items()}
    opened = {
        engine: open_contender(engine, files, image, num_threads=job.num_threads)
        for engine in job.engines
    }
    reply(interleave(opened, budget_s=job.budget_s))


def interleave(opened: dict[str, Opened], *, budget_s: float) -> dict[str, Timing]:
    """Time engines in turns of random order.

    Args:
        opened: Engines by name.
        budget_s: Seconds to spend, if that allows 50 runs of each engine.
    """
    order = random.Random(0)
    times: dict[str, list[float]] = {engine: [] for engine in opened}
    for engine in opened.values():
        engine.run()
    deadline = time.monotonic() + budget_s
    num_rounds = 0
    while num_rounds < _LEAST_ROUNDS or time.monotonic() < deadline:
        for name in order.sample(sorted(opened), len(opened)):
            times[name] += _turn(opened[name])
        num_rounds += 1
    return {
        name: Timing(
            min_ms=round(min(found), 4),
            median_ms=round(statistics.median(found), 4),
            num_runs=len(found),
        )
        for name, found in times.items()
    }


def _turn(engine: Opened) -> list[float]:
    time.sleep(_WAIT_S)
    engine.run()
    found = []
    for _ in range(_RUNS_PER_TURN):
        start = time.perf_counter_ns()
        engine.run()
        found.append((time.perf_counter_ns() - start) / 1e6)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
