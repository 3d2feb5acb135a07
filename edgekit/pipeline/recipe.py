"""Recipes: what to do to a model, read from YAML, with overrides from the command line.

Why here and not in `core`: only the pipeline reads recipes, and a recipe's data section is typed
by the data room, which `core` may not know.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from edgekit.core.assets import find_asset
from edgekit.core.errors import InputError, near
from edgekit.core.options import Meta, Named, Options, default_variant, keyed_variant, variant
from edgekit.core.registry import registry
from edgekit.core.schema import resolve_document
from edgekit.core.target import check_version
from edgekit.core.yaml_file import Document, load_yaml, parse_value
from edgekit.data.splits import SplitSpec

DEFAULT_FILE = "edgekit.yaml"
_ENGINE_LOSS = 0.01


class DataSpec(Options, frozen=True, kw_only=True):
    """Name a dataset and how it is split."""

    named: ClassVar[Named] = Named("name", "datasets")

    name: Annotated[str, Meta(description="Dataset, see `edgekit list datasets`")]
    options: Annotated[Options, variant("datasets")] | None = None
    split: SplitSpec = msgspec.field(default_factory=SplitSpec)


class MetricBudget(Options, frozen=True, kw_only=True):
    """Bound the recipe's metric on the test split."""

    max_drop: (
        Annotated[float, Meta(ge=0, description="Most that may be lost against the first stage")]
        | None
    ) = None
    min: Annotated[float, Meta(description="Least value of the final model")] | None = None


class LatencyBudget(Options, frozen=True, kw_only=True):
    """Bound the latency of one inference on the device, in milliseconds."""

    p50: Annotated[float, Meta(gt=0)] | None = None
    p90: Annotated[float, Meta(gt=0)] | None = None
    p99: Annotated[float, Meta(gt=0)] | None = None


class Budget(Options, frozen=True, kw_only=True):
    """State what the selected engine must keep to."""

    metric: MetricBudget | None = None
    size_mib: Annotated[float, Meta(gt=0, description="Size of the selected engine")] | None = None
    latency_ms: LatencyBudget | None = None
    peak_rss_mib: Annotated[float, Meta(gt=0, description="Peak memory")] | None = None

    @property
    def metric_loss(self) -> float:
        """Return what an engine may lose of the metric against the ONNX model it runs."""
        limit = None if self.metric is None else self.metric.max_drop
        return _ENGINE_LOSS if limit is None else limit


class PerTarget(Options, frozen=True, kw_only=True):
    """Replace parts of a recipe for one target."""

    budget: Budget


class Recipe(Options, frozen=True, kw_only=True):
    """Say what to do to a model."""

    name: str
    model: Annotated[Options, keyed_variant("sources", "Where the model comes from")]
    description: str = ""
    data: DataSpec | None = None
    preprocess: tuple[Annotated[Options, variant("preprocess")], ...] = ()
    metric: Annotated[Options, variant("metrics")] = msgspec.field(
        default_factory=default_variant("metrics", "top-1")
    )
    seed: Annotated[int, Meta(ge=0, lt=2**31, description="Seed of every random choice")] = 0
    stages: Annotated[
        tuple[Annotated[Options, variant("stages")], ...],
        Meta(min_length=1, max_length=64, description="In the order they run"),
    ]
    budget: Budget | None = None
    per_target: dict[str, PerTarget] = msgspec.field(default_factory=dict)

    def budget_for(self, target: str) -> Budget:
        """Return the budget that holds for a target."""
        own = self.per_target.get(target)
        return own.budget if own is not None else self.budget or Budget()


