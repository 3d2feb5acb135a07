"""Explain an entry of the store: what its key was made from and what sets it apart."""

from __future__ import annotations

from typing import Any

import msgspec

from edgekit.core.errors import InputError
from edgekit.pipeline.plan import difference, nearest_entry
from edgekit.pipeline.store import Entry, Store

MIN_PREFIX = 4


class Difference(msgspec.Struct, frozen=True):
    """Hold one part in which two keys differ, with both values."""

    name: str
    this: Any
    other: Any


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Hold an entry, the one it is compared with, and where they differ."""

    entry: Entry
    other: Entry | None
    differences: tuple[Difference, ...]


def explain_entry(store: Store, key: str, other: str | None = None) -> Explanation:
    """Explain the entry whose key starts with `key`.

    Raises:
        InputError: No entry, or several, start with it.
    """
    entries = tuple(store.entries())
    entry = _find(entries, key)
    if other is not None:
        against: Entry | None = _find(entries, other)
    else:
        rest = tuple(row for row in entries if row.key != entry.key)
        nearest = nearest_entry(entry.parts, rest)
        against = nearest[0] if nearest else None
    if against is None:
        return Explanation(entry=entry, other=None, differences=())
    this, that = msgspec.to_builtins(entry.parts), msgspec.to_builtins(against.parts)
    rows = tuple(
        Difference(name, _value(this, name), _value(that, name))
        for name in difference(entry.parts, against.parts)
    )
    return Explanation(entry=entry, other=against, differences=rows)


def _find(entries: tuple[Entry, ...], prefix: str) -> Entry:
    found = [entry for entry in entries if entry.key.startswith(prefix)]
    if len(prefix) < MIN_PREFIX or len(found) != 1:
        raise InputError(
            f"key '{prefix}'",
            found=f"{len(found)} entries that start with it",
            expected=f"one, by at least {MIN_PREFIX} characters",
            hint="See `edgekit cache ls`",
        )
    return found[0]


def _value(parts: Any, name: str) -> Any:  # noqa: ANN401 - plain data
    for step in name.split("."):
        parts = parts.get(step) if isinstance(parts, dict) else None
    return parts
