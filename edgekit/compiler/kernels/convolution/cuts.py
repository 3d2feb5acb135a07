"""Cut a range into pieces of nearly equal size, and loop over them.

Why nearly equal: 14 columns in tiles of 6 would leave a tile of 2, which keeps the multipliers half
idle; 5, 5 and 4 do not. At most two sizes occur, so code exists at most twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    import tvm

    Expr: TypeAlias = tvm.tirx.PrimExpr


class Piece(msgspec.Struct, frozen=True):
    """Describe neighbouring pieces of one size.

    Args:
        start: Where the first one starts.
        first: Its number.
        count: How many there are.
        size: Size of each.
    """

    start: int
    first: int
    count: int
    size: int


class Cut(msgspec.Struct, frozen=True):
    """Describe how a range is cut; larger pieces come first.

    Args:
        pieces: One or two kinds.
    """

    pieces: tuple[Piece, ...]

    @property
    def count(self) -> int:
        """Return the number of pieces."""
        return sum(piece.count for piece in self.pieces)

    @property
    def sizes(self) -> list[int]:
        """Return the size of every piece."""
        return [piece.size for piece in self.pieces for _ in range(piece.count)]

    def start_of(self, number: Expr | int) -> Expr | int:
        """Return where a piece starts; number `count` is the end of the range."""
        from tvm.tirx.script.builder import ir as T

        first, last = self.pieces[0], self.pieces[-1]
        if len(self.pieces) == 1:
            return number * first.size
        step = first.size - last.size
        fewer = min(number, last.first) if isinstance(number, int) else T.min(number, last.first)
        return number * last.size + fewer * step

    @contextmanager
    def loop(self, piece: Piece, begin: Expr | int, end: Expr | int) -> Iterator[Expr | int]:
        """Loop over the starts of those pieces of a kind whose numbers lie in a range."""
        from tvm.tirx.script.builder import ir as T

        last = piece.first + piece.count
        if isinstance(begin, int) and isinstance(end, int):
            first, last = max(begin, piece.first), min(end, last)
            if last - first == 1:
                yield piece.start + (first - piece.first) * piece.size
                return
        elif len(self.pieces) == 1:
            first, last = begin, end
        else:
            first, last = T.max(begin, piece.first), T.min(end, last)
        with T.serial(first, last) as number:
            yield piece.start + (number - piece.first) * piece.size


def cut_evenly(extent: int, size: int, unit: int = 1) -> Cut:
    """Cut a range into the fewest pieces of at most `size`, their sizes `unit` apart or equal.

    Args:
        extent: Length of the range, a multiple of `unit`.
        size: Largest size, a multiple of `unit`.
        unit: What all sizes are multiples of.
    """
    units = extent // unit
    count = -(-units // (size // unit))
    small, large = divmod(units, count)
    sizes = [(large, (small + 1) * unit), (count - large, small * unit)]
    pieces, start, first = [], 0, 0
    for number, length in sizes:
        if number:
            pieces.append(Piece(start, first, number, length))
        start, first = start + number * length, first + number
    return Cut(tuple(pieces))


@contextmanager
def loop(extent: int) -> Iterator[Expr | int]:
    """Loop from 0 to `extent`; a single turn needs no loop."""
    from tvm.tirx.script.builder import ir as T

    if extent == 1:
        yield 0
        return
    with T.serial(0, extent) as number:
        yield number


def divided(number: Expr | int, by: int) -> tuple[Expr | int, Expr | int]:
    """Return quotient and remainder of a number that is not negative."""
    from tvm.tirx.script.builder import ir as T

    if by == 1:
        return number, 0
    if isinstance(number, int):
        return divmod(number, by)
    return T.Bind(T.truncdiv(number, T.int32(by))), T.Bind(T.truncmod(number, T.int32(by)))


def bound(value: Expr | int) -> Expr | int:
    """Give an expression a name, so that it is computed once."""
    from tvm.tirx.script.builder import ir as T

    return value if isinstance(value, int) else T.Bind(value)
