"""Explain an entry of the store: what its key was made from and what sets it apart."""

from __future__ import annotations

import msgspec

from edgekit.core.errors import InputError
from edgekit.pipeline.keys import Difference, key_differences
from edgekit.pipeline.plan import nearest_entry
from edgekit.pipeline.store import Entry, Store

MIN_PREFIX = 4


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
    rows = key_differences(entry.parts, against.parts)
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
