"""Plan a network for a target: level dtype, algorithms, layouts, tiles, and then all its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from edgekit.compiler.aot.step_graph import StepGraph, StepGraphBuilder
from edgekit.compiler.aot.toolchain import Toolchain
from edgekit.compiler.graph.check import check_weights
from edgekit.compiler.graph.operators import Network
from edgekit.compiler.graph.rebias import to_levels_of
from edgekit.compiler.kernels.isa.choose import isa_for
from edgekit.compiler.plan.algorithm import (
    AlgorithmOptions,
    choose_algorithms,
    winograd_growth,
    winograd_size,
)
from edgekit.compiler.plan.assembly import assemble
from edgekit.compiler.plan.layout import choose_layout
from edgekit.compiler.plan.operator_kernels import KernelBuilder
from edgekit.compiler.plan.region_steps import RegionCompiler
from edgekit.compiler.plan.tiling import Tiling, read_tiles
from edgekit.core.target import Target


class NetworkPlan(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold a planned network.

    Args:
        network: As it is run, all levels of one dtype.
        graph: Its steps and kernels.
        winograd: Names of the operators computed by Winograd, with their algorithm.
        winograd_bytes: What that adds to the weights.
    """

    network: Network
    graph: StepGraph
    winograd: dict[str, Any]
    winograd_bytes: int


def plan_network(
    network: Network,
    target: Target,
    toolchain: Toolchain,
    options: AlgorithmOptions,
    on_detail: Callable[[str], None],
    *,
    tile_candidate: int = 0,
) -> NetworkPlan:
    """Plan a network for a target.

    Args:
        network: From the frontend.
        target: What it runs on.
        toolchain: The same in LLVM's words.
        options: What may be traded.
        on_detail: Told every operator and kernel before it is worked on, and "" afterwards.
        tile_candidate: Which of the analytic choice's tiles to take, the best being 0.

    Raises:
        InputError: TVM cannot import an operator that has no kernel of ours, or weights are beyond
            what the instruction set takes.
    """
    isa = isa_for(target)
    check_weights(network, isa.weight_limit)
    moved = to_levels_of(network, isa.level_dtype)
    algorithms = choose_algorithms(moved, options, isa)
    kernels = KernelBuilder(
        network=moved,
        isa=isa,
        algorithms=algorithms,
        tiling=Tiling(
            isa=isa,
            caches_kib=target.cpu.caches_kib,
            table=read_tiles(target.tiles, target.name),
            candidate=tile_candidate,
        ),
    )
    regions = RegionCompiler(toolchain=toolchain, builder=StepGraphBuilder(), on_detail=on_detail)
    layout = choose_layout(moved, algorithms, isa)
    graph = assemble(moved, layout, kernels, regions, on_detail)
    winograd = {
        name: algorithm
        for name, algorithm in algorithms.items()
        if winograd_size(algorithm) is not None
    }
    return NetworkPlan(
        network=moved,
        graph=graph,
        winograd=winograd,
        winograd_bytes=winograd_growth(moved, algorithms),
    )
