"""Tiles of a depthwise convolution: which outputs they hold and which inputs those use."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from edgekit.compiler.kernels.convolution.cuts import cut_evenly

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.kernels.convolution.geometry import Layer

    Expr: TypeAlias = tvm.tirx.PrimExpr


class ColumnPiece(msgspec.Struct, frozen=True):
    """Describe tiles of one width, side by side.

    Args:
        start: First output of the first one.
        count: How many.
        size: Outputs of each in a row.
        shift: Inputs by which reading starts further left than it needs to.
    """

    start: int
    count: int
    size: int
    shift: int = 0


class TileAt(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold the place of one tile while its code is written.

    Args:
        block: Block of channels.
        row: First row of outputs.
        column: First column of outputs.
        rows: Rows of outputs.
        columns: Columns of outputs.
        shift: As in its `ColumnPiece`.
    """

    block: Expr
    row: Expr | int
    column: Expr | int
    rows: int
    columns: int
    shift: int = 0

    def first_input(self, layer: Layer) -> Expr:
        """Return where the first input of the tile lies."""
        row = self.row * layer.strides[0] - layer.origin[0]
        column = self.column * layer.strides[1] - layer.origin[1]
        return layer.x.at(self.block, row, column)


def even_pieces(width: int, columns: int) -> list[ColumnPiece]:
    """Cut a row into tiles of about equal size."""
    pieces = cut_evenly(width, columns).pieces
    return [ColumnPiece(piece.start, piece.count, piece.size) for piece in pieces]


def rows_of(layer: Layer, rows: int) -> dict[int, list[tuple[int, Expr | int]]]:
    """Return which (row of the tile, row of the kernel) use each row of inputs."""
    uses: dict[int, list[tuple[int, Expr | int]]] = {}
    for r in range(rows):
        for kh in range(layer.kernel[0]):
            i = r * layer.strides[0] + kh * layer.dilations[0]
            uses.setdefault(i, []).append((r, kh))
    return dict(sorted(uses.items()))


def columns_of(layer: Layer, columns: int) -> dict[int, list[tuple[int, int]]]:
    """Return which (column of the tile, column of the kernel) use each column of inputs."""
    uses: dict[int, list[tuple[int, int]]] = {}
    for c in range(columns):
        for kw in range(layer.kernel[1]):
            j = c * layer.strides[1] + kw * layer.dilations[1]
            uses.setdefault(j, []).append((c, kw))
    return dict(sorted(uses.items()))
