"""Combine two tensors value by value; a tensor of one pixel is spread over the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from edgekit.compiler.kernels.isa.forms import LevelRule, Run
from edgekit.compiler.kernels.values.functions import apply
from edgekit.compiler.kernels.values.pointwise import Place, build_pointwise
from edgekit.compiler.kernels.values.requantization import Requantization

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.graph.operators import AddLevels, Elementwise
    from edgekit.compiler.kernels.draft import Draft
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.kernel import Built
    from edgekit.compiler.kernels.volume import Volume

    Buffer: TypeAlias = tvm.tirx.Buffer
    Expr: TypeAlias = tvm.tirx.PrimExpr


def build_elementwise(op: Elementwise, reads: tuple[Volume, ...], write: Volume, isa: Isa) -> Built:
    """Build the kernel of an elementwise operator.

    Args:
        op: The operator.
        reads: Layouts of both operands, blocked like the result; the second may have one pixel,
            whose channels then meet every pixel of the first.
        write: Layout of the result.
        isa: Instruction set.
    """
    first, second = reads
    is_spread = (second.height, second.width) != (first.height, first.width)
    if is_spread:
        assert (second.height, second.width) == (1, 1), reads
    zero_points = op.zero_points
    if op.add is not None:
        zero_points = (op.add.first_zero_point, op.add.second_zero_point)
    product = None if op.result is None else Requantization(op.result, write, isa)

    def emit(draft: Draft, place: Place) -> None:
        left = _load(first, place.reads[0], place, isa, zero_point=zero_points[0])
        right = _load(
            second, place.reads[1], place, isa, zero_point=zero_points[1], is_spread=is_spread
        )
        if op.add is not None:
            _store_sum(op.add, left, right, place, isa)
        elif product is not None:
            products = [a * b for a, b in zip(left, right, strict=True)]
            product.store(draft, place.write, place.block, products)
        else:
            _store_floats(op, left, right, place, isa)

    return build_pointwise(
        reads,
        write,
        isa,
        emit,
        constants=[] if product is None else product.constants,
        per_channel=is_spread or (product is not None and product.is_per_channel),
    )


def _load(
    volume: Volume,
    source: tuple[Buffer, Expr | int],
    place: Place,
    isa: Isa,
    *,
    zero_point: int,
    is_spread: bool = False,
) -> list[Expr]:
    """Return an operand's vectors: floats, or int32 levels without their zero point."""
    buffer, index = source
    count = place.vectors
    if is_spread:
        assert place.block is not None
        index, count = volume.at(place.block, 0, 0), volume.lanes // isa.lanes
    if volume.dtype == "float32":
        loaded = [buffer[isa.ramp(index + part * isa.lanes)] for part in range(count)]
    else:
        loaded = isa.load_levels(buffer, index, zero_point, count)
    return [loaded[part % count] for part in range(place.vectors)]


def _store_sum(add: AddLevels, left: list[Expr], right: list[Expr], place: Place, isa: Isa) -> None:
    sums = [requantized_sum(add, a, b, isa) for a, b in zip(left, right, strict=True)]
    rule = LevelRule(zero_point=add.zero_point, low=add.low, high=add.high)
    buffer, index = place.write
    isa.store_levels(buffer, [Run(index, tuple(sums))], rule)


def requantized_sum(add: AddLevels, left: Expr, right: Expr, isa: Isa) -> Expr:
    """Return the sum of two int32 vectors of levels, scaled to the result, not yet rounded.

    Both products are fenced: each is rounded before the sum, as the definition says.
    """
    first = isa.fence(isa.to_float(left) * isa.splat(add.first_multiplier))
    second = isa.fence(isa.to_float(right) * isa.splat(add.second_multiplier))
    return first + second


def _store_floats(
    op: Elementwise, left: list[Expr], right: list[Expr], place: Place, isa: Isa
) -> None:
    from tvm.tirx.script.builder import ir as T

    buffer, index = place.write
    for number, (a, b) in enumerate(zip(left, right, strict=True)):
        value = _combined(op.function, a, b, isa)
        if op.activation is not None:
            value = apply(op.activation, value, isa)
        T.buffer_store(buffer, value, [isa.ramp(index + number * isa.lanes)])


def _combined(function: str, left: Expr, right: Expr, isa: Isa) -> Expr:
    match function:
        case "add":
            return left + right
        case "sub":
            return left - right
        case "mul":
            return left * right
        case "div":
            return left / right
        case "max":
            return isa.maximum(left, right)
        case "min":
            return isa.minimum(left, right)
    raise AssertionError(function)
