"""JSON Schema of recipes and targets, for editors: completion and checks while typing.

msgspec writes the schema of plain values; variants, named references and registries are ours, so
their part is built here from the same annotations that `schema` reads.
"""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from edgekit.core.options import Meta, Named, Options
from edgekit.core.registry import entry_kind, registry
from edgekit.core.schema import to_plain

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(kind: type[msgspec.Struct], title: str, fixed: frozenset[str]) -> dict[str, Any]:
    """Return the JSON Schema of files that hold a `kind`.

    Args:
        kind: Struct the file resolves to.
        title: Title of the schema.
        fixed: Fields that the file does not set.
    """
    writer = _Writer()
    root = writer.struct(kind, fixed)
    root["properties"] = {"edgekit": {"const": 1}, **root["properties"]}
    root["required"] = ["edgekit", *root.get("required", [])]
    return {"$schema": DIALECT, "title": title, **root, "$defs": writer.definitions}


class _Writer:
    """Collect definitions while walking annotations."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def struct(
        self, kind: type[msgspec.Struct], fixed: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        """Return the schema of a struct's mapping."""
        hints = typing.get_type_hints(kind, include_extras=True)
        named: Named | None = getattr(kind, "named", None)
        properties: dict[str, Any] = {}
        required = []
        for field in msgspec.structs.fields(kind):
            if field.name in fixed:
                continue
            if named is not None and field.name == named.field:
                properties[field.name] = {"enum": list(registry(named.kind).names())}
            elif named is not None and field.name == "options":
                properties[field.name] = {"type": "object"}
            else:
                annotation = hints[field.name]
                described = {**self.value(annotation), **_default(field), **_described(annotation)}
                properties[field.name] = described
            if field.required:
                required.append(field.name)
        schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if kind.__doc__:
            schema["description"] = kind.__doc__.strip().splitlines()[0]
        return {**schema, "required": required} if required else schema

    def value(self, annotation: Any) -> dict[str, Any]:  # noqa: ANN401 - an annotation
        """Return the schema of one value."""
        base, metas = _unwrap(annotation)
        for meta in metas:
            if meta.extra and meta.extra.get("keyed"):
                return self._keyed(meta.extra["registry"])
            if meta.extra and "registry" in meta.extra:
                return self._variant(meta.extra["registry"])
        origin = get_origin(base)
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.value(member) for member in get_args(base)]}
        if isinstance(base, type) and issubclass(base, msgspec.Struct):
            return self.struct(base)
        if origin in (tuple, list):
            items = get_args(base)
            return {"type": "array", "items": self.value(items[0]) if items else {}}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.value(get_args(base)[1])}
        plain = Annotated[base, *map(_without_extra, metas)] if metas else base
        return msgspec.json.schema(plain)

    def _variant(self, kind: str) -> dict[str, Any]:
        entries = {name: self._entry(kind, name) for name in registry(kind).names()}
        choice = {
            "type": "object",
            "properties": entries,
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        }
        return {"anyOf": [{"enum": sorted(entries)}, choice]}

    def _keyed(self, kind: str) -> dict[str, Any]:
        return {"oneOf": [self._entry(kind, name) for name in registry(kind).names()]}

    def _entry(self, kind: str, name: str) -> dict[str, Any]:
        label = f"{kind}.{name}"
        if label not in self.definitions:
            self.definitions[label] = {}  # breaks cycles: a method may hold a method
            self.definitions[label] = self.struct(registry(kind).get(name))
        return {"$ref": f"#/$defs/{label}"}


def _described(annotation: Any) -> dict[str, str]:  # noqa: ANN401 - an annotation
    base, metas = _unwrap(annotation)
    found = next((meta.description for meta in metas if meta.description), None)
    if found is not None:
        return {"description": found}
    members = get_args(base) if get_origin(base) in (Union, types.UnionType) else ()
    return next((text for member in members if (text := _described(member))), {})


def _default(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    if field.default is not msgspec.NODEFAULT:
        value = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        return {}
    if isinstance(value, Options):
        kind = entry_kind(type(value))
        plain = to_plain(value)
        return {"default": registry(kind).name_of(type(value)) if kind else plain}
    return {"default": msgspec.to_builtins(value)}


def _without_extra(meta: Meta) -> Meta:
    names = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")
    kept = {name: getattr(meta, name) for name in names if getattr(meta, name) is not None}
    return Meta(description=meta.description, **kept)


def _unwrap(annotation: Any) -> tuple[Any, tuple[Meta, ...]]:  # noqa: ANN401 - an annotation
    if get_origin(annotation) is Annotated:
        base, *metas = get_args(annotation)
        return base, tuple(meta for meta in metas if isinstance(meta, Meta))
    return annotation, ()
