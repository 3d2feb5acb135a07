"""Give a kernel's loops an order a CPU likes: registers hold a tile, vectors run along rows.

One simple rule for every kernel built around one reduction (convolution, matrix product,
pooling): the element-wise blocks behind it are merged into one epilogue, the output is cut into
tiles of a few rows of a few vectors, and the whole reduction of a tile runs in registers. Kernels
the rule does not fit keep TVM's loops, merged where that costs nothing.

Every step is one of TVM's checked schedule primitives, and each output is still summed in the
kernel's own order, so the rule changes speed and nothing else.

Why not dlight: its CPU rules cover matrix-vector products and soft-max shapes only.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

from edgekit.compiler.regions.loop_merging import merge_loops, share_outer_loop

if TYPE_CHECKING:
    import tvm

_SPATIAL = 0  # tvm.tirx.IterVar.DataPar
_MAX_ROWS = 6
_MAX_VECTORS = 4


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the part of the output that is kept in registers.

    Args:
        vector_axis: Output axis the vectors run along.
        width: Values in one vector.
        num_vectors: Vectors side by side; `width * num_vectors` divides the axis's extent.
        row_axis: Output axis whose rows share the loaded vectors; None when none does.
        num_rows: Rows, a divisor of that axis's extent.
    """

    vector_axis: int
    width: int
    num_vectors: int = 1
    row_axis: int | None = None
    num_rows: int = 1


