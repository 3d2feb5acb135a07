"""Operators without a kernel of ours: TVM imports, legalises and schedules them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from edgekit.compiler.regions.fusion import fuse, simplify
from edgekit.compiler.regions.importer import import_onnx
from edgekit.compiler.regions.kernel_schedule import schedule_kernel
from edgekit.compiler.regions.relax_steps import append_relax_steps

if TYPE_CHECKING:
    import tvm

    from edgekit.compiler.aot.step_graph import StepGraphBuilder, Value
    from edgekit.compiler.aot.toolchain import Toolchain
    from edgekit.compiler.graph.operators import Region


class RegionCompiler(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Turn regions into steps.

    Args:
        toolchain: What to compile for.
        builder: Receives the steps.
        on_detail: Told every operator and kernel before it is worked on, and "" afterwards.
    """

    toolchain: Toolchain
    builder: StepGraphBuilder
    on_detail: Callable[[str], None]

    def append(self, region: Region, reads: Sequence[Value]) -> tuple[Value, ...]:
        """Append the steps of a region.

        Args:
            region: What to compile.
            reads: Where its operands lie, in the order of `region.reads`.

        Returns:
            Where the results lie, in the order of `region.writes`.

        Raises:
            InputError: TVM cannot import an operator; it is named.
        """
        import onnx
        import tvm

        model = onnx.load_model_from_string(region.model)
        module = import_onnx(model, on_operator=self.on_detail)
        places = dict(zip(region.reads, reads, strict=True))
        results = append_relax_steps(
            fuse(simplify(module), tvm.target.Target(self.toolchain.llvm)),
            self.builder,
            [places[item.name] for item in model.graph.input],
            schedule=self._schedule,
            nodes=region.nodes,
        )
        written = {
            item.name: value for item, value in zip(model.graph.output, results, strict=True)
        }
        return tuple(written[name] for name in region.writes)

    def _schedule(self, name: str, kernel: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc:
        self.on_detail(f"kernel '{name}'")
        scheduled = schedule_kernel(
            kernel, lanes=self.toolchain.lanes, num_registers=self.toolchain.num_registers
        )
        self.on_detail("")
        return scheduled
