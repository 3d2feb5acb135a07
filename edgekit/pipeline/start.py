"""Start a project: a recipe to edit, with the schema that lets an editor help."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgekit.core.assets import find_asset
from edgekit.core.errors import InputError
from edgekit.core.files import write_atomic
from edgekit.pipeline.catalog import file_schema
from edgekit.pipeline.recipe import DEFAULT_FILE

SCHEMA_FILE = ".edgekit-recipe.schema.json"
MODELINE = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"


def start_project(folder: Path, base: str) -> tuple[Path, ...]:
    """Write `edgekit.yaml`, copied from recipe `base`, and the schema it refers to.

    Raises:
        InputError: The folder already has an `edgekit.yaml`, or there is no such recipe.
    """
    recipe = folder / DEFAULT_FILE
    if recipe.exists():
        raise InputError(f"{recipe} exists already", hint="Nothing was changed; edit it instead")
    content = find_asset("recipes", base).read_text(encoding="utf-8")
    schema = folder / SCHEMA_FILE
    encoded = msgspec.json.format(msgspec.json.encode(file_schema("recipe")), indent=2)
    write_atomic(schema, encoded + b"\n")
    write_atomic(recipe, (MODELINE + content).encode())
    return recipe, schema
