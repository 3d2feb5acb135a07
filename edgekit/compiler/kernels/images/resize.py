"""Enlarge images by whole factors, to the nearest pixel or linearly between pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from edgekit.compiler.kernels.draft import Draft, cut_rows

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.graph.operators import Resize
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.kernel import Built
    from edgekit.compiler.kernels.volume import Volume

    Expr: TypeAlias = tvm.tirx.PrimExpr


def build_resize(op: Resize, reads: tuple[Volume, ...], write: Volume, isa: Isa) -> Built:
    """Build the kernel of a resize; items are rows of the result within a block.

    Args:
        op: The operator; `linear` is for float32.
        reads: Layout of the image; blocked like the result.
        write: Layout of the result.
        isa: Instruction set.
    """
    (image,) = reads
    assert image.lanes == write.lanes, (image, write)
    slices = cut_rows(write.blocks, write.height)
    with Draft(reads, [write]) as draft, draft.rows(slices) as (block, row):
        if op.mode == "nearest":
            _nearest_row(op, draft, image, write, block, row)
        else:
            _linear_row(op, draft, image, write, block, row)
    return draft.built(slices.num_items)


def _nearest_row(
    op: Resize, draft: Draft, image: Volume, write: Volume, block: Expr, row: Expr
) -> None:
    from tvm.tirx.script.builder import ir as T

    down, right = op.factors
    source, target = T.Bind(image.at(block, row // down, 0)), T.Bind(write.at(block, row, 0))
    lanes = write.lanes
    with T.serial(0, image.width) as column:
        pixel = T.Bind(draft.reads[0][_places(source + column * lanes, lanes)])
        for copy in range(right):
            index = target + (column * right + copy) * lanes
            T.buffer_store(draft.writes[0], pixel, [_places(index, lanes)])


def _linear_row(
    op: Resize, draft: Draft, image: Volume, write: Volume, block: Expr, row: Expr
) -> None:
    """Write one row: pixels between two columns of the source, each of the factor's phases.

    Output i stands at (i + 0.5) / factor - 0.5 of the source, clamped to the image. The first
    `factor / 2` outputs lie in front of the first source pixel, and so on at the end.
    """
    from tvm.tirx.script.builder import ir as T

    down, right = op.factors
    lanes = write.lanes
    above, low = _between(row, down, image.height)
    upper = T.Bind(image.at(block, above, 0))
    lower = T.Bind(image.at(block, T.min(above + 1, image.height - 1), 0))
    target = T.Bind(write.at(block, row, 0))
    x = draft.reads[0]
    with T.serial(0, write.width) as column:
        left, part = _between(column, right, image.width)
        near, far = left * lanes, T.min(left + 1, image.width - 1) * lanes

        def at(line: Expr, place: Expr) -> Expr:
            return x[_places(line + place, lanes)]

        weight, depth = _splat(part, lanes), _splat(low, lanes)
        first = T.Bind(at(upper, near) + (at(upper, far) - at(upper, near)) * weight)
        second = T.Bind(at(lower, near) + (at(lower, far) - at(lower, near)) * weight)
        value = first + (second - first) * depth
        T.buffer_store(draft.writes[0], value, [_places(target + column * lanes, lanes)])


def _between(index: Expr, factor: int, size: int) -> tuple[Expr, Expr]:
    """Return the source in front of an output and how far behind it the output stands, 0 to 1.

    In half steps of 1 / factor the place is 2 * index + 1 - factor over 2 * factor.
    """
    from tvm.tirx.script.builder import ir as T

    steps = T.Bind(T.max(2 * index + (1 - factor), 0))
    before = T.Bind(T.min(steps // (2 * factor), size - 1))
    part = T.Cast("float32", steps - before * (2 * factor)) * T.float32(1 / (2 * factor))
    # Behind the last pixel both neighbours are the same one.
    return before, T.Bind(T.Select(T.EQ(before, size - 1), T.float32(0), part))


def _places(index: Expr, lanes: int) -> Expr:
    from tvm.tirx.script.builder import ir as T

    return T.ramp(index, 1, lanes) if lanes > 1 else index


def _splat(value: Expr, lanes: int) -> Expr:
    from tvm.tirx.script.builder import ir as T

    return T.broadcast(value, lanes) if lanes > 1 else value
