"""Move levels from one grid to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.compiler.kernels.values.pointwise import Place, build_pointwise
from edgekit.compiler.kernels.values.requantization import Requantization

if TYPE_CHECKING:
    from edgekit.compiler.graph.operators import Rescale
    from edgekit.compiler.kernels.draft import Draft
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.kernel import Built
    from edgekit.compiler.kernels.volume import Volume


def build_rescale(op: Rescale, reads: tuple[Volume, ...], write: Volume, isa: Isa) -> Built:
    """Build a kernel that requantizes levels.

    Args:
        op: The operator.
        reads: Layout of the operand; blocked like the result.
        write: Layout of the result.
        isa: Instruction set.
    """
    requantization = Requantization(op.result, write, isa)

    def emit(draft: Draft, place: Place) -> None:
        ((source, start),) = place.reads
        levels = isa.load_levels(source, start, op.input_zero_point, place.vectors)
        requantization.store(draft, place.write, place.block, levels)

    return build_pointwise(
        reads,
        write,
        isa,
        emit,
        constants=requantization.constants,
        per_channel=requantization.is_per_channel,
    )
