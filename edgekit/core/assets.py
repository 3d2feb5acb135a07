"""Targets and recipes as files: where a name is looked for, and what it resolved to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgekit.core.errors import InputError, near

Kind = Literal["targets", "recipes"]
_PACKAGE = Path(__file__).resolve().parent.parent


def asset_folders(kind: Kind) -> tuple[Path, ...]:
    """Return the folders searched for a kind: the user's own first, then those of edgekit."""
    own = Path.cwd() / kind
    folders = [own] if own.is_dir() else []
    shipped = shipped_folder(kind)
    if shipped.is_dir() and shipped not in (folder.resolve() for folder in folders):
        folders.append(shipped)
    return tuple(folders)


def shipped_folder(kind: Kind) -> Path:
    """Return edgekit's own folder: the checkout's top level, or the data inside the wheel."""
    checkout = _PACKAGE.parent / kind
    return checkout if (_PACKAGE.parent / "pyproject.toml").is_file() else _PACKAGE / "_data" / kind


def asset_names(kind: Kind) -> tuple[str, ...]:
    """Return the names that can be asked for, sorted."""
    found = {path.stem for folder in asset_folders(kind) for path in folder.glob("*.yaml")}
    return tuple(sorted(found))


def find_asset(kind: Kind, name: str) -> Path:
    """Return the file of a name, or the path itself when a path is given.

    Raises:
        InputError: No such file or name; the nearest name is offered.
    """
    singular = kind[:-1]
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name).expanduser()
        if not path.is_file():
            problem = "is not a regular file" if path.exists() else "does not exist"
            raise InputError(f"{singular} file '{name}' {problem}")
        return path
    for folder in asset_folders(kind):
        path = folder / f"{name}.yaml"
        if path.is_file():
            return path
    raise InputError(f"unknown {singular} '{name}'", hint=near(name, asset_names(kind)))
