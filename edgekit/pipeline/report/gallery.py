"""The charts of a build report: figures after each stage, and the engine race."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from edgekit.core.report import BuildReport, EngineReport
from edgekit.pipeline.report import figures, rows, wording
from edgekit.pipeline.report.charts import Chart, Limit, Mark, Tone

_LOG_FROM = 20.0  # ratio of largest to smallest above which bars from zero hide the small ones


def stage_charts(report: BuildReport) -> tuple[Chart, ...]:
    """Return the charts over the stages; one that would show fewer than two figures is left out."""
    charts = (
        _accuracy(report),
        _size(report),
        _host_latency(report),
        _counted(report, "macs", "MACs after each stage", "MACs per inference"),
        _counted(report, "params", "Parameters after each stage", "parameters"),
    )
    return tuple(chart for chart in charts if chart is not None)


def engine_charts(report: BuildReport) -> tuple[Chart, ...]:
    """Return the engine race and the engines' sizes."""
    charts = (
        _instructions(report) if report.is_emulated else _latency(report),
        _engine_size(report),
    )
    return tuple(chart for chart in charts if chart is not None)


def _latency(report: BuildReport) -> Chart | None:
    marks = [
        Mark(
            label=engine.engine,
            value=engine.latency.p50_ms,
            text=figures.milliseconds(engine.latency.p50_ms),
            tone=_tone(engine, report),
            until=engine.latency.p90_ms,
        )
        for engine in rows.ordered_engines(report)
        if engine.latency is not None
    ]
    if not marks:
        return None
    return Chart(
        name="race",
        title="Latency by engine",
        description=_describe(marks, "Median latency of one inference"),
        axis="ms per inference, bar p50, line p90",
        marks=tuple(marks),
        tick=lambda value: _plain_zeros(figures.milliseconds(value)).removesuffix(" ms"),
        limit=_limit(report, "latency_ms.p50", 1.0),
    )


def _instructions(report: BuildReport) -> Chart | None:
    marks = [
        Mark(
            label=engine.engine,
            value=engine.instructions_m * 1e6,
            text=figures.instructions(engine.instructions_m),
            tone=_tone(engine, report),
        )
        for engine in rows.ordered_engines(report)
        if engine.instructions_m is not None
    ]
    if not marks:
        return None
    return Chart(
        name="race",
        title="Executed instructions by engine, emulated",
        description=_describe(marks, "Executed instructions per inference, emulated"),
        axis="instructions per inference, emulated",
        marks=tuple(marks),
        tick=lambda value: _plain_zeros(figures.count(value)),
    )


def _engine_size(report: BuildReport) -> Chart | None:
    marks = [
        Mark(
            label=engine.engine,
            value=engine.size_bytes,
            text=figures.size(engine.size_bytes),
            tone=_tone(engine, report),
        )
        for engine in rows.ordered_engines(report)
    ]
    return _size_chart("engine-size", "Size by engine", "size of the engine's files", marks, None)


def _tone(engine: EngineReport, report: BuildReport) -> Tone:
    if engine.disqualified is not None:
        return "faint"
    return "strong" if engine.engine == report.selected else "plain"


def _accuracy(report: BuildReport) -> Chart | None:
    marks = _stage_marks(report, report.metric, lambda v: figures.quantity(v, ""))
    if len(marks) < 2 or not report.metric:
        return None
    values = [mark.value for mark in marks]
    return Chart(
        name="accuracy",
        title=f"{report.metric} after each stage",
        description=_describe(marks, f"{report.metric} on the test split"),
        axis=f"{report.metric} on the test split",
        marks=tuple(marks),
        style="dots",
        tick=_short_fraction,
        top=1.0 if all(0 <= value <= 1 for value in values) else None,
        limit=_floor(report, values[0]),
    )


def _size(report: BuildReport) -> Chart | None:
    marks = _stage_marks(report, "size_bytes", figures.size)
    engine = wording.selected_engine(report)
    is_known = any(
        stage.kind == "compiled" and "size_bytes" in rows.stage_values(stage)
        for stage in report.stages
    )
    if engine is not None and not is_known:
        marks.append(Mark(label=engine.engine, value=engine.size_bytes, text=""))
        marks = _finish(marks, figures.size)
    limit = _limit(report, "size_mib", 2.0**20)
    return _size_chart("size", "Size after each stage", "size of the model's files", marks, limit)


