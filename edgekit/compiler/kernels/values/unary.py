"""Apply a function to every value of a float32 tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.compiler.kernels.values.functions import apply
from edgekit.compiler.kernels.values.pointwise import Place, build_pointwise

if TYPE_CHECKING:
    from edgekit.compiler.graph.operators import Unary
    from edgekit.compiler.kernels.draft import Draft
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.kernel import Built
    from edgekit.compiler.kernels.volume import Volume


def build_unary(op: Unary, reads: tuple[Volume, ...], write: Volume, isa: Isa) -> Built:
    """Build the kernel of a function of one tensor.

    Args:
        op: The operator.
        reads: Layout of the operand; blocked like the result.
        write: Layout of the result.
        isa: Instruction set.
    """

    def emit(draft: Draft, place: Place) -> None:
        from tvm.tirx.script.builder import ir as T

        ((source, start),), (target, index) = place.reads, place.write
        for number in range(place.vectors):
            value = source[isa.ramp(start + number * isa.lanes)]
            result = apply(op.activation, value, isa)
            T.buffer_store(target, result, [isa.ramp(index + number * isa.lanes)])

    return build_pointwise(reads, write, isa, emit)
