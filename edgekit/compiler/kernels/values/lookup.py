"""Replace every level by the value a table has for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from edgekit.compiler.kernels.border import fill_rows
from edgekit.compiler.kernels.draft import Draft, cut_rows, segments

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.graph.operators import Lookup
    from edgekit.compiler.kernels.isa.base import Isa, Loaded
    from edgekit.compiler.kernels.kernel import Built
    from edgekit.compiler.kernels.volume import Volume

    Expr: TypeAlias = tvm.tirx.PrimExpr

_LOWEST = {"int8": -128, "uint8": 0}
_PIECE = 1024  # levels of an item, where a tensor is one long line


def build_lookup(op: Lookup, reads: tuple[Volume, ...], write: Volume, isa: Isa) -> Built:
    """Build a kernel that maps levels by a table.

    Args:
        op: The operator.
        reads: Layout of the operand; blocked like the result.
        write: Layout of the result.
        isa: Instruction set.
    """
    from tvm.tirx.script.builder import ir as T

    (read,) = reads
    lowest = _LOWEST[read.dtype]
    is_line = not (read.is_padded or write.is_padded)
    slices = cut_rows(write.blocks, write.height)
    num_items = -(-write.elements // _PIECE) if is_line else slices.num_items
    with Draft(reads, [write], [op.table]) as draft:
        table = isa.load_table(draft.constants[0])
        with draft.items() as item:
            if is_line:
                start = T.Bind(item * _PIECE)
                count = T.Bind(T.min(write.elements - start, _PIECE))
                _map_line(draft, table, start, count, isa, lowest, write.elements % _PIECE)
            else:
                block, first, last = slices.piece(item)
                with T.serial(first, last) as row:
                    source, target = (T.Bind(v.at(block, row, 0)) for v in (read, write))
                    _map_row(draft, table, source, target, write.width * write.lanes, isa, lowest)
                fill_rows(draft.writes[0], write, block, first, last)
    return draft.built(num_items)


def _map_line(
    draft: Draft, table: Loaded, start: Expr, count: Expr, isa: Isa, lowest: int, tail: int
) -> None:
    """Map a piece of a line; only the last piece is shorter."""
    from tvm.tirx.script.builder import ir as T

    with T.If(T.EQ(count, _PIECE)):
        with T.Then():
            _map_row(draft, table, start, start, _PIECE, isa, lowest)
        with T.Else():
            _map_row(draft, table, start, start, tail, isa, lowest)


def _map_row(
    draft: Draft,
    table: Loaded,
    source: Expr,
    target: Expr,
    count: int,
    isa: Isa,
    lowest: int,
) -> None:
    """Map neighbouring levels: as many at once as the instruction set can, the rest one by one."""
    from tvm.tirx.script.builder import ir as T

    width = isa.table_width
    for start, number, size in segments(count, width):
        if size == width and width > 1:
            with T.serial(0, number) as step:
                offset = start + step * width
                levels = draft.reads[0][T.ramp(source + offset, 1, width)]
                found = isa.look_up(table, T.Bind(levels), lowest)
                T.buffer_store(draft.writes[0], found, [T.ramp(target + offset, 1, width)])
            continue
        with T.serial(0, number * size) as step:
            place = T.Cast("int32", draft.reads[0][source + start + step]) - lowest
            T.buffer_store(draft.writes[0], draft.constants[0][place], [target + start + step])
