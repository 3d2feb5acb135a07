"""Plan: recipe and target become a chain of stages with keys, before anything runs.

Everything that can be refused is refused here: stages that do not chain, stages that need data
which the recipe does not name, targets an engine cannot serve.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edgekit.core.errors import InputError
from edgekit.core.model import ModelKind
from edgekit.core.options import Options
from edgekit.core.places import cache_folder
from edgekit.core.registry import registry
from edgekit.core.target import Target, host_cpu
from edgekit.data.source import Data
from edgekit.devices.identity import device_identity, runner_modules
from edgekit.pipeline.keys import KeyParts, key_differences, stage_key, stage_reads
from edgekit.pipeline.recipe import Recipe, stage_labels
from edgekit.pipeline.store import Entry, Store

SOURCE_LABEL = "model"


class PlannedStage(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one stage of a plan.

    Args:
        label: Distinct name within the recipe; `model` for the source.
        stage: The stage's options, which are the stage.
        kind: Kind of the model it leaves.
        parts: What its key is made of.
        uses: Labels of other earlier stages it asks for.
    """

    label: str
    stage: Options
    kind: ModelKind
    parts: KeyParts
    uses: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return the stage's key in the store."""
        return self.parts.key

    @property
    def is_measuring(self) -> bool:
        """Tell whether the result is a measurement, which `--remeasure` repeats."""
        return bool(getattr(self.stage, "measures", False))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what would run for one target."""

    recipe: Recipe
    target: Target
    stages: tuple[PlannedStage, ...]
    runner: str
    data: Data | None
    num_threads: int


class PlanLine(msgspec.Struct, frozen=True, kw_only=True):
    """Say of one planned stage whether it is cached, and if not why."""

    label: str
    stage: str
    key: str
    status: Literal["cached", "run"]
    reason: str
    shared_with: tuple[str, ...]


def make_plan(
    recipe: Recipe,
    target: Target,
    *,
    until: str | None = None,
    runner: str | None = None,
    num_threads: int | None = None,
) -> Plan:
    """Plan a recipe for a target.

    Args:
        recipe: The resolved recipe.
        target: The resolved target.
        until: Label of the last stage to plan; None for all.
        runner: Runner URI; None for the target's own.
        num_threads: Threads for training; None for all cores this process may use.

    Raises:
        InputError: The recipe cannot work: the place and the remedy are named.
    """
    data = _data(recipe)
    runner = runner or target.runner
    threads = num_threads or host_cpu().cores
    chain = _chain(_within_budget(recipe, target), until)
    _check_chain(recipe, chain, data)
    planned: list[PlannedStage] = []
    for label, stage, kind in chain:
        uses = tuple(getattr(stage, "uses", ()))
        keys = {earlier.label: earlier.key for earlier in planned}
        _check_uses(recipe, label, uses, tuple(keys))
        check = getattr(stage, "check", None)
        if check is not None:
            check(target if stage_reads(stage) else None, has_data=data is not None)
        measures = bool(getattr(stage, "measures", False))
        parts = stage_key(
            stage,
            input_key=planned[-1].key if planned else None,
            uses={name: keys[name] for name in uses},
            target=target,
            data=None if data is None else data.fingerprint,
            metric=None if data is None else recipe.metric,
            seed=recipe.seed,
            num_threads=threads,
            device=device_identity(runner, target, cache_folder()) if measures else {},
            modules=_data_modules(data) | (runner_modules(runner) if measures else frozenset()),
        )
        planned.append(PlannedStage(label=label, stage=stage, kind=kind, parts=parts, uses=uses))
    return Plan(
        recipe=recipe,
        target=target,
        stages=tuple(planned),
        runner=runner,
        data=data,
        num_threads=threads,
    )


def explain_plans(plans: list[Plan], store: Store) -> list[list[PlanLine]]:
    """Say for each stage of each plan whether it is cached, why not, and who shares it."""
    entries = tuple(store.entries())
    users: dict[str, list[str]] = {}
    for plan in plans:
        for stage in plan.stages:
            users.setdefault(stage.key, []).append(plan.target.name)
    return [[_line(plan, stage, store, entries, users) for stage in plan.stages] for plan in plans]


def difference(wanted: KeyParts, found: KeyParts) -> tuple[str, ...]:
    """Return the dotted names of the parts in which two keys differ."""
    return tuple(row.name for row in key_differences(wanted, found))


def nearest_entry(parts: KeyParts, entries: tuple[Entry, ...]) -> tuple[Entry, tuple[str, ...]] | (
    None
):
    """Return the stored entry of the same stage that differs in the fewest parts."""
    rows = [
        (entry, difference(parts, entry.parts))
        for entry in entries
        if entry.parts.stage == parts.stage
    ]
    return min(rows, key=lambda row: (len(row[1]), row[0].key), default=None)


def _within_budget(recipe: Recipe, target: Target) -> Recipe:
    """Hand the budget's size to the stages that can trade size against speed."""
    limit = recipe.budget_for(target.name).size_mib
    stages = tuple(
        stage.with_budget(limit) if hasattr(stage, "with_budget") else stage
        for stage in recipe.stages
    )
    return msgspec.structs.replace(recipe, stages=stages)


