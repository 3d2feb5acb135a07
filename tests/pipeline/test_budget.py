"""Budgets are passed, missed or not measured, and the race picks the fastest that qualifies."""

from __future__ import annotations

from edgekit.core.metric import Metric
from edgekit.core.report import EngineReport, Latency, StageReport
from edgekit.pipeline.budget import judge
from edgekit.pipeline.race import disqualify_inaccurate, select_engine
from edgekit.pipeline.recipe import Budget, LatencyBudget, MetricBudget


def stage(label: str, *values: float, better: str = "higher") -> StageReport:
    return StageReport(
        name=label,
        label=label,
        key="k",
        status="ran",
        payload="p",
        kind="torch",
        size_bytes=1,
        metrics=tuple(Metric("top-1", value, "", better) for value in values),  # type: ignore[arg-type]
    )


def engine(name: str, p50: float | None = None, disqualified: str | None = None) -> EngineReport:
    latency = None
    if p50 is not None:
        latency = Latency(
            p50_ms=p50, p90_ms=2 * p50, p99_ms=3 * p50, min_ms=p50, num_runs=9, num_threads=1
        )
    return EngineReport(engine=name, size_bytes=2**20, latency=latency, disqualified=disqualified)


def statuses(
    budget: Budget, *stages: StageReport, selected: EngineReport | None = None
) -> list[str]:
    verdicts = judge(budget, metric="top-1", stages=stages, selected=selected, is_emulated=True)
    return [f"{verdict.name}: {verdict.status}" for verdict in verdicts]


def test_drop_is_counted_from_the_first_to_the_last_measurement() -> None:
    budget = Budget(metric=MetricBudget(max_drop=0.01))
    assert statuses(budget, stage("a", 0.92), stage("b"), stage("c", 0.91)) == [
        "top-1.max_drop: passed"
    ]
    assert statuses(budget, stage("a", 0.92), stage("c", 0.90)) == ["top-1.max_drop: missed"]


def test_drop_of_a_metric_that_should_fall_is_a_rise() -> None:
    budget = Budget(metric=MetricBudget(max_drop=0.01))
    rows = (stage("a", 0.10, better="lower"), stage("c", 0.20, better="lower"))
    assert statuses(budget, *rows) == ["top-1.max_drop: missed"]


def test_without_data_the_metric_is_not_measured() -> None:
    assert statuses(Budget(metric=MetricBudget(max_drop=0.01, min=0.9)), stage("a")) == [
        "top-1.max_drop: not measured",
        "top-1.min: not measured",
    ]


def test_latency_on_an_emulator_is_not_measured() -> None:
    budget = Budget(latency_ms=LatencyBudget(p50=5, p99=9), size_mib=1.0)
    assert statuses(budget, stage("a"), selected=engine("tvm")) == [
        "size_mib: passed",
        "latency_ms.p50: not measured",
        "latency_ms.p99: not measured",
    ]


def test_measured_latency_is_judged_by_each_percentile() -> None:
    budget = Budget(latency_ms=LatencyBudget(p50=5, p99=9))
    assert statuses(budget, stage("a"), selected=engine("tvm", 4.0)) == [
        "latency_ms.p50: passed",
        "latency_ms.p99: missed",
    ]


def test_fastest_qualified_engine_wins() -> None:
    engines = [engine("tvm", 1.0, "runs int8 as float"), engine("a", 3.0), engine("b", 2.0)]
    selection = select_engine(engines, ("tvm", "a", "b"))
    assert selection.winner is not None
    assert selection.winner.engine == "b"
    assert selection.selected_by == "latency"
    assert [e.selected for e in selection.engines] == [False, False, True]


def test_order_decides_when_an_engine_has_no_latency() -> None:
    selection = select_engine([engine("b", 2.0), engine("a")], ("a", "b"))
    assert selection.winner is not None
    assert (selection.winner.engine, selection.selected_by) == ("a", "order")


def test_nobody_wins_when_all_are_disqualified() -> None:
    selection = select_engine([engine("a", 1.0, "wrong")], ("a",))
    assert (selection.winner, selection.selected_by) == (None, None)


def test_engine_that_loses_accuracy_on_the_device_is_disqualified() -> None:
    engines = (
        EngineReport(engine="a", size_bytes=1, accuracy_loss=0.02, num_images=100),
        EngineReport(engine="b", size_bytes=1, accuracy_loss=0.0, num_images=100),
        EngineReport(engine="c", size_bytes=1, disqualified="wrong", accuracy_loss=0.5),
    )
    found = disqualify_inaccurate(engines, Budget(metric=MetricBudget(max_drop=0.01)).metric_loss)
    assert [e.disqualified is None for e in found] == [False, True, False]
    assert found[0].disqualified is not None
    assert "loses 0.0200 of the metric" in found[0].disqualified
    assert found[2].disqualified == "wrong"
