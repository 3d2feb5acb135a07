"""Budgets: what a recipe demands of the result, judged as passed, missed or not measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgekit.core.metric import Metric
from edgekit.core.report import EngineReport, StageReport, Verdict
from edgekit.pipeline.recipe import Budget


def judge(
    budget: Budget,
    *,
    metric: str,
    stages: Sequence[StageReport],
    selected: EngineReport | None,
    is_emulated: bool,
) -> tuple[Verdict, ...]:
    """Judge each limit of a budget.

    Accuracy is that of the last stage that measured it on the whole test split, against the first
    one that did; size, latency and memory are the selected engine's.

    Args:
        budget: The limits.
        metric: Name of the recipe's metric.
        stages: Reports of the stages in order.
        selected: The engine that won, or None when nothing was compiled.
        is_emulated: Whether the device was emulated: then time and memory are not measured.
    """
    verdicts: list[Verdict] = []
    values = [m for stage in stages for m in stage.metrics if m.name == metric]
    if budget.metric is not None:
        verdicts += _judge_metric(budget, metric, values)
    no_engine = "nothing was compiled" if selected is None else ""
    if budget.size_mib is not None:
        size = None if selected is None else selected.size_bytes / 2**20
        verdicts.append(_at_most("size_mib", size, budget.size_mib, "MiB", no_engine))
    missing = no_engine or ("the device is emulated" if is_emulated else "no device was measured")
    if budget.latency_ms is not None:
        latency = None if selected is None else selected.latency
        for name in ("p50", "p90", "p99"):
            limit: float | None = getattr(budget.latency_ms, name)
            if limit is not None:
                found = None if latency is None else getattr(latency, f"{name}_ms")
                verdicts.append(_at_most(f"latency_ms.{name}", found, limit, "ms", missing))
    if budget.peak_rss_mib is not None:
        memory = None if selected is None else selected.peak_rss_mib
        verdicts.append(_at_most("peak_rss_mib", memory, budget.peak_rss_mib, "MiB", missing))
    return tuple(verdicts)


def _judge_metric(budget: Budget, metric: str, values: Sequence[Metric]) -> list[Verdict]:
    limits = budget.metric
    assert limits is not None
    verdicts = []
    missing = "" if values else "no stage measured it: the recipe names no data"
    if limits.max_drop is not None:
        drop = None
        if values:
            sign = -1.0 if values[0].better == "lower" else 1.0
            drop = sign * (values[0].value - values[-1].value)
        verdicts.append(_at_most(f"{metric}.max_drop", drop, limits.max_drop, "", missing))
    if limits.min is not None:
        value = values[-1].value if values else None
        status = _status(None if value is None else value >= limits.min)
        verdicts.append(
            Verdict(
                name=f"{metric}.min", status=status, limit=limits.min, found=value, reason=missing
            )
        )
    return verdicts


def _at_most(name: str, found: float | None, limit: float, unit: str, missing: str) -> Verdict:
    # A drop of exactly the limit passes although its binary fraction may lie a hair above it.
    passed = None if found is None else found <= limit + 1e-12
    reason = missing if found is None else ""
    return Verdict(
        name=name, status=_status(passed), limit=limit, found=found, unit=unit, reason=reason
    )


def _status(passed: bool | None) -> Literal["passed", "missed", "not measured"]:
    if passed is None:
        return "not measured"
    return "passed" if passed else "missed"
