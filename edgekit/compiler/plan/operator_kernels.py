"""Build the kernel of each operator: the one place that knows all kernel modules."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from edgekit.compiler.graph.operators import (
    Concat,
    Convolution,
    Dense,
    Dequantize,
    Elementwise,
    GlobalAverage,
    Lookup,
    Network,
    Operator,
    Pool,
    Quantize,
    Rescale,
    Resize,
    Softmax,
    Unary,
)
from edgekit.compiler.graph.rebias import is_shift
from edgekit.compiler.graph.tensors import Grid
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.kernel import Built
from edgekit.compiler.kernels.volume import Volume
from edgekit.compiler.plan.algorithm import Algorithm, winograd_size
from edgekit.compiler.plan.tiling import Tiling

Volumes = tuple[Volume, ...]
Build = Callable[..., Built]


class Planned(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold a kernel with its constants.

    Args:
        built: The kernel.
        kind: What it is, for reports.
        name: What its function is called, a C identifier.
        layer: Key of the layer in a table of tiles; empty for kernels without a choice.
        tile: The tile taken.
    """

    built: Built
    kind: str
    name: str
    layer: str = ""
    tile: str = ""


class KernelBuilder(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Build kernels for one network and one instruction set.

    Args:
        network: Whose operators are built.
        isa: Instruction set.
        algorithms: Of every convolution, by name.
        tiling: Chooses register tiles.
    """

    network: Network
    isa: Isa
    algorithms: Mapping[str, Algorithm]
    tiling: Tiling

    def build(self, operator: Operator, reads: Volumes, write: Volume) -> Planned:
        """Build the kernel of an operator.

        Args:
            operator: Any but a region or a reshape.
            reads: Layouts of its operands.
            write: Layout of its result.
        """
        if isinstance(operator, Convolution):
            return self._convolution(operator, reads, write)
        if isinstance(operator, Dense):
            return self._product(operator, reads, write, "dense")
        if is_shift(operator, self.network):
            return self.build_copy(reads[0], write)
        if isinstance(operator, Quantize | Dequantize):
            return self._conversion(operator, reads, write)
        kind, build = _other(operator)
        return _planned(build(operator, reads, write, self.isa), kind, write)

    def build_copy(self, read: Volume, write: Volume) -> Planned:
        """Build a kernel that changes the layout of a tensor."""
        from edgekit.compiler.kernels.images.layout import build_copy

        kind = "pack" if write.lanes > 1 or write.is_padded else "unpack"
        return _planned(build_copy((read,), write, self.isa), kind, write)

    def _convolution(self, operator: Convolution, reads: Volumes, write: Volume) -> Planned:
        algorithm = self.algorithms[operator.name]
        if algorithm == "depthwise":
            from edgekit.compiler.kernels.depthwise.depthwise import build_depthwise

            return _planned(build_depthwise(operator, reads, write, self.isa), algorithm, write)
        if algorithm == "direct":
            size = "x".join(str(size) for size in operator.weights.shape[2:])
            return self._product(operator, reads, write, f"convolution {size}")
        from edgekit.compiler.kernels.winograd.floats import build_winograd
        from edgekit.compiler.kernels.winograd.levels import build_winograd_levels

        m = winograd_size(algorithm)
        assert m is not None, algorithm
        if operator.result is not None:
            built = build_winograd_levels(operator, reads, write, self.isa, m)
            return _planned(built, algorithm, write)
        return _planned(build_winograd(operator, reads, write, self.isa, m), algorithm, write)

    def _product(
        self, operator: Convolution | Dense, reads: Volumes, write: Volume, kind: str
    ) -> Planned:
        from edgekit.compiler.kernels.convolution.direct import build_convolution

        choice = self.tiling.choose(operator, reads[0], write)
        built = build_convolution(operator, reads, write, self.isa, choice.tile)
        planned = _planned(built, kind, write)
        return msgspec.structs.replace(planned, layer=choice.layer, tile=str(choice.tile))

    def _conversion(
        self, operator: Quantize | Dequantize, reads: Volumes, write: Volume
    ) -> Planned:
        from edgekit.compiler.kernels.images.layout import build_dequantize, build_quantize

        if isinstance(operator, Quantize):
            grid = self._grid(operator.writes[0])
            return _planned(build_quantize(reads, write, self.isa, grid), "quantize", write)
        grid = self._grid(operator.reads[0])
        return _planned(build_dequantize(reads, write, self.isa, grid), "dequantize", write)

    def _grid(self, name: str) -> Grid:
        grid = self.network.tensors[name].grid
        assert grid is not None, name
        return grid


def _other(operator: Operator) -> tuple[str, Build]:
    """Return the kind of an operator and what builds its kernel from nothing but its layouts."""
    from edgekit.compiler.kernels.images import concat, global_average, pool, resize
    from edgekit.compiler.kernels.values import elementwise, lookup, rescale, softmax, unary

    if isinstance(operator, Unary):
        return operator.activation.function, unary.build_unary
    builders: dict[type[Operator], tuple[str, Build]] = {
        Pool: ("pool", pool.build_pool),
        GlobalAverage: ("global-average", global_average.build_global_average),
        Elementwise: ("elementwise", elementwise.build_elementwise),
        Lookup: ("lookup", lookup.build_lookup),
        Rescale: ("rescale", rescale.build_rescale),
        Concat: ("concat", concat.build_concat),
        Resize: ("resize", resize.build_resize),
        Softmax: ("softmax", softmax.build_softmax),
    }
    name, build = builders[type(operator)]
    detail = getattr(operator, "function", getattr(operator, "mode", ""))
    return f"{detail} {name}".strip(), build


def _planned(built: Built, kind: str, write: Volume) -> Planned:
    size = f"{write.channels}x{write.height}x{write.width}"
    return Planned(built=built, kind=kind, name=re.sub(r"\W", "_", f"{kind} {size}"))
