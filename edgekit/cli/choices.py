"""Shared options of several commands, with completion of names in the shell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgekit.core.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])


def complete_assets(kind: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return a completer for the names of targets or recipes."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
        from edgekit.core.assets import asset_names

        return [name for name in asset_names(kind) if name.startswith(incomplete)]  # type: ignore[arg-type]

    return complete


def build_options(function: F) -> F:
    """Add the options that `build` and `plan` share."""
    options = [
        click.option(
            "-t",
            "--target",
            "targets",
            multiple=True,
            metavar="NAME",
            shell_complete=complete_assets("targets"),
            help="Target name or YAML file; repeat for several. Default: host.",
        ),
        click.option(
            "-r",
            "--recipe",
            metavar="NAME",
            shell_complete=complete_assets("recipes"),
            help="Recipe name or YAML file. Default: ./edgekit.yaml.",
        ),
        click.option(
            "-m",
            "--model",
            type=click.Path(dir_okay=False),
            metavar="FILE",
            help="Compile and profile this ONNX file without a recipe.",
        ),
        click.option(
            "--data",
            metavar="NAME|PATH",
            help="With --model: dataset name or .npz file; needed for int8 and accuracy.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "int8"]),
            default="fp32",
            show_default=True,
            help="With --model: int8 quantizes with calibration samples from --data.",
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Replace an option of the recipe, such as prune.ratio=0.4.",
        ),
        click.option(
            "--runner",
            "runners",
            multiple=True,
            metavar="[TARGET=]URI",
            help="Where to measure, such as emulated:rpi4. Default: the target's own.",
        ),
        click.option("--until", metavar="STAGE", help="Stop after this stage."),
        click.option(
            "--num-threads",
            type=click.IntRange(1, 1024),
            help="Threads for training. Default: all cores. Results depend on it.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def parse_runners(texts: tuple[str, ...], targets: tuple[str, ...]) -> dict[str, str]:
    """Split `--runner` texts into target name and URI; without a name the URI holds for all."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, uri = text.partition("=")
        key, value = (name, uri) if equals and name in targets else ("*", text)
        if key in found:
            raise InputError(f"--runner {text}", found="a second runner for the same target")
        found[key] = value
    return found


def request_from(
    *,
    targets: tuple[str, ...],
    recipe: str | None,
    model: str | None,
    data: str | None,
    precision: str,
    overrides: tuple[str, ...],
    runners: tuple[str, ...],
    until: str | None,
    num_threads: int | None,
    **more: Any,  # noqa: ANN401 - fields of BuildRequest
) -> Any:  # noqa: ANN401 - BuildRequest, imported late
    """Turn command-line values into a `BuildRequest`."""
    from edgekit.core.target import load_target
    from edgekit.pipeline.build import BuildRequest
    from edgekit.pipeline.quick import recipe_for_model
    from edgekit.pipeline.recipe import load_recipe

    if model is not None and recipe is not None:
        raise InputError("--model and --recipe were both given", expected="one of them")
    if model is None and (data is not None or precision != "fp32"):
        raise InputError("--data and --precision go with --model", hint="A recipe states its own")
    chosen = (
        load_recipe(recipe, overrides)
        if model is None
        else recipe_for_model(Path(model), data=data, precision=precision, overrides=overrides)
    )
    names = targets or ("host",)
    loaded = tuple(load_target(name) for name in names)
    return BuildRequest(
        recipe=chosen,
        targets=loaded,
        runners=parse_runners(runners, tuple(target.name for target in loaded)),
        until=until,
        num_threads=num_threads,
        **more,
    )


def resolved_files(
    recipe: str | None, model: str | None, targets: tuple[str, ...]
) -> dict[str, str]:
    """Return which file each name of a command stands for."""
    from edgekit.core.assets import find_asset
    from edgekit.pipeline.recipe import DEFAULT_FILE

    found = {}
    if model is not None:
        found["model"] = str(Path(model).absolute())
    else:
        place = Path(DEFAULT_FILE) if recipe is None else find_asset("recipes", recipe)
        found["recipe"] = str(place.absolute())
    for name in targets or ("host",):
        found[f"target {name}"] = str(find_asset("targets", name).absolute())
    return found
