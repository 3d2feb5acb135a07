"""Registries: the folder is the list, so a new file is a new entry and nothing else is edited.

`learn/methods/dynamic_kd.py` holds class `DynamicKd` and is called `dynamic-kd` in a recipe.
Packages outside edgekit add entries through the entry-point group `edgekit.plugins`, with the
entry point's name being `kind.name`, for example `methods.my-method`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil
from pathlib import Path
from typing import Any

from edgekit.core.errors import EdgekitError, InputError, near

FOLDERS: dict[str, str] = {
    "sources": "edgekit.sources",
    "stages": "edgekit.stages",
    "methods": "edgekit.learn.methods",
    "losses": "edgekit.learn.losses",
    "teachers": "edgekit.learn.teachers",
    "importance": "edgekit.compress.pruning.importance",
    "observers": "edgekit.compress.quant.observers",
    "backends": "edgekit.compress.quant.backends",
    "engines": "edgekit.compiler.engines",
    "runners": "edgekit.devices.runners",
    "architectures": "edgekit.zoo.architectures",
    "datasets": "edgekit.data.datasets",
    "preprocess": "edgekit.data.preprocess",
    "metrics": "edgekit.data.metrics",
}
"""Registry kind to the package whose modules are its entries."""

_SINGULAR = {
    "importance": "importance",
    "losses": "loss",
    "preprocess": "preprocessing step",
    "sources": "model source",
}
PLUGIN_GROUP = "edgekit.plugins"


class Registry:
    """List and load the entries of one kind."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package

    def names(self) -> tuple[str, ...]:
        """Return the entries' names as recipes spell them, sorted; imports no entry."""
        return tuple(sorted({*self._own(), *self._plugins()}))

    def get(self, name: str) -> type[Any]:
        """Return the class of entry `name`.

        Raises:
            InputError: No such entry; the nearest name is offered.
            EdgekitError: A plugin of that name does not load.
        """
        name = name.replace("_", "-")
        if name in self._own():
            stem = name.replace("-", "_")
            module = importlib.import_module(f"{self.package}.{stem}")
            entry = getattr(module, class_name(stem), None)
            if not isinstance(entry, type):
                raise AssertionError(f"{module.__name__} must define class {class_name(stem)}")
            return entry
        point = self._plugins().get(name)
        if point is None:
            raise InputError(
                f"unknown {self.singular} '{name}'", hint=near(name, self.names())
            ) from None
        try:
            loaded = point.load()
        except Exception as error:
            raise EdgekitError(
                f"loading plugin '{point.name}' of package '{_package(point)}'",
                found=f"{type(error).__name__}: {error}",
                hint="Repair or uninstall that package",
            ) from error
        if not isinstance(loaded, type):
            raise EdgekitError(f"plugin '{point.name}'", found=str(loaded), expected="a class")
        return loaded

    def name_of(self, entry: type[Any]) -> str:
        """Return the name under which a class is registered."""
        if entry.__module__.rpartition(".")[0] == self.package:
            return entry.__module__.rpartition(".")[2].replace("_", "-")
        for name, point in self._plugins().items():
            if point.value == f"{entry.__module__}:{entry.__qualname__}":
                return name
        raise KeyError(f"{entry} is not an entry of registry '{self.kind}'")

    def help(self, name: str) -> str:
        """Return the first paragraph of the entry's docstring."""
        doc = self.get(name).__doc__ or ""
        return " ".join(doc.strip().split("\n\n")[0].split())

    @property
    def singular(self) -> str:
        """Return the word for one entry, for messages."""
        return _SINGULAR.get(self.kind, self.kind[:-1])

    def _own(self) -> frozenset[str]:
        return _folder_names(self.package)

    def _plugins(self) -> dict[str, importlib.metadata.EntryPoint]:
        return _plugins().get(self.kind, {})


def registry(kind: str) -> Registry:
    """Return the registry of `kind`, one of `FOLDERS`."""
    return Registry(kind, FOLDERS[kind])


def class_name(stem: str) -> str:
    """Return the class that module `stem` must define: `dynamic_kd` gives `DynamicKd`."""
    return "".join(part.capitalize() for part in stem.split("_"))


def entry_kind(entry: type[Any]) -> str | None:
    """Return the registry kind a class belongs to by its module, or None."""
    package = entry.__module__.rpartition(".")[0]
    return next((kind for kind, folder in FOLDERS.items() if folder == package), None)


@functools.cache
def _folder_names(package: str) -> frozenset[str]:
    # The folder is found without importing its parents' frameworks: packages here are light.
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and package.startswith(error.name):
            return frozenset()
        raise
    paths = [str(Path(path)) for path in module.__path__]
    return frozenset(
        info.name.replace("_", "-")
        for info in pkgutil.iter_modules(paths)
        if not info.name.startswith("_") and not info.ispkg
    )


@functools.cache
def _plugins() -> dict[str, dict[str, importlib.metadata.EntryPoint]]:
    found: dict[str, dict[str, importlib.metadata.EntryPoint]] = {}
    for point in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        kind, _, name = point.name.partition(".")
        if kind in FOLDERS and name:
            found.setdefault(kind, {})[name] = point
    return found


def _package(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown"