def load_recipe(name: str | None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or path; without a name, `edgekit.yaml` in the current folder.

    Args:
        name: Name of a recipe, or a path.
        overrides: `KEY=VALUE` texts, such as `prune.ratio=0.4`.

    Raises:
        InputError: No such recipe, or it does not fit the schema.
    """
    if name is None:
        path = Path(DEFAULT_FILE)
        if not path.is_file():
            raise InputError(
                "no recipe was named and there is no edgekit.yaml in this folder",
                hint="Pass --recipe NAME (see `edgekit list recipes`), --model FILE, "
                "or run `edgekit init`",
            )
    else:
        path = find_asset("recipes", name)
    return recipe_from(load_yaml(path), overrides)


def recipe_from(document: Document, overrides: Sequence[str] = ()) -> Recipe:
    """Resolve a parsed recipe document."""
    value = copy.deepcopy(check_version(document))
    for text in overrides:
        _override(value, text)
    name = document.path.stem
    return resolve_document(document._replace(value=value), Recipe, name=name)


def stage_labels(stages: Sequence[Options]) -> tuple[str, ...]:
    """Return one distinct label per stage: its name, numbered when it comes again."""
    seen: dict[str, int] = {}
    labels = []
    for stage in stages:
        name = registry("stages").name_of(type(stage))
        seen[name] = seen.get(name, 0) + 1
        labels.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return tuple(labels)


def _override(recipe: dict[str, Any], text: str) -> None:
    key, equals, raw = text.partition("=")
    steps = [step for step in key.strip().split(".") if step]
    if not equals or not steps:
        raise InputError(f"--set '{text}'", expected="KEY=VALUE, such as prune.ratio=0.4")
    node: Any = recipe
    if steps[0] not in recipe and steps[0] not in _field_names():
        node = _stage_options(recipe, steps[0], text)
        steps = steps[1:]
    if not steps:
        raise InputError(f"--set '{text}'", expected="an option behind the stage's name")
    for step in steps[:-1]:
        node = _step_into(node, step, text)
    if not isinstance(node, dict):
        raise InputError(f"--set '{text}'", found=f"{node!r}", expected="a path to one option")
    node[steps[-1]] = parse_value(raw)


def _step_into(node: Any, step: str, text: str) -> dict[str, Any] | list[Any]:  # noqa: ANN401
    """Go one step into plain data; a bare name becomes `{name: {}}` so that it can hold options."""
    if isinstance(node, list):
        spots = [index for index, item in enumerate(node) if _item_name(item) == step]
        if len(spots) != 1:
            raise InputError(f"--set '{text}'", found=f"{len(spots)} entries named '{step}'")
        node[spots[0]] = _as_mapping(node[spots[0]])
        return _step_into(node[spots[0]], step, text)
    if not isinstance(node, dict):
        raise InputError(f"--set '{text}'", found=f"{node!r} before '{step}'", expected="options")
    if node.get(step) is None or isinstance(node.get(step), str):
        node[step] = _as_mapping(node.get(step))
    found: dict[str, Any] | list[Any] = node[step]
    return found


def _as_mapping(item: object) -> dict[str, Any]:
    if item is None:
        return {}
    return {item: {}} if isinstance(item, str) else dict(item)  # type: ignore[call-overload]


def _stage_options(recipe: dict[str, Any], name: str, text: str) -> dict[str, Any]:
    stages = recipe.get("stages")
    items = stages if isinstance(stages, list) else []
    spots = [index for index, item in enumerate(items) if _item_name(item) == name]
    if len(spots) > 1:
        places = ", ".join(f"stages[{index}]" for index in spots)
        raise InputError(f"--set '{text}' is ambiguous", found=f"'{name}' at {places}")
    if not spots:
        known = {_item_name(item) for item in items} | _field_names()
        raise InputError(f"--set '{text}': no stage '{name}' here", hint=near(name, known))
    options = items[spots[0]][name] if isinstance(items[spots[0]], dict) else None
    items[spots[0]] = {name: options if isinstance(options, dict) else {}}
    found: dict[str, Any] = items[spots[0]][name]
    return found


def _item_name(item: object) -> str:
    return str(next(iter(item), "")) if isinstance(item, dict) else str(item)


def _field_names() -> set[str]:
    return {field.name for field in msgspec.structs.fields(Recipe)} - {"name"}
