"""Build: the whole way from a recipe and targets to reports and bundles."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgekit.core.assets import asset_names
from edgekit.core.errors import EdgekitError, InputError, StageError
from edgekit.core.files import explain_os_errors
from edgekit.core.model import ModelKind
from edgekit.core.places import store_folder
from edgekit.core.progress import NullProgress, Progress
from edgekit.core.registry import entry_kind, registry
from edgekit.core.report import BuildReport, DeviceReport, EngineReport, Mismatch, StageReport
from edgekit.core.schema import to_plain
from edgekit.core.target import Target, load_target
from edgekit.core.version import __version__
from edgekit.pipeline.budget import judge
from edgekit.pipeline.bundle import BundleFacts, write_bundle, write_index
from edgekit.pipeline.keys import entries_of
from edgekit.pipeline.manifest import Lineage
from edgekit.pipeline.plan import Plan, make_plan
from edgekit.pipeline.preflight import preflight
from edgekit.pipeline.race import Selection, disqualify_inaccurate, select_engine
from edgekit.pipeline.recipe import Recipe, load_recipe
from edgekit.pipeline.run import PlanRun, Settings, StageRun, run_plans
from edgekit.pipeline.store import Store


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Say what to build.

    Args:
        recipe: The recipe.
        targets: Targets in the order of their reports.
        output: Folder that receives one bundle per target.
        runners: Runner URI by target name; `*` for all others.
        until: Label of the last stage to run; None for all.
        num_threads: Threads for training; None for all cores.
        allow_code: Whether recipes may import Python code.
        remeasure: Whether measurements are repeated rather than reused.
    """

    recipe: Recipe
    targets: tuple[Target, ...]
    output: Path = Path("dist")
    runners: dict[str, str] = msgspec.field(default_factory=dict)
    until: str | None = None
    num_threads: int | None = None
    allow_code: bool = False
    remeasure: bool = False


def build(
    recipe: str | None = None,
    targets: Sequence[str] = ("host",),
    *,
    overrides: Sequence[str] = (),
    output: str | Path = "dist",
    runners: Mapping[str, str] | None = None,
    until: str | None = None,
    num_threads: int | None = None,
    allow_code: bool = False,
    remeasure: bool = False,
    progress: Progress | None = None,
) -> list[BuildReport]:
    """Build a recipe for targets and return one report per target.

    Args:
        recipe: Name or path; None for `edgekit.yaml` in the current folder.
        targets: Names or paths.
        overrides: `KEY=VALUE` texts that replace options, such as `prune.ratio=0.4`.
        output: Folder that receives one bundle per target.
        runners: Runner URI by target name, `*` for all others; None for the targets' own.
        until: Label of the last stage to run.
        num_threads: Threads for training.
        allow_code: Whether the recipe may import Python code of yours.
        remeasure: Whether to repeat measurements that are in the store.
        progress: Who listens; None for silence.

    Raises:
        InputError: Something given cannot work.
        StageError: A stage broke its promise.
        DeviceError: A device could not be used.
    """
    request = BuildRequest(
        recipe=load_recipe(recipe, overrides),
        targets=tuple(load_target(name) for name in targets),
        output=Path(output),
        runners=dict(runners or {}),
        until=until,
        num_threads=num_threads,
        allow_code=allow_code,
        remeasure=remeasure,
    )
    return run_build(request, progress or NullProgress())


def plan_build(request: BuildRequest) -> list[Plan]:
    """Plan every target of a request."""
    _check_targets(request)
    _find_user_code(request)
    return [
        make_plan(
            request.recipe,
            target,
            until=request.until,
            runner=request.runners.get(target.name, request.runners.get("*")),
            num_threads=request.num_threads,
        )
        for target in request.targets
    ]


def run_build(request: BuildRequest, progress: Progress) -> list[BuildReport]:
    """Run a request; see `build`.

    When one target fails the others are finished and bundled first, then its error is raised.
    """
    _check_code(request)
    plans = plan_build(request)
    _check_output(request.output)
    store = Store(store_folder())
    settings = Settings(
        store=store,
        progress=progress,
        allow_code=request.allow_code,
        remeasure=request.remeasure,
    )
    preflight(plans, store)
    reports: list[BuildReport] = []
    errors: list[tuple[str, EdgekitError]] = []
    with store.in_use():  # bundles are copied out of the store, so `gc` has to wait for them too
        for run in run_plans(plans, settings):
            target = run.plan.target.name
            if run.error is not None:
                errors.append((target, run.error))
                continue
            report, selection = _report(run)
            reports.append(_bundle(run, report, store, request.output))
            if selection is not None and selection.winner is None:
                errors.append((target, _no_engine(selection)))
    if len(reports) > 1 and any(report.output for report in reports):
        write_index(reports, request.output)
    if errors:
        raise _first_error(errors, plans, reports)
    return reports


def _first_error(
    errors: list[tuple[str, EdgekitError]], plans: list[Plan], reports: list[BuildReport]
) -> EdgekitError:
    target, error = errors[0]
    if len(plans) > 1:
        error.add_note(f"for target '{target}'; failed: {', '.join(name for name, _ in errors)}")
        done = [str(report.output) for report in reports if report.output]
        error.add_note(f"finished: {', '.join(done) or 'none'}")
    return error


