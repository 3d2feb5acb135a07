"""Reading the instruction counter's file.

The device programs mark the start and the end of every run: first the pass over all items, then
warm-up runs, then the counted ones (in mode `steps` every step of them). The difference between
two marks is what one run executed; it holds about a hundred instructions of the marks themselves.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import msgspec

from edgekit.core.errors import DeviceError
from edgekit.devices.job import Job, JobResult

_BYTES_LIMIT = 1 << 28


def add_counts(result: JobResult, job: Job, count_file: Path) -> JobResult:
    """Return the result with executed instructions per run, or per step in mode `steps`.

    Raises:
        DeviceError: The counts don't fit the job.
    """
    num_steps = len(result.steps or ()) if job.mode == "steps" else 1
    runs = _counted(_read(count_file), job, num_steps)
    per_run = statistics.median(sum(run) for run in runs)
    if job.mode != "steps" or result.steps is None:
        return msgspec.structs.replace(result, instructions_per_run=float(per_run))
    steps = tuple(
        msgspec.structs.replace(step, us=None, instructions=float(statistics.median(counts)))
        for step, counts in zip(result.steps, zip(*runs, strict=True), strict=True)
    )
    return msgspec.structs.replace(result, steps=steps, instructions_per_run=float(per_run))


def _counted(counts: list[int], job: Job, num_steps: int) -> list[list[int]]:
    """Return the counts of each counted run, split into its steps."""
    skipped = job.num_items + job.warmup_runs
    marks = counts[:-1]  # the last is the whole program's total
    if len(marks) != 2 * (skipped + job.num_runs * num_steps):
        raise DeviceError(
            "counting instructions",
            found=f"{len(marks)} marks",
            expected=f"{2 * (skipped + job.num_runs * num_steps)}",
        )
    each = [end - start for start, end in zip(marks[::2], marks[1::2], strict=True)][skipped:]
    return [each[run * num_steps : (run + 1) * num_steps] for run in range(job.num_runs)]


def _read(count_file: Path) -> list[int]:
    try:
        if count_file.stat().st_size > _BYTES_LIMIT:
            raise ValueError("too large")
        return [int(line) for line in count_file.read_text(encoding="ascii").split()]
    except (OSError, ValueError) as error:
        raise DeviceError("counting instructions", found=f"no counts: {error}") from error
