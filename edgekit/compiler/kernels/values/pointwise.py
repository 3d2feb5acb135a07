"""Walk through tensors of one shape, a few vectors at a time.

Without padding all operands are one long line and items are runs of vectors; the values that fill
no vector go through small local buffers, so nothing is read behind a tensor. With padding, items
are rows of blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np

from edgekit.compiler.kernels.draft import Draft, cut_rows, segments
from edgekit.compiler.kernels.kernel import Built

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.volume import Volume

    Buffer: TypeAlias = tvm.tirx.Buffer
    Expr: TypeAlias = tvm.tirx.PrimExpr

RUN = 4


class Place(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Say where some neighbouring vectors lie.

    Args:
        reads: Buffer and index of the first value of every operand.
        write: Buffer and index of the first value of the result.
        vectors: How many vectors of `isa.lanes` values.
        block: Block of channels; None when operands are walked as one line.
        lane: First lane within the block; None likewise.
    """

    reads: tuple[tuple[Buffer, Expr | int], ...]
    write: tuple[Buffer, Expr | int]
    vectors: int
    block: Expr | int | None = None
    lane: Expr | int | None = None


Emit = Callable[[Draft, Place], None]


def build_pointwise(
    reads: Sequence[Volume],
    write: Volume,
    isa: Isa,
    emit: Emit,
    *,
    constants: Sequence[np.ndarray] = (),
    per_channel: bool = False,
) -> Built:
    """Build a kernel that computes every value from the values at the same place.

    Args:
        reads: Layouts of the operands, equal to the result's but for padding and dtype; with
            `per_channel` the last ones may have one pixel, which `emit` then addresses itself.
        write: Layout of the result.
        isa: Instruction set.
        emit: Writes the code for the vectors at a place.
        constants: Arrays the kernel is called with.
        per_channel: Whether `emit` needs to know the channels it works on.
    """
    unpadded = not any(volume.is_padded for volume in (*reads, write))
    if unpadded and not per_channel:
        return _along_line(reads, write, isa, emit, constants)
    if unpadded:
        reads, write = [volume.flattened() for volume in reads], write.flattened()
    return _along_rows(reads, write, isa, emit, constants)


def _along_rows(
    reads: Sequence[Volume],
    write: Volume,
    isa: Isa,
    emit: Emit,
    constants: Sequence[np.ndarray],
) -> Built:
    from tvm.tirx.script.builder import ir as T

    assert write.lanes % isa.lanes == 0, (write, isa.lanes)
    parts = write.lanes // isa.lanes
    size = parts if parts > 1 else RUN
    slices = cut_rows(write.blocks, write.height)
    with Draft(reads, [write], constants) as draft:
        buffers = (*draft.reads, *draft.writes)
        with draft.rows(slices) as (block, row):
            starts = [
                T.Bind(volume.at(block, row, 0) if volume.width == write.width else 0)
                for volume in (*reads, write)
            ]
            for start, number, vectors in segments(write.width * parts, size):
                with T.serial(0, number) as step:
                    offset = (start + step * size) * isa.lanes
                    pairs = [
                        (buffer, at + offset) for buffer, at in zip(buffers, starts, strict=True)
                    ]
                    emit(
                        draft,
                        Place(
                            reads=tuple(pairs[:-1]),
                            write=pairs[-1],
                            vectors=vectors,
                            block=block,
                            lane=0,
                        ),
                    )
    return draft.built(slices.num_items)


def _along_line(
    reads: Sequence[Volume],
    write: Volume,
    isa: Isa,
    emit: Emit,
    constants: Sequence[np.ndarray],
) -> Built:
    from tvm.tirx.script.builder import ir as T

    whole, rest = divmod(write.elements, RUN * isa.lanes)
    num_items = whole + (1 if rest else 0)
    with Draft(reads, [write], constants) as draft:
        buffers = (*draft.reads, *draft.writes)
        with T.serial(draft.begin, T.min(draft.end, whole)) as item:
            at = item * RUN * isa.lanes
            emit(draft, _line(buffers, at, RUN))
        if rest:
            with T.If(T.And(T.EQ(draft.end, num_items), draft.begin < draft.end)), T.Then():
                at = whole * RUN * isa.lanes
                vectors, values = divmod(rest, isa.lanes)
                if vectors:
                    emit(draft, _line(buffers, at, vectors))
                if values:
                    _emit_values(draft, buffers, at + vectors * isa.lanes, values, isa, emit)
    return draft.built(num_items)


def _line(buffers: Sequence[Buffer], at: Expr | int, vectors: int) -> Place:
    pairs = tuple((buffer, at) for buffer in buffers)
    return Place(reads=pairs[:-1], write=pairs[-1], vectors=vectors)


def _emit_values(
    draft: Draft, buffers: Sequence[Buffer], at: int, values: int, isa: Isa, emit: Emit
) -> None:
    """Compute fewer values than a vector has, through copies that are one vector long."""
    from tvm.tirx.script.builder import ir as T

    copies = [T.alloc_buffer((isa.lanes,), str(buffer.dtype), scope="local") for buffer in buffers]
    for buffer, copy in zip(buffers[:-1], copies[:-1], strict=True):
        for number in range(isa.lanes):
            T.buffer_store(copy, buffer[at + min(number, values - 1)], [number])
    emit(draft, _line(copies, 0, 1))
    for number in range(values):
        T.buffer_store(buffers[-1], copies[-1][number], [at + number])
