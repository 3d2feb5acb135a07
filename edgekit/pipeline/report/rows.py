"""Rows of the tables that every format shows: the same facts, already in words.

An empty text means "nothing to show"; each format decides how that looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from edgekit.core.metric import Metric
from edgekit.core.report import (
    BuildReport,
    EngineReport,
    Latency,
    Mismatch,
    Parity,
    StageReport,
    StepCost,
)
from edgekit.pipeline.report import figures, wording
from edgekit.pipeline.report.foreign import printable

MAX_MISMATCHES = 10
_IN_COLUMNS = frozenset({"size_bytes", "macs", "params", "host_p50_ms"})


class StageRow(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one stage."""

    label: str
    accuracy: str
    change: str
    size: str
    shrunk: str
    macs: str
    params: str
    time: str
    is_cached: bool
    others: tuple[tuple[str, str], ...]


class EngineRow(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one engine of the race."""

    engine: str
    role: Literal["selected", "disqualified", ""]
    precision: str
    accuracy: str
    parity: str
    speed: str
    tail: str
    notes: tuple[str, ...]
    memory: str
    size: str
    reason: str


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one step of an engine."""

    step: str
    nodes: str
    kernel: str
    share: str
    cost: str
    speed: str


class VerdictRow(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one budget."""

    title: str
    found: str
    limit: str
    status: Literal["passed", "missed", "not measured"]
    reason: str


def stage_rows(report: BuildReport) -> tuple[StageRow, ...]:
    """Return one row per stage; changes are against the stage before that measured the same."""
    rows = []
    before: dict[str, float] = {}
    for stage in report.stages:
        values = stage_values(stage)
        rows.append(_stage_row(stage, report.metric, values, before))
        before.update(values)
    return tuple(rows)


def stage_values(stage: StageReport) -> dict[str, float]:
    """Return the metrics of a stage by name."""
    return {metric.name: metric.value for metric in stage.metrics}


def engine_rows(report: BuildReport) -> tuple[EngineRow, ...]:
    """Return one row per engine, in the order of `ordered_engines`."""
    return tuple(_engine_row(engine, report) for engine in ordered_engines(report))


def ordered_engines(report: BuildReport) -> tuple[EngineReport, ...]:
    """Return the engines: the selected one first, the disqualified ones last."""
    return tuple(
        sorted(
            report.engines,
            key=lambda engine: (engine.engine != report.selected, engine.disqualified is not None),
        )
    )


def step_rows(engine: EngineReport, report: BuildReport) -> tuple[StepRow, ...]:
    """Return one row per step of an engine, the dearest first; empty when none was measured."""
    steps = sorted(engine.steps, key=lambda step: -step.share)
    return tuple(_step_row(step, is_emulated=report.is_emulated) for step in steps)


def step_summary(engine: EngineReport) -> str:
    """Say which share of an engine's run each kind of kernel takes, operators of TVM among them."""
    shares: dict[str, float] = {}
    for step in engine.steps:
        shares[step.kind or "other"] = shares.get(step.kind or "other", 0.0) + step.share
    ranked = sorted(shares.items(), key=lambda row: -row[1])
    return ", ".join(f"{printable(kind)} {figures.percent(share)}" for kind, share in ranked)


def verdict_rows(report: BuildReport) -> tuple[VerdictRow, ...]:
    """Return one row per budget."""
    return tuple(
        VerdictRow(
            title=wording.budget_title(verdict),
            found=""
            if verdict.found is None or verdict.status == "not measured"
            else figures.quantity(verdict.found, verdict.unit),
            limit=wording.budget_limit(verdict),
            status=verdict.status,
            reason=printable(verdict.reason),
        )
        for verdict in report.verdicts
    )


def warning_lines(report: BuildReport) -> tuple[str, ...]:
    """Return all warnings, those of stages with the stage's label in front, each once."""
    staged = [(stage.label, text) for stage in report.stages for text in stage.warnings]
    of_stages = {text for _, text in staged}
    lines = [printable(text) for text in report.warnings if text not in of_stages]
    lines += [f"{printable(label)}: {printable(text)}" for label, text in staged]
    return tuple(dict.fromkeys(lines))


def selection_line(report: BuildReport) -> str:
    """Say why the selected engine won, or that none did."""
    if not report.engines:
        return ""
    if report.selected is None:
        return "No engine qualified."
    name = printable(report.selected)
    if report.selected_by == "latency":
        return f"{name} was selected: the fastest engine that qualified."
    order = f"{name} was selected by the target's order of engines"
    return f"{order}: an emulator gives no latency." if report.is_emulated else f"{order}."


def mismatch_lines(report: BuildReport) -> tuple[str, ...]:
    """Return the first differing predictions of host and device, then how many more there are."""
    lines = [_mismatch_line(item) for item in report.mismatches[:MAX_MISMATCHES]]
    more = len(report.mismatches) - MAX_MISMATCHES
    return (*lines, f"and {more} more") if more > 0 else tuple(lines)


def device_line(report: BuildReport) -> str:
    """Say where the figures come from."""
    device = report.device
    if device is None or device.kind == "none":
        return ""
    parts = [
        device.runner.rstrip(":"),
        "" if device.runner.startswith(device.kind) else device.kind,
        device.cpu_model,
        f"{device.cores} core{'' if device.cores == 1 else 's'}" if device.cores else "",
        device.os,
        f"on {wording.moment(device.measured)}" if device.measured else "",
    ]
    return printable(", ".join(dict.fromkeys(part for part in parts if part)))


def basis_line(report: BuildReport) -> str:
    """Say on what the engines' figures rest: device, samples, runs, threads."""
    nums = sorted({engine.num_images for engine in report.engines if engine.accuracy is not None})
    samples = f"{nums[-1]} samples" if nums and nums[-1] else ""
    timed = [] if report.is_emulated else [e.latency for e in report.engines if e.latency]
    runs = wording.speed_note(timed[0]) if timed else ""
    text = ", ".join(part for part in (device_line(report), samples, runs) if part)
    return f"Measured on {text}." if text else "No device was measured."


def parity_text(parity: Parity | None) -> str:
    """Return how close an engine is to its reference: `bit-exact` or `38.2 dB, 99.8% top-1`."""
    if parity is None:
        return ""
    if parity.bit_exact:
        return "bit-exact"
    agreement = f"{figures.percent(parity.top1_agreement)} top-1"
    return agreement if parity.snr_db is None else f"{figures.decibels(parity.snr_db)}, {agreement}"


def _stage_row(
    stage: StageReport, metric: str, values: dict[str, float], before: dict[str, float]
) -> StageRow:
    shown = {found.name: figures.metric(found) for found in stage.metrics}
    is_new = metric in values and metric in before
    cached = stage.status == "cached"
    return StageRow(
        label=printable(stage.label),
        accuracy=shown.get(metric, ""),
        change=figures.change(values[metric] - before[metric]) if is_new else "",
        size=shown.get("size_bytes", ""),
        shrunk=figures.ratio(before.get("size_bytes", 0), values.get("size_bytes", 0)),
        macs=shown.get("macs", ""),
        params=shown.get("params", ""),
        time="cached" if cached else _time(stage.duration_s),
        is_cached=cached,
        others=_others(stage.metrics, metric),
    )


def _others(metrics: tuple[Metric, ...], metric: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (printable(found.name), figures.metric(found))
        for found in metrics
        if found.name != metric and found.name not in _IN_COLUMNS
    )


def _time(seconds: float | None) -> str:
    return "" if seconds is None else figures.duration(seconds)


def _engine_row(engine: EngineReport, report: BuildReport) -> EngineRow:
    # An emulator's clock says nothing about the device: its times are never shown.
    latency = None if report.is_emulated else engine.latency
    return EngineRow(
        engine=printable(engine.engine),
        role=_role(engine, report),
        precision=wording.precision(engine),
        accuracy=_device_accuracy(engine),
        parity=parity_text(engine.parity),
        speed=_speed(engine, report),
        tail=_tail(latency),
        notes=tuple(_notes(engine)),
        memory=""
        if engine.peak_rss_mib is None or report.is_emulated
        else figures.quantity(engine.peak_rss_mib, "MiB"),
        size=figures.size(engine.size_bytes),
        reason=printable(engine.disqualified or ""),
    )


def _step_row(step: StepCost, *, is_emulated: bool) -> StepRow:
    cost, speed = "", ""
    if is_emulated and step.instructions is not None:
        cost = figures.instructions(step.instructions / 1e6)
        speed = f"{step.macs / step.instructions:.2f}" if step.macs and step.instructions else ""
    elif not is_emulated and step.us is not None:
        cost = figures.milliseconds(step.us / 1e3)
        speed = f"{2 * step.macs / step.us / 1e3:.1f}" if step.macs and step.us else ""
    kernel = f"{step.kind} {step.dtype}".strip()
    return StepRow(
        step=printable(step.name),
        nodes=printable(", ".join(step.nodes)),
        kernel=printable(kernel),
        share=figures.percent(step.share),
        cost=cost,
        speed=speed,
    )


def _notes(engine: EngineReport) -> Iterator[str]:
    if engine.equals_host:
        yield "the same bits as on the building machine"
    yield from map(printable, engine.notes)


def _tail(latency: Latency | None) -> str:
    if latency is None:
        return ""
    p90, p99 = figures.milliseconds(latency.p90_ms), figures.milliseconds(latency.p99_ms)
    return f"p90 {p90}, p99 {p99}"


def _role(engine: EngineReport, report: BuildReport) -> Literal["selected", "disqualified", ""]:
    if engine.disqualified is not None:
        return "disqualified"
    return "selected" if engine.engine == report.selected else ""


def _speed(engine: EngineReport, report: BuildReport) -> str:
    if report.is_emulated:
        if engine.instructions_m is None:
            return ""
        return f"{figures.instructions(engine.instructions_m)} instructions (emulated)"
    return "" if engine.latency is None else figures.milliseconds(engine.latency.p50_ms)


def _device_accuracy(engine: EngineReport) -> str:
    if engine.accuracy is None:
        return ""
    value = figures.metric(engine.accuracy)
    return f"{value} (n={engine.num_images})" if engine.num_images else value


def _mismatch_line(item: Mismatch) -> str:
    return (
        f"{printable(item.engine)}: sample {item.index}: "
        f"host {item.host}, device {item.device}, label {item.label}"
    )
