"""The result file of one processor: rows of times, and everything else by net.

It is written after every measurement, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from bench.cpu.jobs.building import Built
from bench.cpu.jobs.outputs import Compared
from bench.cpu.jobs.start import Start
from bench.cpu.kernels import KernelTime
from bench.cpu.processor import Peak
from bench.cpu.scaling import Scaling

_SOURCES = ("edgekit/compiler", "edgekit/arithmetic", "bench/nets")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one engine's figures on one net; those that were not measured are None."""

    model: str
    precision: str
    target: str
    threads: int
    engine: str
    min_ms: float | None = None
    median_ms: float | None = None
    instructions_m: float | None = None


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a number to reach and what was found.

    Args:
        goal: In words.
        wanted: Such as `>= 1.3`.
        found: The figure.
        is_met: Whether it was reached.
        why: When it was missed: what stands in the way.
    """

    goal: str
    wanted: str
    found: float
    is_met: bool
    why: str | None = None


class Results(msgspec.Struct, kw_only=True):
    """Hold a result file.

    Keys of dictionaries are `model/precision`; libraries without Winograd end in `/direct`.

    Args:
        code: Digest of what decides the figures; figures of other code are not kept.
        machine: From `bench.record`.
        versions: Of packages.
        target: The target measured.
        is_realtime: Whether timed programs went before all others on the machine.
        peak: What one core does at best.
        macs: Multiply-adds of an inference by net.
        rows: Times.
        libraries: Compilations by `model/precision`.
        starts: Starts by `model/precision/engine`.
        outputs: Comparisons by `model/precision`.
        scaling: By `model/precision`.
        kernels: Steps by `model/precision`.
        not_measured: What has no figures, and why.
        goals: Numbers to reach.
    """

    code: str = ""
    machine: dict[str, Any] = msgspec.field(default_factory=dict)
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    target: str = ""
    is_realtime: bool = False
    peak: Peak | None = None
    macs: dict[str, int] = msgspec.field(default_factory=dict)
    rows: list[Row] = msgspec.field(default_factory=list)
    libraries: dict[str, Built] = msgspec.field(default_factory=dict)
    starts: dict[str, Start] = msgspec.field(default_factory=dict)
    outputs: dict[str, Compared] = msgspec.field(default_factory=dict)
    scaling: dict[str, Scaling] = msgspec.field(default_factory=dict)
    kernels: dict[str, list[KernelTime]] = msgspec.field(default_factory=dict)
    not_measured: dict[str, str] = msgspec.field(default_factory=dict)
    goals: list[Goal] = msgspec.field(default_factory=list)

    def times(self, model: str, precision: str, threads: int) -> dict[str, Row]:
        """Return the rows of one comparison by engine; empty when it was not made."""
        wanted = (model, precision, self.target, threads)
        return {
            row.engine: row
            for row in self.rows
            if (row.model, row.precision, row.target, row.threads) == wanted
            and row.min_ms is not None
        }


def code_digest() -> str:
    """Return a digest of the sources that decide what is measured."""
    digest = hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted(Path(folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def load_results(path: Path, code: str) -> Results:
    """Return the results so far, or empty ones when they are of other code."""
    if path.exists():
        found = msgspec.json.decode(path.read_bytes(), type=Results)
        if found.code == code:
            return found
    return Results(code=code)


def save_results(results: Results, path: Path) -> None:
    """Write the file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    text = msgspec.json.format(msgspec.json.encode(results), indent=1)
    partial.write_bytes(text + b"\n")
    partial.replace(path)
