"""How a tensor lies in memory: blocks of channels, rows, columns, channels of a block.

A blocked image [C, H, W] is `[ceil(C / lanes), top + H + bottom, left + W + right, lanes]`; its
padding is part of the buffer and is written by whoever makes the tensor. A matrix [M, K] in plain
row-major order is the same with one block of K lanes, height 1 and width M.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    import tvm

    Index = TypeVar("Index", int, tvm.tirx.PrimExpr)


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one buffer; indices are flat, in elements.

    Args:
        dtype: `float32`, `uint8`, `int8` or `int32`.
        channels: Channels that mean something, at most `blocks * lanes`.
        height: Rows without padding.
        width: Columns without padding.
        lanes: Channels side by side in memory.
        pads: Top, left, bottom, right.
        fill: What padding holds: 0, or the zero point of levels.
    """

    dtype: str
    channels: int
    height: int
    width: int
    lanes: int
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    fill: int = 0

    @property
    def blocks(self) -> int:
        """Return the number of channel blocks."""
        return -(-self.channels // self.lanes)

    @property
    def rows(self) -> int:
        """Return the rows in memory, padding included."""
        return self.pads[0] + self.height + self.pads[2]

    @property
    def columns(self) -> int:
        """Return the columns in memory, padding included."""
        return self.pads[1] + self.width + self.pads[3]

    @property
    def elements(self) -> int:
        """Return the number of elements in memory."""
        return self.blocks * self.rows * self.columns * self.lanes

    @property
    def is_padded(self) -> bool:
        """Return whether any padding surrounds the image."""
        return any(self.pads)

    def at(self, block: Index, row: Index, column: Index) -> Index:
        """Return the index of the first lane of a pixel; (0, 0) is the first one behind padding."""
        line = block * self.rows + row + self.pads[0]
        return (line * self.columns + column + self.pads[1]) * self.lanes

    def flattened(self) -> Volume:
        """Return an image without padding as one long row."""
        assert not self.is_padded, self
        return msgspec.structs.replace(self, height=1, width=self.height * self.width)