def _data(recipe: Recipe) -> Data | None:
    spec = recipe.data
    if spec is None or spec.options is None:
        return None
    return Data(
        dataset=spec.options,  # type: ignore[arg-type]
        split=spec.split,
        preprocess=recipe.preprocess,  # type: ignore[arg-type]
        seed=recipe.seed,
    )


def _data_modules(data: Data | None) -> frozenset[str]:
    if data is None:
        return frozenset()
    parts = (data, data.dataset, *data.preprocess)
    return frozenset(type(part).__module__ for part in parts)


def _chain(recipe: Recipe, until: str | None) -> list[tuple[str, Options, ModelKind]]:
    labels = stage_labels(recipe.stages)
    kind: ModelKind = recipe.model.produces(None)  # type: ignore[attr-defined]
    chain = [(SOURCE_LABEL, recipe.model, kind)]
    if until is not None and until not in (*labels, SOURCE_LABEL):
        raise InputError(
            f"--until '{until}'", expected=f"one of {', '.join((SOURCE_LABEL, *labels))}"
        )
    for label, stage in zip(labels, recipe.stages, strict=True):
        if chain[-1][0] == until:
            break
        accepts: frozenset[ModelKind] = stage.accepts  # type: ignore[attr-defined]
        if kind not in accepts:
            raise InputError(
                f"{recipe.name}: stage '{label}' cannot follow '{chain[-1][0]}'",
                found=f"a {kind.value} model",
                expected=" or ".join(sorted(k.value for k in accepts)),
                hint=_chain_hint(kind, accepts),
            )
        kind = stage.produces(kind)  # type: ignore[attr-defined]
        chain.append((label, stage, kind))
    return chain


def _check_parts(recipe: Recipe, label: str, stage: Options, data: Data) -> None:
    for part in getattr(stage, "data_parts", ()):
        try:
            data.require(part)
        except InputError as error:
            error.add_note(f"stage '{label}' of recipe '{recipe.name}' needs it")
            raise


def _chain_hint(kind: ModelKind, accepts: frozenset[ModelKind]) -> str:
    if kind is ModelKind.TORCH and ModelKind.ONNX in accepts:
        return "Put an `export` stage before it"
    if ModelKind.COMPILED in accepts:
        return "Put a `compile` stage before it"
    return "Move it earlier in the recipe"


def _check_chain(
    recipe: Recipe, chain: list[tuple[str, Options, ModelKind]], data: Data | None
) -> None:
    for label, stage, _ in chain:
        if data is not None:
            _check_parts(recipe, label, stage, data)
        if recipe.data is None and bool(getattr(stage, "needs_data", False)):
            raise InputError(
                f"{recipe.name}: stage '{label}' needs data and the recipe names none",
                hint="Add a `data:` section, or pass --data with --model",
            )


def _check_uses(recipe: Recipe, label: str, uses: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in uses:
        if name not in known:
            raise InputError(
                f"{recipe.name}: stage '{label}' asks for stage '{name}'",
                expected=f"one of the stages before it: {', '.join(known)}",
            )


def _line(
    plan: Plan,
    stage: PlannedStage,
    store: Store,
    entries: tuple[Entry, ...],
    users: dict[str, list[str]],
) -> PlanLine:
    entry = store.find(stage.key)
    reason = ""
    if entry is None:
        nearest = nearest_entry(stage.parts, entries)
        reason = f"differs in {', '.join(nearest[1][:4])}" if nearest else "never run"
    elif stage.is_measuring:
        reason = f"measured {entry.created}"
    name = registry("sources" if stage.label == SOURCE_LABEL else "stages").name_of(
        type(stage.stage)
    )
    others = tuple(name for name in users[stage.key] if name != plan.target.name)
    return PlanLine(
        label=stage.label,
        stage=name,
        key=stage.key,
        status="run" if entry is None else "cached",
        reason=reason,
        shared_with=others,
    )
