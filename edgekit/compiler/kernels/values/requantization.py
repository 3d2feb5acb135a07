"""Requantize int32 vectors and store them as levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgekit.compiler.kernels.isa.forms import LevelRule, Run

if TYPE_CHECKING:
    import tvm
    from numpy.typing import NDArray

    from edgekit.compiler.graph.operators import ToLevels
    from edgekit.compiler.kernels.draft import Draft
    from edgekit.compiler.kernels.isa.base import Isa
    from edgekit.compiler.kernels.volume import Volume

    Buffer: TypeAlias = tvm.tirx.Buffer
    Expr: TypeAlias = tvm.tirx.PrimExpr


class Requantization:
    """Take accumulators to levels as `arithmetic.requantize` defines.

    Args:
        result: Multipliers, and the levels they lead to.
        write: Layout of the result.
        isa: Instruction set.

    Attributes:
        is_per_channel: Whether channels have multipliers of their own.
        constants: The first constants of the kernel: those multipliers.
    """

    def __init__(self, result: ToLevels, write: Volume, isa: Isa) -> None:
        self._result, self._write, self._isa = result, write, isa
        self.is_per_channel = result.multipliers.size > 1
        self.constants: list[NDArray[Any]] = []
        if self.is_per_channel:
            full = np.zeros(write.blocks * write.lanes, np.float32)
            full[: write.channels] = result.multipliers
            self.constants = [full]

    def store(
        self,
        draft: Draft,
        target: tuple[Buffer, Expr | int],
        block: Expr | int | None,
        accumulators: Sequence[Expr],
    ) -> None:
        """Write the code for vectors that lie side by side.

        Args:
            draft: The kernel.
            target: Buffer and index of the first level.
            block: Block of channels, whose first channel the first vector begins with; of no
                interest without `is_per_channel`.
            accumulators: int32 vectors.
        """
        isa, result = self._isa, self._result
        scaled = tuple(
            isa.to_float(accumulator) * self._factor(draft, block, number)
            for number, accumulator in enumerate(accumulators)
        )
        rule = LevelRule(zero_point=result.zero_point, low=result.low, high=result.high)
        buffer, index = target
        isa.store_levels(buffer, [Run(index, scaled)], rule)

    def _factor(self, draft: Draft, block: Expr | int | None, number: int) -> Expr:
        if not self.is_per_channel:
            return self._isa.splat(float(self._result.multipliers[0]))
        assert block is not None
        lanes = self._write.lanes
        channel = block * lanes + number * self._isa.lanes % lanes
        return draft.constants[0][self._isa.ramp(channel)]
