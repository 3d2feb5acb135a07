"""Join tensors along an axis.

Images are joined along channels. Where an operand starts in the middle of a block, every block of
the result is put together from the same lanes of neighbouring blocks; blocks put together alike
share a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from edgekit.compiler.kernels.border import fill_rows
from edgekit.compiler.kernels.draft import Draft, cut_rows, segments

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.graph.operators import Concat
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.kernel import Built
    from edgekit.compiler.kernels.volume import Volume

    Buffer: TypeAlias = tvm.tirx.Buffer
    Expr: TypeAlias = tvm.tirx.PrimExpr

_CHUNK_BYTES = 32
_BYTES = {"float32": 4, "int32": 4}


class Part(NamedTuple):
    """Say which lanes of a result's block come from one block of an operand.

    Args:
        operand: Number of the operand.
        distance: The operand's block minus the result's.
        source: First lane in the operand's block.
        target: First lane in the result's block.
        size: Lanes.
    """

    operand: int
    distance: int
    source: int
    target: int
    size: int


class Stretch(NamedTuple):
    """Hold neighbouring blocks of the result that are put together alike."""

    first: int
    last: int
    parts: tuple[Part, ...]


def build_concat(op: Concat, reads: tuple[Volume, ...], write: Volume, isa: Isa) -> Built:
    """Build the kernel of a concatenation.

    Args:
        op: The operator.
        reads: Layouts of the operands. Images, blocked like the result, are joined along channels;
            matrices, one block whose lanes are all axes from the joined one on, row by row.
        write: Layout of the result.
        isa: Instruction set.
    """
    if all(read.lanes == write.lanes for read in reads):
        return _join_images(reads, write)
    assert sum(read.lanes for read in reads) == write.lanes, (op.name, reads, write)
    return _join_rows(reads, write)


def stretches(channels: Sequence[int], lanes: int) -> list[Stretch]:
    """Plan how blocks of a result are put together.

    Args:
        channels: Channels of every operand.
        lanes: Channels of a block.
    """
    blocks: list[list[Part]] = [[] for _ in range(-(-sum(channels) // lanes))]
    start = 0
    for operand, count in enumerate(channels):
        done = 0
        while done < count:
            block, target = divmod(start + done, lanes)
            source_block, source = divmod(done, lanes)
            size = min(lanes - target, lanes - source, count - done)
            blocks[block].append(Part(operand, source_block - block, source, target, size))
            done += size
        start += count
    cut: list[Stretch] = []
    for number, parts in enumerate(map(tuple, blocks)):
        if cut and cut[-1].parts == parts:
            cut[-1] = cut[-1]._replace(last=number + 1)
        else:
            cut.append(Stretch(number, number + 1, parts))
    return cut


def _join_images(reads: Sequence[Volume], write: Volume) -> Built:
    from tvm.tirx.script.builder import ir as T

    plan = stretches([read.channels for read in reads], write.lanes)
    slices = cut_rows(write.blocks, write.height)
    with Draft(reads, [write]) as draft, draft.items() as item:
        block, first, last = slices.piece(item)
        for stretch in plan:
            is_inside = T.And(block >= stretch.first, block < stretch.last)
            with T.If(is_inside), T.Then(), T.serial(first, last) as row:
                _join_row(draft, reads, write, stretch.parts, block, row)
        fill_rows(draft.writes[0], write, block, first, last)
    return draft.built(slices.num_items)


def _join_row(
    draft: Draft,
    reads: Sequence[Volume],
    write: Volume,
    parts: Sequence[Part],
    block: Expr,
    row: Expr,
) -> None:
    from tvm.tirx.script.builder import ir as T

    lanes = write.lanes
    target = T.Bind(write.at(block, row, 0))
    starts = [T.Bind(reads[part.operand].at(block + part.distance, row, 0)) for part in parts]
    if len(parts) == 1 and parts[0].source == parts[0].target == 0:
        source = draft.reads[parts[0].operand]
        _copy(source, starts[0], draft.writes[0], target, write.width * lanes, write.dtype)
        return
    order = [0] * lanes  # lanes without a channel repeat any value
    for number, part in enumerate(parts):
        for lane in range(part.size):
            order[part.target + lane] = number * lanes + part.source + lane
    with T.serial(0, write.width) as column:
        vectors = [
            T.Bind(draft.reads[part.operand][T.ramp(start + column * lanes, 1, lanes)])
            for part, start in zip(parts, starts, strict=True)
        ]
        pixel = T.Shuffle(vectors, order)
        T.buffer_store(draft.writes[0], pixel, [T.ramp(target + column * lanes, 1, lanes)])


def _join_rows(reads: Sequence[Volume], write: Volume) -> Built:
    from tvm.tirx.script.builder import ir as T

    with Draft(reads, [write]) as draft, draft.items() as row:
        start = 0
        for number, read in enumerate(reads):
            source, target = T.Bind(row * read.lanes), T.Bind(row * write.lanes + start)
            _copy(draft.reads[number], source, draft.writes[0], target, read.lanes, write.dtype)
            start += read.lanes
    return draft.built(write.height * write.width)


def _copy(source: Buffer, start: Expr, target: Buffer, index: Expr, count: int, dtype: str) -> None:
    """Copy neighbouring elements, 32 bytes at a time."""
    from tvm.tirx.script.builder import ir as T

    chunk = _CHUNK_BYTES // _BYTES.get(dtype, 1)
    for first, number, size in segments(count, chunk):
        if size == chunk:
            with T.serial(0, number) as step:
                place = first + step * chunk
                vector = source[T.ramp(start + place, 1, chunk)]
                T.buffer_store(target, vector, [T.ramp(index + place, 1, chunk)])
            continue
        while size:
            length = 1 << size.bit_length() - 1
            if length > 1:
                vector = source[T.ramp(start + first, 1, length)]
                T.buffer_store(target, vector, [T.ramp(index + first, 1, length)])
            else:
                T.buffer_store(target, source[start + first], [index + first])
            first, size = first + length, size - length
