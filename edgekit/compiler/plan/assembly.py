"""Turn a network into steps: kernels called with pieces of memory, layouts changed where needed."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from edgekit.compiler.aot.step_graph import StepGraph, StepGraphBuilder, StepKernel, Value
from edgekit.compiler.engine_build import StepFacts
from edgekit.compiler.graph.accounting import takes_levels
from edgekit.compiler.graph.operators import (
    Concat,
    Dense,
    Elementwise,
    GlobalAverage,
    Network,
    Operator,
    Region,
    Reshape,
    Softmax,
)
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.volume import Volume
from edgekit.compiler.plan.algorithm import operator_macs
from edgekit.compiler.plan.flattened import over_blocks, reads_blocks
from edgekit.compiler.plan.forms import (
    NO_PADS,
    is_pixel,
    joined_of,
    line_of,
    matrix_of,
    planes_of,
)
from edgekit.compiler.plan.layout import Layout, is_conversion
from edgekit.compiler.plan.operator_kernels import KernelBuilder, Planned
from edgekit.compiler.plan.region_steps import RegionCompiler


def assemble(
    network: Network,
    layout: Layout,
    kernels: KernelBuilder,
    regions: RegionCompiler,
    on_detail: Callable[[str], None],
) -> StepGraph:
    """Return a network as steps.

    Args:
        network: With all its levels in the dtype of the instruction set.
        layout: Of its tensors.
        kernels: Builds kernels of our own.
        regions: Compiles everything else; its builder collects all steps.
        on_detail: Told every operator before its kernel is built, and "" afterwards.
    """
    assembly = _Assembly(network, layout, kernels, regions.builder)
    for operator in network.operators:
        on_detail(f"operator '{operator.name}' ({type(operator).__name__})")
        if isinstance(operator, Region):
            reads = [assembly.plain(name) for name in operator.reads]
            assembly.place(operator.writes, regions.append(operator, reads))
        elif isinstance(operator, Reshape):
            assembly.rename(operator.reads[0], operator.writes[0])
        else:
            assembly.append(operator)
    on_detail("")
    results = [
        (assembly.plain(name), num_bytes(line_of(network.tensors[name])))
        for name in network.outputs
    ]
    return regions.builder.finished(results)


def num_bytes(volume: Volume) -> int:
    """Return the size of a tensor in memory."""
    return volume.elements * np.dtype(volume.dtype).itemsize


class _Operand(msgspec.Struct, frozen=True):
    value: Value
    volume: Volume


class _Assembly:
    """Hold where the tensors made so far lie: in plain order, as images, or both."""

    def __init__(
        self, network: Network, layout: Layout, kernels: KernelBuilder, builder: StepGraphBuilder
    ) -> None:
        self._network = network
        self._layout = layout
        self._kernels = kernels
        self._builder = builder
        self._plain = {name: Value("input", index) for index, name in enumerate(network.inputs)}
        self._images: dict[str, Value] = {}
        self._sources: dict[str, str] = {}

    def place(self, names: tuple[str, ...], values: tuple[Value, ...]) -> None:
        """Note where tensors in plain order lie."""
        self._plain.update(zip(names, values, strict=True))

    def rename(self, source: str, name: str) -> None:
        """Note a tensor that is another one in a different shape."""
        self._sources[name] = source

    def plain(self, name: str) -> Value:
        """Return a tensor in plain order, unpacked when it is an image so far."""
        if name in self._plain:
            return self._plain[name]
        if name in self._sources:
            value = self.plain(self._sources[name])
        elif is_pixel(self._tensor(name)) and not self._layout.images[name].is_padded:
            value = self._images[name]
        else:
            target = planes_of(self._tensor(name))
            value = self._builder.tensor(num_bytes(target))
            image = _Operand(self._images[name], self._layout.images[name])
            self._copy(name, image, _Operand(value, target))
        self._plain[name] = value
        return value

    def image(self, name: str) -> Value:
        """Return a tensor as the image its layout says, packed when it lies plain so far."""
        if name in self._images:
            return self._images[name]
        source, volume = self.plain(name), self._layout.images[name]
        is_alike = is_pixel(self._tensor(name)) and not volume.is_padded
        if is_alike and self._has_room(source, num_bytes(volume)):
            value = source
        else:
            value = self._builder.tensor(num_bytes(volume))
            planes = _Operand(source, planes_of(self._tensor(name)))
            self._copy(name, planes, _Operand(value, volume))
        self._images[name] = value
        return value

    def append(self, operator: Operator) -> None:
        """Append the step of an operator with a kernel of our own."""
        if isinstance(operator, Dense):
            operator, first = self._dense(operator)
            others = [self._operand(operator, name) for name in operator.reads[1:]]
            reads = [first, *others]
        else:
            reads = [self._operand(operator, name) for name in operator.reads]
        result = self._result(operator)
        planned = self._kernels.build(operator, tuple(read.volume for read in reads), result.volume)
        facts = StepFacts(
            name=operator.name,
            nodes=operator.nodes,
            kind=planned.kind,
            dtype="int8" if takes_levels(operator, self._network) else "float32",
            macs=operator_macs(operator, self._network),
            layer=planned.layer,
            tile=planned.tile,
        )
        self._step(planned, [read.value for read in reads], result.value, facts)

    def _tensor(self, name: str) -> Tensor:
        return self._network.tensors[name]

    def _has_room(self, value: Value, size: int) -> bool:
        return value.place == "workspace" and self._builder.size_of(value) >= size

    def _dense(self, operator: Dense) -> tuple[Dense, _Operand]:
        """Let a dense layer behind a flattened image read the image's blocks as they lie."""
        name = operator.reads[0]
        source = self._sources.get(name, "")
        volume = self._layout.images.get(source)
        if source in self._images and volume is not None and reads_blocks(volume):
            flat = matrix_of(Tensor(name, (1, volume.elements), volume.dtype))
            changed = over_blocks(operator, volume)
            return changed, _Operand(self._images[source], flat)
        return operator, self._operand(operator, name)

    def _operand(self, operator: Operator, name: str) -> _Operand:
        tensor = self._tensor(name)
        if is_conversion(operator, self._network):
            if name in self._images:
                return _Operand(self._images[name], self._layout.images[name])
            is_line = self._layout.forms[operator.writes[0]] == "plain"
            return _Operand(self.plain(name), line_of(tensor) if is_line else planes_of(tensor))
        if self._layout.operand_form(operator, self._network) == "image":
            image = _Operand(self.image(name), self._layout.images[name])
            is_spread = isinstance(operator, Elementwise) and name == operator.reads[-1]
            if is_spread and is_pixel(tensor) and image.volume.is_padded:
                return self._without_padding(name, image)
            return image
        return _Operand(self.plain(name), _plain_volume(operator, tensor))

    def _result(self, operator: Operator) -> _Operand:
        name = operator.writes[0]
        tensor, image = self._tensor(name), self._layout.images.get(name)
        if self._layout.forms[name] == "image":
            assert image is not None
            if isinstance(operator, GlobalAverage) and image.is_padded:
                # Its kernel writes no padding; one pixel is plain as well, and packed when read.
                pixel = msgspec.structs.replace(image, pads=NO_PADS)
                self._plain[name] = value = self._builder.tensor(num_bytes(pixel))
                return _Operand(value, pixel)
            self._images[name] = value = self._builder.tensor(num_bytes(image))
            return _Operand(value, image)
        from_image = is_conversion(operator, self._network) and operator.reads[0] in self._images
        volume = planes_of(tensor) if from_image else _plain_volume(operator, tensor)
        size = num_bytes(volume)
        if image is not None and is_pixel(tensor):
            size = max(size, num_bytes(image))  # its readers may take whole blocks of it
        self._plain[name] = value = self._builder.tensor(size)
        return _Operand(value, volume)

    def _without_padding(self, name: str, image: _Operand) -> _Operand:
        """Return one pixel as kernels want it that spread it over an image."""
        pixel = msgspec.structs.replace(image.volume, pads=NO_PADS)
        value = self._builder.tensor(num_bytes(pixel))
        self._copy(name, image, _Operand(value, pixel))
        return _Operand(value, pixel)

    def _copy(self, name: str, source: _Operand, target: _Operand) -> None:
        """Append a step that changes the layout of a tensor."""
        planned = self._kernels.build_copy(source.volume, target.volume)
        facts = StepFacts(name=f"{planned.kind} {name}", kind=planned.kind)
        self._step(planned, [source.value], target.value, facts)

    def _step(self, planned: Planned, reads: list[Value], result: Value, facts: StepFacts) -> None:
        kernel = planned.built.kernel
        ranged = StepKernel(
            function=kernel.function,
            num_items=kernel.num_items,
            scratch_bytes=kernel.scratch_bytes,
        )
        name = self._builder.kernel(ranged, planned.name)
        constants = [self._builder.constant(array) for array in planned.built.constants]
        self._builder.step(name, [*reads, *constants], [result], facts)


def _plain_volume(operator: Operator, tensor: Tensor) -> Volume:
    if isinstance(operator, Dense | Softmax):
        return matrix_of(tensor)
    if isinstance(operator, Concat):
        return joined_of(tensor, operator.axis)
    return line_of(tensor)