def _size_chart(
    name: str, title: str, axis: str, marks: list[Mark], limit: Limit | None
) -> Chart | None:
    shown = [mark for mark in marks if mark.value > 0]
    if len(shown) < 2:
        return None
    values = [mark.value for mark in shown]
    is_wide = max(values) / min(values) > _LOG_FROM
    return Chart(
        name=name,
        title=title,
        description=_describe(shown, title),
        axis=axis,
        marks=tuple(shown),
        style="dots" if is_wide else "bars",
        scale="log" if is_wide else "linear",
        base=1024.0,
        tick=lambda value: _plain_zeros(figures.size(value)),
        limit=limit,
    )


def _host_latency(report: BuildReport) -> Chart | None:
    marks = _stage_marks(report, "host_p50_ms", figures.milliseconds)
    if len(marks) < 2:
        return None
    return Chart(
        name="host-latency",
        title="Latency after each stage, on the building machine",
        description=_describe(
            marks, "Median time of one sample on the building machine, torch eager or onnxruntime"
        ),
        axis="ms per sample, 1 thread",
        marks=tuple(marks),
        tick=lambda value: _plain_zeros(figures.milliseconds(value)).removesuffix(" ms"),
    )


def _counted(report: BuildReport, metric: str, title: str, axis: str) -> Chart | None:
    marks = _stage_marks(report, metric, figures.count)
    if len(marks) < 2 or not any(mark.value for mark in marks):
        return None
    return Chart(
        name=metric,
        title=title,
        description=_describe(marks, title),
        axis=axis,
        marks=tuple(marks),
        tick=lambda value: _plain_zeros(figures.count(value)),
    )


def _stage_marks(report: BuildReport, metric: str, text: Callable[[float], str]) -> list[Mark]:
    found = [(stage.label, rows.stage_values(stage).get(metric)) for stage in report.stages]
    marks = [
        Mark(label=label, value=value, text="")
        for label, value in found
        if value is not None and math.isfinite(value)
    ]
    return _finish(marks, text)


def _finish(marks: list[Mark], text: Callable[[float], str]) -> list[Mark]:
    # The last row is what the build leaves: it stands out.
    return [
        msgspec.structs.replace(
            mark, text=text(mark.value), tone="strong" if mark is marks[-1] else "plain"
        )
        for mark in marks
    ]


def _floor(report: BuildReport, first: float) -> Limit | None:
    """Return the least accuracy the budget allows: the tightest of a floor and a drop."""
    better = next(
        (m.better for s in report.stages for m in s.metrics if m.name == report.metric), "none"
    )
    sign = -1.0 if better == "lower" else 1.0
    limits = {verdict.name: verdict.limit for verdict in report.verdicts}
    bounds = []
    if f"{report.metric}.max_drop" in limits:
        bounds.append(first - sign * limits[f"{report.metric}.max_drop"])
    if f"{report.metric}.min" in limits:
        bounds.append(limits[f"{report.metric}.min"])
    if not bounds:
        return None
    value = sign * max(sign * bound for bound in bounds)
    return Limit(value, f"budget {figures.fraction(value)}")


def _limit(report: BuildReport, name: str, factor: float) -> Limit | None:
    for verdict in report.verdicts:
        if verdict.name == name and verdict.limit > 0:
            text = figures.quantity(verdict.limit, verdict.unit)
            return Limit(verdict.limit * factor, f"budget {text}")
    return None


def _describe(marks: list[Mark], what: str) -> str:
    return f"{what}: {', '.join(f'{mark.label} {mark.text}' for mark in marks)}."


def _short_fraction(value: float) -> str:
    text = f"{value:.4f}".rstrip("0")
    return text + "0" * max(0, 2 - len(text.partition(".")[2]))


def _plain_zeros(text: str) -> str:
    """Return a figure without zeros behind the point: ticks are round numbers."""
    number, space, unit = text.partition(" ")
    if number == "0":
        return number
    return (number.rstrip("0").rstrip(".") if "." in number else number) + space + unit
