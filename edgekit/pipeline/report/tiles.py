"""The few figures everybody asks for, large: accuracy, size, speed, work."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.core.report import BuildReport, StageReport
from edgekit.pipeline.report import figures, rows, wording
from edgekit.pipeline.report.foreign import printable
from edgekit.pipeline.report.markup import Markup, tag

_Tile = tuple[str, str, str]  # label, figure, note


def render(report: BuildReport) -> Markup | None:
    """Return the tiles; a figure that nothing measured has none."""
    found = [tile for make in (_accuracy, _size, _speed, _work) for tile in make(report)]
    if not found:
        return None
    tiles = [
        tag(
            "div",
            tag("dt", label),
            tag("dd", value, class_="value"),
            tag("dd", note, class_="note"),
        )
        for label, value, note in found
    ]
    return tag("dl", *tiles, class_="tiles")


def _accuracy(report: BuildReport) -> Iterator[_Tile]:
    stages = _with(report, report.metric)
    if stages:
        first, last = stages[0], stages[-1]
        old, new = rows.stage_values(first)[report.metric], rows.stage_values(last)[report.metric]
        note = f"after {printable(last.label)}"
        if first is not last:
            change = figures.typeset(figures.change(new - old))
            since = f"{change} from {figures.quantity(old, '')}"
            note = f"as after {printable(first.label)}" if change == "0" else since
        yield printable(report.metric), figures.quantity(new, ""), note


def _size(report: BuildReport) -> Iterator[_Tile]:
    num_bytes = wording.final_size(report)
    if num_bytes is None:
        return
    engine = wording.selected_engine(report)
    stages = _with(report, "size_bytes")
    note = "" if engine is None else f"{printable(engine.engine)}, all its files"
    old = rows.stage_values(stages[0])["size_bytes"] if stages else 0.0
    if old > num_bytes:
        shrunk = figures.typeset(figures.ratio(old, num_bytes))
        note = f"{shrunk} than {figures.size(old)}"
    yield "size", figures.size(num_bytes), note


def _speed(report: BuildReport) -> Iterator[_Tile]:
    engine = wording.selected_engine(report)
    if engine is None:
        return
    if report.is_emulated:
        if engine.instructions_m is not None:
            value = figures.instructions(engine.instructions_m)
            yield "instructions per inference", value, "emulated: no timing"
    elif engine.latency is not None:
        value = figures.milliseconds(engine.latency.p50_ms)
        yield "latency p50", value, wording.speed_note(engine.latency)


def _work(report: BuildReport) -> Iterator[_Tile]:
    stages = _with(report, "macs")
    if stages:
        old, new = (rows.stage_values(stage)["macs"] for stage in (stages[0], stages[-1]))
        share = f"{figures.percent(round(new / old, 3))} of {figures.count(old)}" if old else ""
        note = f"after {printable(stages[-1].label)}" if new == old else share
        yield "MACs per inference", figures.count(new), note


def _with(report: BuildReport, metric: str) -> list[StageReport]:
    return [stage for stage in report.stages if metric in rows.stage_values(stage)]
