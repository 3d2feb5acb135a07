"""Compare two bundles: what became better or worse, and which stage made the difference.

Timings are compared only where they can be: on the same target, the same kind of device and with
the same threads. Everything else is shown side by side and called not comparable, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from edgekit.core.report import BuildReport, EngineReport, Verdict
from edgekit.pipeline.judgement import Better, Judgement, Row, numbers, words
from edgekit.pipeline.lineage import LineageDifference, differences, first_difference
from edgekit.pipeline.report import rows, wording
from edgekit.pipeline.verify import OpenBundle, open_bundle

SCHEMA = 1

# Repeated runs of one program differ by so much; within it two figures count as equal.
_NOISE_TIME = 0.05
_NOISE_MEMORY = 0.05
_NOISE_INSTRUCTIONS = 0.005
_RANKS = {"missed": 0, "not measured": 1, "passed": 2}


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """Say which bundle stands on one side."""

    recipe: str
    target: str
    manifest_digest: str
    device: str
    is_emulated: bool
    created: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Hold two bundles side by side."""

    old: Side
    new: Side
    rows: tuple[Row, ...]
    lineage: LineageDifference | None
    schema: int = SCHEMA

    @property
    def is_same_build(self) -> bool:
        """Tell whether both bundles have the same manifest, byte for byte."""
        return self.old.manifest_digest == self.new.manifest_digest


def compare(old: Path, new: Path) -> Comparison:
    """Compare two bundles, each a folder or a tar file.

    Raises:
        InputError: One of them is not a whole bundle.
    """
    with open_bundle(old) as one, open_bundle(new) as other:
        return compare_bundles(one, other)


def compare_bundles(old: OpenBundle, new: OpenBundle) -> Comparison:
    """Compare two open bundles."""
    return Comparison(
        old=_side(old),
        new=_side(new),
        rows=(
            *_result(old.report, new.report),
            *_engines(old.report, new.report),
            *_budgets(old.report, new.report),
            *_tools(old, new),
        ),
        lineage=first_difference(old.manifest, new.manifest),
    )


def _side(bundle: OpenBundle) -> Side:
    return Side(
        recipe=bundle.report.recipe,
        target=bundle.report.target,
        manifest_digest=bundle.manifest_digest,
        device=rows.device_line(bundle.report),
        is_emulated=bundle.report.is_emulated,
        created=bundle.report.created,
    )


def _result(old: BuildReport, new: BuildReport) -> Iterator[Row]:
    other_metric = old.metric != new.metric
    yield from numbers(
        "result",
        new.metric or old.metric or "accuracy",
        wording.final_accuracy(old),
        wording.final_accuracy(new),
        better=_direction(new),
        obstacle=f"{old.metric} before, {new.metric} now" if other_metric else "",
    )
    sizes = wording.final_size(old), wording.final_size(new)
    yield from numbers("result", "size", *sizes, unit="bytes", better="lower")
    for name in ("macs", "params"):
        yield from numbers("result", name, _last(old, name), _last(new, name), better="lower")
    if old.selected or new.selected:
        yield words("result", "selected engine", old.selected, new.selected)


def _engines(old: BuildReport, new: BuildReport) -> Iterator[Row]:
    before = {engine.engine: engine for engine in old.engines}
    after = {engine.engine: engine for engine in new.engines}
    for name in dict.fromkeys((*before, *after)):
        group = f"engine {name}"
        if name not in before or name not in after:
            built = ("built" if name in side else "not built" for side in (before, after))
            yield words(group, "state", *built)
            continue
        yield from _engine(group, before[name], after[name], old, new)