def _check_targets(request: BuildRequest) -> None:
    names = [target.name for target in request.targets]
    if not names:
        raise InputError("no target was named", hint="Pass --target, see `edgekit list targets`")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"target '{twice.pop()}' is named twice")
    for name in request.runners:
        if name != "*" and name not in names:
            raise InputError(f"--runner names target '{name}'", expected=f"one of {names}")
    for name in request.recipe.per_target:
        if name not in names and name not in asset_names("targets"):
            raise InputError(f"{request.recipe.name}: per_target names unknown target '{name}'")


def _check_code(request: BuildRequest) -> None:
    if request.allow_code:
        return
    for entry in entries_of(request.recipe):
        if getattr(entry, "requires_code", False):
            name = registry(entry_kind(type(entry)) or "sources").name_of(type(entry))
            raise InputError(
                f"{request.recipe.name}: '{name}' runs Python code of yours",
                hint="Read that code, then repeat the command with --allow-code",
            )


def _find_user_code(request: BuildRequest) -> None:
    """Let `pkg.mod:fn` be found in the current folder, after everything that is installed."""
    uses_code = any(getattr(entry, "requires_code", False) for entry in entries_of(request.recipe))
    if uses_code and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def _check_output(output: Path) -> None:
    with explain_os_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        probe = output / ".edgekit-writable"
        probe.touch()
        probe.unlink()


def _no_engine(selection: Selection) -> StageError:
    reasons = "; ".join(f"{e.engine}: {e.disqualified}" for e in selection.engines)
    return StageError("no engine qualifies", found=reasons, hint="Add an engine to `compile`")


def _report(run: PlanRun) -> tuple[BuildReport, Selection | None]:
    plan = run.plan
    stages = tuple(_stage_report(stage) for stage in run.stages)
    details: dict[str, Any] = {}
    for stage in run.stages:
        details.update(stage.entry.details)
    budget = plan.recipe.budget_for(plan.target.name)
    engines = disqualify_inaccurate(
        msgspec.convert(details.get("engines", []), list[EngineReport]), budget.metric_loss
    )
    device = details.get("device")
    selection = select_engine(engines, plan.target.engines) if engines else None
    winner = selection.winner if selection else None
    metric = _metric(plan)
    report = BuildReport(
        recipe=plan.recipe.name,
        target=plan.target.name,
        stages=stages,
        metric=metric,
        engines=selection.engines if selection else (),
        selected=winner.engine if winner else None,
        selected_by=selection.selected_by if selection else None,
        device=_device(run, device),
        mismatches=tuple(msgspec.convert(details.get("mismatches", []), list[Mismatch])),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        wall_s=round(sum(s.duration_s or 0.0 for s in stages if s.status == "ran"), 3),
    )
    verdicts = judge(
        budget,
        metric=metric,
        stages=stages,
        selected=winner,
        is_emulated=report.is_emulated,
    )
    return msgspec.structs.replace(report, verdicts=verdicts), selection


def _device(run: PlanRun, found: dict[str, Any] | None) -> DeviceReport | None:
    if not found:
        return None
    device = msgspec.convert(found, DeviceReport)
    measured = next((s.entry.created for s in run.stages if s.planned.is_measuring), "")
    return msgspec.structs.replace(device, measured=measured)


def _stage_report(run: StageRun) -> StageReport:
    entry = run.entry
    hidden = {"engines", "device", "mismatches"}
    return StageReport(
        name=entry.parts.stage,
        label=run.planned.label,
        key=entry.key,
        status="cached" if run.was_cached else "ran",
        payload=entry.payload,
        kind=entry.kind.value,
        size_bytes=entry.size_bytes,
        duration_s=entry.duration_s,
        created=entry.created,
        metrics=entry.metrics,
        warnings=entry.warnings,
        details={name: value for name, value in entry.details.items() if name not in hidden},
    )


def _bundle(run: PlanRun, report: BuildReport, store: Store, output: Path) -> BuildReport:
    last = run.stages[-1]
    if last.entry.kind is not ModelKind.COMPILED:
        return report
    payload = store.path(last.entry.key) / "payload"
    paths = write_bundle(report, payload, _facts(run), output)
    return paths.report


def _facts(run: PlanRun) -> BundleFacts:
    plan = run.plan
    entry = run.stages[-1].entry
    lineage = tuple(
        Lineage(
            stage=stage.planned.label,
            key=stage.entry.key,
            payload=stage.entry.payload,
            fields=msgspec.to_builtins(stage.entry.parts),
        )
        for stage in run.stages
        if not stage.planned.is_measuring
    )
    tools = {
        name: version for stage in run.stages for name, version in stage.entry.parts.tools.items()
    }
    # Bundles name files, not places on the machine that built them.
    recipe = to_plain(plan.recipe, lambda path: Path(path).name)
    return BundleFacts(
        recipe=plan.recipe.name,
        recipe_options=recipe,
        target=msgspec.to_builtins(plan.target),
        preprocess=recipe["preprocess"],
        labels=entry.labels,
        inputs=entry.inputs,
        outputs=entry.outputs,
        metric=_metric(plan),
        lineage=lineage,
        tools=dict(sorted(tools.items())),
        edgekit_version=__version__,
    )


def _metric(plan: Plan) -> str:
    return registry("metrics").name_of(type(plan.recipe.metric)) if plan.data else ""
