"""The catalog: everything a recipe or a command may name, with one line of help each."""

from __future__ import annotations

from typing import Any

import msgspec

from edgekit.core.assets import asset_names, find_asset
from edgekit.core.errors import InputError, near
from edgekit.core.json_schema import json_schema
from edgekit.core.registry import FOLDERS, registry
from edgekit.core.target import Target
from edgekit.core.yaml_file import load_yaml
from edgekit.pipeline.recipe import Recipe

KINDS: tuple[str, ...] = ("targets", "recipes", *FOLDERS)
SCHEMAS: dict[str, tuple[type[msgspec.Struct], str]] = {
    "recipe": (Recipe, "edgekit recipe"),
    "target": (Target, "edgekit target"),
}


class EntryHelp(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one entry of a registry with its options."""

    name: str
    kind: str
    help: str
    options: dict[str, Any]
    required: tuple[str, ...]


def catalog(kind: str) -> dict[str, str | None]:
    """Return the names of a kind with their help."""
    if kind in ("targets", "recipes"):
        return {name: _description(kind, name) for name in asset_names(kind)}  # type: ignore[arg-type]
    entries = registry(kind)
    return {name: entries.help(name) for name in entries.names()}


def describe(name: str) -> tuple[EntryHelp, ...]:
    """Return every registry entry called `name`, with its options as JSON Schema.

    Raises:
        InputError: No registry has it.
    """
    kinds = [kind for kind in FOLDERS if name in registry(kind).names()]
    found = tuple(_entry_help(name, kind) for kind in kinds)
    if not found:
        known = {entry for kind in FOLDERS for entry in registry(kind).names()}
        raise InputError(f"nothing is called '{name}'", hint=near(name, known))
    return found


def _entry_help(name: str, kind: str) -> EntryHelp:
    entry = registry(kind).get(name)
    schema = json_schema(entry, name, frozenset())
    return EntryHelp(
        name=name,
        kind=kind,
        help=(entry.__doc__ or "").strip(),
        options={key: value for key, value in schema["properties"].items() if key != "edgekit"},
        required=tuple(key for key in schema["required"] if key != "edgekit"),
    )


def file_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of recipe or target files."""
    struct, title = SCHEMAS[kind]
    return json_schema(struct, title, frozenset({"name"}))


def _description(kind: str, name: str) -> str | None:
    try:
        value = load_yaml(find_asset(kind, name)).value  # type: ignore[arg-type]
    except InputError as error:
        return f"not readable: {error.doing}"
    return str(value.get("description", "")) if isinstance(value, dict) else None
