"""Options: the typed, frozen structs that recipes fill, with each bound and help text stated once.

Why structs and not classes with `__init__`: one annotation holds the type, the bound and the help,
the plan can validate every option of every method without importing a framework, and the JSON
Schema for editors falls out of the same annotations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Meta

__all__ = [
    "Meta",
    "Named",
    "Options",
    "default_variant",
    "keyed_variant",
    "path_option",
    "path_or_name",
    "variant",
]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold the options of one entry of a registry, or of a part of a recipe."""


class Named(NamedTuple):
    """Tell the schema that field `field` names an entry of registry `kind` and `options` fills it.

    A struct carries it as the class attribute `named`, so that `{architecture: resnet8,
    options: {width: 16}}` resolves `options` to the entry's own struct.
    """

    field: str
    kind: str


def variant(kind: str, description: str | None = None) -> Meta:
    """Mark a field that holds an entry of registry `kind`, written `name` or `{name: options}`."""
    return Meta(description=description, extra={"registry": kind})


def keyed_variant(kind: str, description: str | None = None) -> Meta:
    """Mark a field whose mapping names its entry by one of its own keys: `{onnx: net.onnx}`."""
    return Meta(description=description, extra={"registry": kind, "keyed": True})


def path_option(description: str | None = None) -> Meta:
    """Mark a text field as a path: relative ones start at the recipe's folder.

    In cache keys a path stands for the content of the file or folder, not for its name.
    """
    return Meta(description=description, extra={"path": True})


def path_or_name(description: str | None = None) -> Meta:
    """Mark a text field as a path when something is there, and as a plain name otherwise."""
    return Meta(description=description, extra={"path": "existing"})


def default_variant(kind: str, name: str) -> Callable[[], Any]:
    """Return a `default_factory` that builds entry `name` of registry `kind` with its defaults."""

    def build() -> Any:  # noqa: ANN401 - the entry's own struct, known only at run time
        from edgekit.core.registry import registry

        return registry(kind).get(name)()

    return build