def schedule_kernel(
    kernel: tvm.tirx.PrimFunc, *, lanes: int, num_registers: int
) -> tvm.tirx.PrimFunc:
    """Return the kernel with tiled and vectorised loops where the rule fits.

    The outermost loop becomes a parallel one where all of the kernel lies inside it.

    Args:
        kernel: A kernel of blocks over static shapes.
        lanes: float32 values in one vector register.
        num_registers: Vector registers of the CPU.

    Returns:
        A kernel that computes the same values.
    """
    from tvm import s_tir

    schedule = s_tir.Schedule(kernel)
    try:
        is_tiled = _tile_reduction(schedule, lanes, num_registers * 3 // 4)
    except s_tir.ScheduleError:
        is_tiled = False
    try:
        return (schedule if is_tiled else merge_loops(s_tir.Schedule(kernel))).mod["main"]
    except s_tir.ScheduleError:
        return kernel  # loops that TVM wrote by hand, without blocks in them


def choose_tile(
    rows: tuple[int | None, int], vector: tuple[int, int], *, lanes: int, max_vectors: int
) -> Tile | None:
    """Choose the tile with the best ratio of arithmetic to loads that fits the registers.

    Args:
        rows: Axis whose rows share loads (None when there is none) and its extent.
        vector: Axis the vectors run along and its extent.
        lanes: Values per vector.
        max_vectors: Vectors the accumulators may fill.

    Returns:
        The tile, or None when no vector width divides the extent.
    """
    heights = [1] if rows[0] is None else _divisors(rows[1], _MAX_ROWS)
    best: tuple[float, int, int, int] | None = None
    for width in _widths(vector[1], lanes):
        counts = _divisors(vector[1] // width, _MAX_VECTORS)
        for height, count in itertools.product(heights, counts):
            registers = height * count * -(-width // lanes)
            if registers <= max_vectors:
                # Multiply-adds per load, weighted by how full each vector is.
                score = width / lanes * height * count / (height + count)
                best = max(best or (0.0, 0, 0, 0), (score, width, count, height))
    if best is None:
        return None
    _, width, count, height = best
    return Tile(
        vector_axis=vector[0],
        width=width,
        num_vectors=count,
        row_axis=rows[0] if height > 1 else None,
        num_rows=height,
    )


def _widths(extent: int, lanes: int) -> list[int]:
    """Return vector widths that divide the extent.

    Powers of two come first: LLVM keeps other widths in single values when they live through a
    loop, unless they fit one register, so an odd extent is taken whole or not at all.
    """
    powers = [width for width in (2, 4, 8, 16) if width <= lanes and extent % width == 0]
    if powers and powers[-1] * 2 >= min(lanes, extent):
        return powers
    return [*powers, extent] if 1 < extent <= 2 * lanes else powers


def _divisors(number: int, limit: int) -> list[int]:
    return [d for d in range(1, min(number, limit) + 1) if number % d == 0]


def _tile_reduction(schedule: tvm.s_tir.Schedule, lanes: int, max_vectors: int) -> bool:
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    reductions = [i for i, block in enumerate(blocks) if _num_reduce(schedule.get(block)) > 0]
    if len(reductions) != 1:
        return False
    reduction = blocks[reductions[0]]
    tile = _tile_of(schedule.get(reduction), lanes, max_vectors)
    if tile is None:
        return False
    for block in blocks[: reductions[0]]:
        if _is_copy(schedule.get(block)):
            schedule.compute_inline(block)
    epilogue = _merge_epilogue(schedule, reduction, blocks[reductions[0] + 1 :])
    loops = schedule.get_loops(epilogue)
    outer, columns, inner = schedule.split(
        loops[tile.vector_axis], factors=[None, tile.num_vectors, tile.width]
    )
    around = [*loops]
    around[tile.vector_axis] = outer
    tiled = [columns, inner]
    if tile.row_axis is not None:
        around[tile.row_axis], rows = schedule.split(
            loops[tile.row_axis], factors=[None, tile.num_rows]
        )
        # What the rows share stays in the nearest cache while the rows go by.
        around.insert(tile.row_axis, around.pop(tile.vector_axis))
        tiled.insert(0, rows)
    schedule.reorder(*around, *tiled)
    schedule.compute_at(reduction, around[-1], preserve_unit_loops=True)
    share_outer_loop(schedule)  # before the reduction is taken apart: TVM checks whole blocks only
    _arrange_reduction(schedule, reduction, tile)
    schedule.vectorize(inner)
    for loop in tiled[:-1]:
        schedule.unroll(loop)
    return True


def _tile_of(block: tvm.s_tir.SBlock, lanes: int, max_vectors: int) -> Tile | None:
    spatial = [item for item in block.iter_vars if item.iter_type == _SPATIAL]
    wide = [axis for axis, item in enumerate(spatial) if int(item.dom.extent) > 1]
    if not wide:
        return None
    vector = wide[-1]
    rows = next(
        (
            axis
            for axis in wide[:-1]
            if _shares_loads(block, spatial[axis].var, spatial[vector].var)
        ),
        None,
    )
    height = 1 if rows is None else int(spatial[rows].dom.extent)
    return choose_tile(
        (rows, height),
        (vector, int(spatial[vector].dom.extent)),
        lanes=lanes,
        max_vectors=max_vectors,
    )


def _shares_loads(block: tvm.s_tir.SBlock, row: tvm.tirx.Var, vector: tvm.tirx.Var) -> bool:
    """Return whether some operand is read along `vector` and is the same for all of `row`."""
    from tvm.tirx.analysis import undefined_vars

    written = block.writes[0].source if hasattr(block.writes[0], "source") else None
    for region in block.reads:
        used = {var for part in region.region for var in undefined_vars(part.min)}
        if region.source is not written and vector in used and row not in used:
            return True
    return False


def _merge_epilogue(
    schedule: tvm.s_tir.Schedule,
    reduction: tvm.s_tir.schedule.SBlockRV,
    followers: list[tvm.s_tir.schedule.SBlockRV],
) -> tvm.s_tir.schedule.SBlockRV:
    """Merge the blocks behind the reduction into one; its loops are the output's axes."""
    if not followers:
        return schedule.cache_write(reduction, 0, "local")
    for block in followers[:-1]:
        schedule.compute_inline(block)
    schedule.set_scope(reduction, 0, "local")
    return followers[-1]


def _arrange_reduction(
    schedule: tvm.s_tir.Schedule, reduction: tvm.s_tir.schedule.SBlockRV, tile: Tile
) -> None:
    block = schedule.get(reduction)
    num_reduce = _num_reduce(block)
    loops = schedule.get_loops(reduction)[-len(block.iter_vars) :]
    spatial, reduce = loops[:-num_reduce], loops[-num_reduce:]
    wide = [loop for loop in spatial if int(schedule.get(loop).extent) > 1]
    columns, inner = schedule.split(wide[-1], factors=[None, tile.width])
    schedule.reorder(*reduce, *wide[:-1], columns, inner)
    # Before decompose_reduction: it copies the loops with their marks for the initial values.
    schedule.vectorize(inner)
    for loop in (*wide[:-1], columns):
        schedule.unroll(loop)
    schedule.decompose_reduction(reduction, reduce[0])


def _is_copy(block: tvm.s_tir.SBlock) -> bool:
    """Return whether a block only moves values, such as TVM's padding by nothing."""
    import tvm

    return isinstance(block.body, tvm.tirx.BufferStore) and isinstance(
        block.body.value, tvm.ir.TensorLoad
    )


def _num_reduce(block: tvm.s_tir.SBlock) -> int:
    return sum(item.iter_type != _SPATIAL for item in block.iter_vars)