def _engine(
    group: str, one: EngineReport, other: EngineReport, old: BuildReport, new: BuildReport
) -> Iterator[Row]:
    if (one.disqualified is None) != (other.disqualified is None):
        is_better = other.disqualified is None
        yield Row(
            group=group,
            name="state",
            old="qualified" if one.disqualified is None else "disqualified",
            new="qualified" if other.disqualified is None else "disqualified",
            judgement="better" if is_better else "worse",
            reason=one.disqualified or other.disqualified or "",
        )
    yield from numbers(group, "size", one.size_bytes, other.size_bytes, "bytes", better="lower")
    place = _obstacle(old, new)
    samples = "" if one.num_images == other.num_images else "other samples"
    yield from numbers(
        group,
        "accuracy on the device",
        _accuracy(one),
        _accuracy(other),
        better=_direction(new),
        obstacle=samples or ("" if old.metric == new.metric else "another metric"),
    )
    yield from _latency(group, one, other, old, new)
    yield from numbers(
        group,
        "instructions (emulated)" if old.is_emulated or new.is_emulated else "instructions",
        _times(one.instructions_m, 1e6),
        _times(other.instructions_m, 1e6),
        better="lower",
        noise=_NOISE_INSTRUCTIONS,
        obstacle=place,
    )
    yield from numbers(
        group,
        "peak memory",
        None if old.is_emulated else one.peak_rss_mib,
        None if new.is_emulated else other.peak_rss_mib,
        "MiB",
        better="lower",
        noise=_NOISE_MEMORY,
        obstacle=place,
    )


def _latency(
    group: str, one: EngineReport, other: EngineReport, old: BuildReport, new: BuildReport
) -> Iterator[Row]:
    # What an emulator's clock said is never shown.
    before = None if old.is_emulated else one.latency
    after = None if new.is_emulated else other.latency
    obstacle = _obstacle(old, new)
    if before and after and before.num_threads != after.num_threads:
        obstacle = obstacle or f"{before.num_threads} and {after.num_threads} threads"
    for name in ("p50", "p90", "p99"):
        yield from numbers(
            group,
            f"latency {name}",
            getattr(before, f"{name}_ms", None),
            getattr(after, f"{name}_ms", None),
            "ms",
            better="lower",
            noise=_NOISE_TIME,
            obstacle=obstacle,
        )


def _budgets(old: BuildReport, new: BuildReport) -> Iterator[Row]:
    before = {verdict.name: verdict for verdict in old.verdicts}
    after = {verdict.name: verdict for verdict in new.verdicts}
    for name in dict.fromkeys((*before, *after)):
        one, other = before.get(name), after.get(name)
        title = wording.budget_title(one or other)  # type: ignore[arg-type]
        if one is None or other is None:
            yield words("budgets", title, _state(one), _state(other))
            continue
        step = _RANKS[other.status] - _RANKS[one.status]
        limits = "" if one.limit == other.limit else "the limit changed"
        judgement: Judgement = "better" if step > 0 else "worse" if step < 0 else "equal"
        yield Row(
            group="budgets",
            name=title,
            old=_state(one),
            new=_state(other),
            judgement="changed" if limits else judgement,
            reason=limits,
        )


def _state(verdict: Verdict | None) -> str:
    return "not set" if verdict is None else f"{verdict.status}, {wording.budget_limit(verdict)}"


def _tools(old: OpenBundle, new: OpenBundle) -> Iterator[Row]:
    before = {"edgekit": old.manifest.edgekit, **old.manifest.tools}
    after = {"edgekit": new.manifest.edgekit, **new.manifest.tools}
    for found in differences("", before, after):
        yield words("tools", found.name, before.get(found.name), after.get(found.name))


def _obstacle(old: BuildReport, new: BuildReport) -> str:
    """Say why figures measured on the two devices cannot be compared; empty when they can."""
    if old.target != new.target:
        return "another target"
    if old.is_emulated != new.is_emulated:
        return "one of them was emulated"
    if old.device is None or new.device is None:
        return ""
    if old.device.fingerprint != new.device.fingerprint:
        return "another device"
    return ""


def _accuracy(engine: EngineReport) -> float | None:
    return None if engine.accuracy is None else engine.accuracy.value


def _direction(report: BuildReport) -> Better:
    found = [m for s in report.stages for m in s.metrics if m.name == report.metric]
    found += [engine.accuracy for engine in report.engines if engine.accuracy is not None]
    return found[-1].better if found else "none"


def _last(report: BuildReport, name: str) -> float | None:
    found = [rows.stage_values(stage).get(name) for stage in report.stages]
    return next((value for value in reversed(found) if value is not None), None)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
