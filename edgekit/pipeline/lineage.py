"""Lineage: where two builds part, and whether equal input gave equal output."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Literal

import msgspec

from edgekit.pipeline.manifest import Lineage, Manifest

_MAX_TEXT = 60


class FieldDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Name one thing that differs, by a dotted path, with both values as text."""

    name: str
    old: str
    new: str


class LineageDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Name the first stage in which two builds differ.

    Args:
        stage: Label of the stage.
        kind: `input` when its key differs, `not reproducible` when an equal key left something
            else, `added` and `removed` when only one build has it.
        fields: What differs in the key.
    """

    stage: str
    kind: Literal["input", "not reproducible", "added", "removed"]
    fields: tuple[FieldDifference, ...] = ()


def not_reproducible(earlier: Manifest | None, manifest: Manifest) -> tuple[str, ...]:
    """Name the first stage that made something else than before from equal input."""
    if earlier is None:
        return ()
    before = {entry.key: entry.payload for entry in earlier.lineage}
    for entry in manifest.lineage:
        if before.get(entry.key, entry.payload) != entry.payload:
            return (
                f"stage '{entry.stage}' is not reproducible: the same key {entry.key[:12]} gave "
                f"payload {before[entry.key][:12]} before and {entry.payload[:12]} now",
            )
    return ()


def first_difference(old: Manifest, new: Manifest) -> LineageDifference | None:
    """Return the first stage in which two builds differ, or None when their lineages are equal."""
    for one, other in zip_longest(old.lineage, new.lineage):
        if one is None:
            return LineageDifference(stage=other.stage, kind="added")
        if other is None:
            return LineageDifference(stage=one.stage, kind="removed")
        if one.key != other.key:
            fields = tuple(_fields(one, other, old, new))
            return LineageDifference(stage=other.stage, kind="input", fields=fields)
        if one.payload != other.payload:
            return LineageDifference(stage=other.stage, kind="not reproducible")
    return None


def differences(name: str, old: Any, new: Any) -> Iterator[FieldDifference]:  # noqa: ANN401
    """Yield where two pieces of plain data differ; lists are followed item by item."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            step = f"{name}.{key}" if name else str(key)
            yield from differences(step, old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list):
        for index, (one, other) in enumerate(zip_longest(old, new)):
            yield from differences(f"{name}[{index}]", one, other)
    elif old != new:
        yield FieldDifference(name=name, old=_text(old), new=_text(new))


def _fields(
    one: Lineage, other: Lineage, old: Manifest, new: Manifest
) -> Iterator[FieldDifference]:
    if one.stage != other.stage:
        yield FieldDifference(name="stage", old=one.stage, new=other.stage)
    elif one.fields and other.fields:
        yield from differences("", one.fields, other.fields)
    else:  # a bundle without the parts of its keys still has its recipe
        yield from differences("recipe", old.recipe, new.recipe)
        yield from differences("target", old.target, new.target)
        yield from differences("tools", old.tools, new.tools)


def _text(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 3]}..."
