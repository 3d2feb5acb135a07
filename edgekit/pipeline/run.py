"""Run: drive the stages of several plans, each distinct stage once, keeping what is finished."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from edgekit.core.errors import EdgekitError, StageError
from edgekit.core.model import ModelHandle
from edgekit.core.places import cache_folder
from edgekit.core.progress import Progress
from edgekit.core.stage import Stage, StageContext
from edgekit.pipeline.plan import Plan, PlannedStage
from edgekit.pipeline.store import Entry, Store

if TYPE_CHECKING:
    from edgekit.core.stage import DataView, StageResult


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what holds for a whole build."""

    store: Store
    progress: Progress
    allow_code: bool = False
    remeasure: bool = False


class StageRun(msgspec.Struct, frozen=True):
    """Tell what happened to one planned stage."""

    planned: PlannedStage
    entry: Entry
    was_cached: bool


class PlanRun(msgspec.Struct, frozen=True, kw_only=True):
    """Tell what happened to one plan; `error` says why it stopped early."""

    plan: Plan
    stages: tuple[StageRun, ...]
    error: EdgekitError | None = None


def run_plans(plans: list[Plan], settings: Settings) -> list[PlanRun]:
    """Run every plan; a stage that several plans share runs once.

    The caller holds `store.in_use()` for as long as it reads entries.

    A plan that fails leaves the others running; its error is in the result.
    """
    # Training threads that spin while they wait make one another three to five times slower as
    # soon as anything else runs. The OpenMP runtime reads this once, when a framework loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    done: dict[str, StageRun] = {}
    failed: dict[str, EdgekitError] = {}
    return [_run_plan(plan, settings, done, failed) for plan in plans]


def _run_plan(
    plan: Plan, settings: Settings, done: dict[str, StageRun], failed: dict[str, EdgekitError]
) -> PlanRun:
    runs: list[StageRun] = []
    for planned in plan.stages:
        if planned.key in failed:
            return PlanRun(plan=plan, stages=tuple(runs), error=failed[planned.key])
        if planned.key not in done:
            try:
                done[planned.key] = _run_stage(plan, planned, runs, settings)
            except EdgekitError as error:
                failed[planned.key] = error
                return PlanRun(plan=plan, stages=tuple(runs), error=error)
        runs.append(done[planned.key])
    return PlanRun(plan=plan, stages=tuple(runs))


def _run_stage(
    plan: Plan, planned: PlannedStage, runs: list[StageRun], settings: Settings
) -> StageRun:
    store, progress = settings.store, settings.progress
    repeat = settings.remeasure and planned.is_measuring
    entry = None if repeat else store.find(planned.key)
    if entry is None:
        title = f"{plan.recipe.name}: {planned.label}"

        def waiting() -> None:
            progress.message(f"{title}: another build is making this; waiting for it")

        with store.claim(planned.key, waiting):
            # Whoever held the claim before may have made exactly this entry.
            entry = None if repeat else store.find(planned.key)
            if entry is None:
                return StageRun(planned, _make(plan, planned, runs, settings), was_cached=False)
    store.touch(planned.key)
    return StageRun(planned, entry, was_cached=True)


def _make(plan: Plan, planned: PlannedStage, runs: list[StageRun], settings: Settings) -> Entry:
    store = settings.store
    stage = cast("Stage", planned.stage)
    before = store.handle(runs[-1].entry) if runs else None
    with store.workspace(planned.key) as folder, settings.progress.start(planned.label):
        ctx = _context(plan, planned, runs, settings, folder)
        model = cast("ModelHandle", before)  # sources take None
        started = time.monotonic()
        with _named(plan, planned):
            stage.requires(model, ctx)
            result = stage.run(model, ctx)
            _check_result(planned, result, folder / "payload")
            stage.ensures(model, result, ctx)
            result = _with_host_latency(result, ctx)
        return store.add(folder, planned.parts, result, time.monotonic() - started)


def _context(
    plan: Plan, planned: PlannedStage, runs: list[StageRun], settings: Settings, folder: Path
) -> StageContext:
    earlier = {
        run.planned.label: settings.store.handle(run.entry)
        for run in runs
        if run.planned.label in planned.uses
    }
    reads = tuple(getattr(planned.stage, "reads", ()))
    return StageContext(
        workdir=folder / "payload",
        scratch=folder / "scratch",
        cache_dir=cache_folder(),
        seed=plan.recipe.seed,
        data=cast("DataView | None", plan.data),
        metric=None if plan.data is None else plan.recipe.metric,
        target=plan.target if reads else None,
        runner=plan.runner if planned.is_measuring else None,
        earlier=earlier,
        num_threads=plan.num_threads,
        allow_code=settings.allow_code,
        progress=settings.progress,
    )


def _with_host_latency(result: StageResult, ctx: StageContext) -> StageResult:
    from edgekit.evaluation.latency import host_latency

    metrics = (*result.metrics, *host_latency(result.model, ctx))
    return msgspec.structs.replace(result, metrics=metrics)


def _check_result(planned: PlannedStage, result: StageResult, payload: Path) -> None:
    if result.model.kind is not planned.kind or result.model.path != payload:
        raise StageError(
            f"stage '{planned.label}' left something other than it declared",
            found=f"a {result.model.kind.value} model in {result.model.path}",
            expected=f"a {planned.kind.value} model in its work folder",
        )


@contextmanager
def _named(plan: Plan, planned: PlannedStage) -> Iterator[None]:
    try:
        yield
    except EdgekitError as error:
        error.add_note(f"in stage '{planned.label}' of recipe '{plan.recipe.name}'")
        raise
    except MemoryError as error:
        raise StageError(
            f"stage '{planned.label}' ran out of memory",
            hint="Lower its batch size or subset size, or use a machine with more memory",
        ) from error
