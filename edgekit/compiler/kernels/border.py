"""Fill the padding around an image; whoever makes a tensor also writes its padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.kernels.volume import Volume

    Buffer: TypeAlias = tvm.tirx.Buffer
    Expr: TypeAlias = tvm.tirx.PrimExpr

_CHUNK_BYTES = 32
_MOST_UNROLLED = 8


def fill_block(buffer: Buffer, volume: Volume, block: Expr | int) -> None:
    """Fill all padding of one block of channels."""
    fill_rows(buffer, volume, block, 0, volume.height)


def fill_rows(
    buffer: Buffer, volume: Volume, block: Expr | int, first: Expr | int, last: Expr | int
) -> None:
    """Fill the padding that belongs to rows `first` to `last` (exclusive) of a block.

    A row owns what is left and right of it; the first and the last row of the image also own the
    padding above and below. So disjoint ranges of rows write everything once.

    Args:
        buffer: Flat buffer of the volume's dtype.
        volume: Its layout.
        block: Block of channels.
        first: First row.
        last: Row behind the last one.
    """
    from tvm.tirx.script.builder import ir as T

    top, left, bottom, right = volume.pads
    height, width, line = volume.height, volume.width, volume.columns * volume.lanes
    if top:
        with T.If(T.EQ(first, 0)), T.Then():
            fill_span(buffer, volume, volume.at(block, -top, -left), top * line)
    if left or right:
        with T.serial(first, last) as row:
            fill_span(buffer, volume, volume.at(block, row, -left), left * volume.lanes)
            fill_span(buffer, volume, volume.at(block, row, width), right * volume.lanes)
    if bottom:
        with T.If(T.EQ(last, height)), T.Then():
            fill_span(buffer, volume, volume.at(block, height, -left), bottom * line)


def fill_span(buffer: Buffer, volume: Volume, index: Expr | int, count: int) -> None:
    """Fill `count` neighbouring elements with what a volume's padding holds."""
    from tvm.tirx.script.builder import ir as T

    value = T.Cast(volume.dtype, T.int32(volume.fill))
    chunk = _CHUNK_BYTES // {"float32": 4, "int32": 4}.get(volume.dtype, 1)
    whole, rest = divmod(count, chunk)
    if whole > _MOST_UNROLLED:
        with T.serial(0, whole) as number:
            place = T.ramp(index + number * chunk, 1, chunk)
            T.buffer_store(buffer, T.broadcast(value, chunk), [place])
        index, whole = index + whole * chunk, 0
    for size in [chunk] * whole + [1 << bit for bit in range(5, -1, -1) if rest >> bit & 1]:
        filled = T.broadcast(value, size) if size > 1 else value
        T.buffer_store(buffer, filled, [T.ramp(index, 1, size) if size > 1 else index])
        index = index + size
