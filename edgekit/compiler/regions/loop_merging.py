"""Merge the loops of a kernel's blocks into one nest, and let threads share its outermost loop.

What a block makes for one round of the last block's outermost loop is made inside that loop, as
long as nothing is made twice: rows of a normalisation stay in the nearest cache, and the rounds
are independent.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import tvm

    Block: TypeAlias = tvm.s_tir.schedule.SBlockRV

_SPATIAL = 0  # tvm.tirx.IterVar.DataPar


def merge_loops(schedule: tvm.s_tir.Schedule) -> tvm.s_tir.Schedule:
    """Return a schedule that computes the same, in one nest of loops where that is possible."""
    from tvm import s_tir

    _inline(schedule)
    merged = schedule.copy()
    try:
        if _gather(merged):
            schedule = merged
    except s_tir.ScheduleError:
        pass  # blocks that do not fit into one nest keep their own
    share_outer_loop(schedule)
    return schedule


def share_outer_loop(schedule: tvm.s_tir.Schedule) -> None:
    """Mark the outermost loop that has more than one round as parallel, if all blocks share it."""
    from tvm import s_tir

    nests = [schedule.get_loops(block) for block in _blocks(schedule)]
    for level in zip(*nests, strict=False):
        loops = [schedule.get(loop) for loop in level]
        if not all(loop.same_as(loops[0]) for loop in loops):
            return
        if int(loops[0].extent) > 1:
            try:
                schedule.parallel(level[0])
            except s_tir.ScheduleError:
                return  # rounds depend on each other
            return


def is_reduction(block: tvm.s_tir.SBlock) -> bool:
    """Return whether a block sums over an axis."""
    return any(item.iter_type != _SPATIAL for item in block.iter_vars)


def _blocks(schedule: tvm.s_tir.Schedule) -> list[Block]:
    return list(schedule.get_child_blocks(schedule.get_sblock("root")))


def _inline(schedule: tvm.s_tir.Schedule) -> None:
    """Merge element-wise blocks into the one block that reads them."""
    from tvm import s_tir

    for block in _blocks(schedule)[:-1]:
        readers = schedule.get_consumers(block)
        alone = len(readers) == 1 and not is_reduction(schedule.get(readers[0]))
        if alone and not is_reduction(schedule.get(block)):
            try:
                schedule.compute_inline(block)
            except s_tir.ScheduleError:
                continue  # a result, or values moved in a way that cannot be turned round


def _gather(schedule: tvm.s_tir.Schedule) -> bool:
    """Move all blocks into the outermost loop of the last one; False when work grew."""
    *others, last = _blocks(schedule)
    loops = [loop for loop in schedule.get_loops(last) if int(schedule.get(loop).extent) > 1]
    if not others or not loops:
        return False
    for block in reversed(others):
        before = _rounds(schedule, block)
        schedule.compute_at(block, loops[0], preserve_unit_loops=True)
        if _rounds(schedule, block) > before:
            return False
    return True


def _rounds(schedule: tvm.s_tir.Schedule, block: Block) -> int:
    return math.prod(int(schedule.get(loop).extent) for loop in schedule.get_loops(block))
