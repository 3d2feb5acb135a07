"""Words of a report: titles of budgets, the outcome, the headline."""

from __future__ import annotations

import datetime

from edgekit.core.report import BuildReport, EngineReport, Latency, Verdict
from edgekit.pipeline.report import figures
from edgekit.pipeline.report.foreign import printable

_BUDGETS = {
    "size_mib": "size",
    "peak_rss_mib": "peak memory",
    "latency_ms.p50": "latency p50",
    "latency_ms.p90": "latency p90",
    "latency_ms.p99": "latency p99",
}


def budget_title(verdict: Verdict) -> str:
    """Return what a budget bounds: `top-1 drop`, `size`, `latency p50`."""
    if verdict.name in _BUDGETS:
        return _BUDGETS[verdict.name]
    name, dot, bound = verdict.name.rpartition(".")
    if dot and bound in {"max_drop", "min"}:
        return printable(f"{name} drop" if bound == "max_drop" else name)
    return printable(verdict.name)


def budget_limit(verdict: Verdict) -> str:
    """Return a limit in words: `at most 1.00 MiB`."""
    word = "at least" if verdict.name.endswith(".min") else "at most"
    return f"{word} {figures.quantity(verdict.limit, verdict.unit)}"


def precision(engine: EngineReport) -> str:
    """Return `int8`, `fp32` or the mix that an engine really executes; empty when unknown."""
    if engine.integer_ops and engine.float_ops:
        return f"int8 + {engine.float_ops} float"
    if engine.integer_ops:
        return "int8"
    return "fp32" if engine.float_ops else ""


def outcome(report: BuildReport) -> str:
    """Return what came of the budgets: `all budgets met`, `1 budget missed`."""
    num = dict.fromkeys(("passed", "missed", "not measured"), 0)
    for verdict in report.verdicts:
        num[verdict.status] += 1
    if not report.verdicts:
        return "no budgets set"
    if num["missed"]:
        text = f"{num['missed']} budget{_s(num['missed'])} missed"
        return text + (f", {num['not measured']} not measured" if num["not measured"] else "")
    if num["not measured"] and num["passed"]:
        return f"budgets met, {num['not measured']} not measured"
    if num["not measured"]:
        return f"{num['not measured']} budget{_s(num['not measured'])} not measured"
    return "all budgets met"


def result(report: BuildReport) -> str:
    """Return what was built: `onnxruntime int8, 0.9130 top-1, 84.2 KiB`."""
    engine = selected_engine(report)
    parts = []
    if engine is not None:
        parts.append(
            printable(" ".join([engine.engine, *precision(engine).split(" ")[:1]]).strip())
        )
    elif report.engines:
        parts.append("no engine qualified")
    value = final_accuracy(report)
    if value is not None:
        parts.append(f"{figures.fraction(value)} {printable(report.metric)}")
    num_bytes = final_size(report)
    if num_bytes is not None:
        parts.append(figures.size(num_bytes))
    return ", ".join(parts) or "nothing was measured"


def headline(report: BuildReport) -> str:
    """Return the report in one sentence: target, engine, figures, outcome."""
    emulated = " (emulated)" if report.is_emulated else ""
    return f"{printable(report.target)}{emulated}: {result(report)}, {outcome(report)}"


def selected_engine(report: BuildReport) -> EngineReport | None:
    """Return the engine that won the race."""
    return next((engine for engine in report.engines if engine.engine == report.selected), None)


def final_accuracy(report: BuildReport) -> float | None:
    """Return the recipe's metric after the last stage that measured it, else on the device."""
    for stage in reversed(report.stages):
        for found in stage.metrics:
            if report.metric and found.name == report.metric:
                return found.value
    engine = selected_engine(report)
    return engine.accuracy.value if engine is not None and engine.accuracy is not None else None


def final_size(report: BuildReport) -> float | None:
    """Return the selected engine's size in bytes, else that of the last model measured."""
    engine = selected_engine(report)
    if engine is not None:
        return engine.size_bytes
    found = [m.value for stage in report.stages for m in stage.metrics if m.name == "size_bytes"]
    return found[-1] if found else None


def moment(text: str) -> str:
    """Return an ISO time to the minute: `2025-11-21 10:52 UTC`; other text stays as it is."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return printable(text)
    zone = " UTC" if found.utcoffset() == datetime.timedelta(0) else ""
    return f"{found:%Y-%m-%d %H:%M}{zone}"


def speed_note(latency: Latency) -> str:
    """Say how a latency was measured."""
    threads = latency.num_threads
    return f"{latency.num_runs} runs, {threads} thread{_s(threads)}"


def _s(number: int) -> str:
    return "" if number == 1 else "s"
