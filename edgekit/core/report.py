"""Reports: what a build did and found, as data that every output format renders."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from edgekit.core.metric import Metric

SCHEMA = 1


class StageReport(msgspec.Struct, frozen=True, kw_only=True):
    """Report one stage."""

    name: str
    label: str
    key: str
    status: Literal["ran", "cached"]
    payload: str
    kind: str
    size_bytes: int
    duration_s: float | None = None
    created: str = ""
    metrics: tuple[Metric, ...] = ()
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """Compare two runs on the same inputs: signal-to-noise in dB, largest difference, top-1."""

    snr_db: float | None
    max_abs: float
    top1_agreement: float
    bit_exact: bool = False


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Summarise timed runs of one inference, in milliseconds."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    num_runs: int
    num_threads: int


class StepCost(msgspec.Struct, frozen=True, kw_only=True):
    """Report what one step of an engine cost, as a share of all steps.

    Args:
        name: The step, or the node of an ONNX graph.
        nodes: ONNX nodes it stands for.
        kind: Kernel, or operator type.
        dtype: `int8` for integer operators.
        share: Of the whole run, 0 to 1.
        us: Microseconds; None where time means nothing.
        instructions: Executed instructions; None where they were not counted.
        macs: Multiply-adds, 0 where it has none.
    """

    name: str
    nodes: tuple[str, ...] = ()
    kind: str = ""
    dtype: str = ""
    share: float = 0.0
    us: float | None = None
    instructions: float | None = None
    macs: int = 0


class EngineReport(msgspec.Struct, frozen=True, kw_only=True):
    """Report one engine of the race on one device.

    `equals_host` says whether every output has the bits that this engine gives on the building
    machine; None where nothing was compared.
    """

    engine: str
    size_bytes: int
    disqualified: str | None = None
    integer_ops: int = 0
    float_ops: int = 0
    parity: Parity | None = None
    accuracy: Metric | None = None
    accuracy_loss: float | None = None
    num_images: int = 0
    latency: Latency | None = None
    instructions_m: float | None = None
    peak_rss_mib: float | None = None
    first_run_ms: float | None = None
    equals_host: bool | None = None
    selected: bool = False
    steps: tuple[StepCost, ...] = ()
    notes: tuple[str, ...] = ()


class Mismatch(msgspec.Struct, frozen=True, kw_only=True):
    """Name one sample on which host and device predict different classes."""

    engine: str
    index: int
    host: int
    device: int
    label: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Judge one budget."""

    name: str
    status: Literal["passed", "missed", "not measured"]
    limit: float
    found: float | None = None
    unit: str = ""
    reason: str = ""


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True):
    """Describe where the measurement ran."""

    runner: str
    kind: str
    cpu_model: str = ""
    cores: int = 0
    memory_mib: int = 0
    os: str = ""
    fingerprint: str = ""
    measured: str = ""


class BuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """Report one recipe built for one target."""

    recipe: str
    target: str
    stages: tuple[StageReport, ...]
    schema: int = SCHEMA
    metric: str = ""
    engines: tuple[EngineReport, ...] = ()
    selected: str | None = None
    selected_by: Literal["latency", "order"] | None = None
    device: DeviceReport | None = None
    verdicts: tuple[Verdict, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    warnings: tuple[str, ...] = ()
    output: str | None = None
    created: str = ""
    wall_s: float = 0.0

    @property
    def is_emulated(self) -> bool:
        """Tell whether the figures come from an emulator: correctness and counts only."""
        return self.device is not None and self.device.kind == "emulated"
