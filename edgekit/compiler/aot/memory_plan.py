"""Place every buffer that lives during a run into one workspace, before the run.

Greedy, largest first, each into the tightest gap among those that live at the same time. For the
networks edgekit meets this reaches the lower bound (the largest sum of buffers alive at once), so
nothing cleverer is needed; the bound is reported beside the size to show when that stops holding.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

ALIGNMENT = 64  # a cache line, and the widest vector register any target has


class Lifetime(msgspec.Struct, frozen=True, kw_only=True):
    """Say how long a buffer must keep its contents.

    Args:
        first: Step that writes it.
        last: Last step that reads it, at least `first`.
        size: Size in bytes, at least 0.
    """

    first: int
    last: int
    size: int

    def overlaps(self, other: Lifetime) -> bool:
        """Return whether both are alive during some step."""
        return self.first <= other.last and other.first <= self.last


class MemoryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the offset of every buffer, in the order they were given.

    Args:
        offsets: Bytes from the start of the workspace, each a multiple of `ALIGNMENT`.
        size: Bytes of the workspace, a multiple of `ALIGNMENT`.
        lower_bound: Bytes alive during the busiest step: no plan can be smaller.
    """

    offsets: tuple[int, ...]
    size: int
    lower_bound: int


def align(size: int) -> int:
    """Round a size in bytes up to `ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan_memory(buffers: Sequence[Lifetime]) -> MemoryPlan:
    """Give every buffer a place where nothing alive at the same time lies.

    Args:
        buffers: Lifetimes in any order.

    Returns:
        The plan; offsets are in the order of `buffers`.
    """
    order = sorted(range(len(buffers)), key=lambda i: (-buffers[i].size, buffers[i].first, i))
    offsets: dict[int, int] = {}
    for index in order:
        offsets[index] = _tightest_gap(buffers, offsets, index)
    end = max((offsets[i] + align(buffers[i].size) for i in offsets), default=0)
    return MemoryPlan(
        offsets=tuple(offsets[i] for i in range(len(buffers))),
        size=end,
        lower_bound=lower_bound(buffers),
    )


def lower_bound(buffers: Sequence[Lifetime]) -> int:
    """Return the bytes alive during the busiest step."""
    changes: dict[int, int] = {}
    for buffer in buffers:
        changes[buffer.first] = changes.get(buffer.first, 0) + align(buffer.size)
        changes[buffer.last + 1] = changes.get(buffer.last + 1, 0) - align(buffer.size)
    alive = busiest = 0
    for step in sorted(changes):
        alive += changes[step]
        busiest = max(busiest, alive)
    return busiest


def _tightest_gap(buffers: Sequence[Lifetime], offsets: dict[int, int], index: int) -> int:
    wanted = align(buffers[index].size)
    busy = sorted(
        (offset, offset + align(buffers[other].size))
        for other, offset in offsets.items()
        if buffers[other].overlaps(buffers[index])
    )
    best: tuple[int, int] | None = None
    free_from = 0
    for start, end in busy:
        gap = start - free_from
        if gap >= wanted and (best is None or gap < best[0]):
            best = (gap, free_from)
        free_from = max(free_from, end)
    return best[1] if best is not None else free_from
