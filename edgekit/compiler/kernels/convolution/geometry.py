"""What a convolution or a matrix product by constants comes down to, and the padding it reads.

One `Layer` stands for both: a matrix [M, K] is an image of one row of M pixels with K channels.
A 1x1 convolution whose images have no padding is a single long row, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgekit.compiler.graph.operators import (
    Activation,
    AddLevels,
    Convolution,
    Dense,
    Pool,
    ToFloat,
    ToLevels,
)
from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.volume import Volume

Pads = tuple[int, int, int, int]
FEW_CHANNELS = 4
"""An image of levels with at most as many channels has that many lanes."""


class Source(msgspec.Struct, frozen=True):
    """Hold neighbouring channel blocks of a group's input that are read alike.

    Args:
        block: First of them, counted from the group's first block.
        num_blocks: How many.
        channels: Channels of each that mean something.
    """

    block: int
    num_blocks: int
    channels: int


class Layer(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Describe a convolution whose groups start at whole vectors and whole blocks.

    Args:
        weights: [outputs, inputs of a group, kernel height, kernel width].
        bias: [outputs].
        groups: Number of groups.
        strides: Vertical, horizontal.
        dilations: Vertical, horizontal.
        origin: Rows above and columns left of the image where the first window starts.
        x: Layout of the input.
        y: Layout of the result.
        residual: Layout of what is added, if anything is.
        activation: Behind everything, for float results.
        input_zero_point: Of levels.
        result: What becomes of int32 accumulators.
        add: How a residual of levels is added.
        joined: Neighbouring pixels whose channels are taken as those of one.
    """

    weights: NDArray[np.float32] | NDArray[np.int8]
    bias: NDArray[np.float32] | NDArray[np.int32]
    groups: int
    strides: tuple[int, int]
    dilations: tuple[int, int]
    origin: tuple[int, int]
    x: Volume
    y: Volume
    residual: Volume | None
    activation: Activation | None
    input_zero_point: int
    result: ToLevels | ToFloat | None
    add: AddLevels | None
    joined: int = 1

    @property
    def is_integer(self) -> bool:
        """Return whether the operands are levels."""
        return self.result is not None

    @property
    def kernel(self) -> tuple[int, int]:
        """Return the kernel's height and width."""
        return self.weights.shape[2], self.weights.shape[3]

    @property
    def block_lanes(self) -> int:
        """Return the channels of the input that lie side by side, as `joined` has it."""
        return self.x.lanes * self.joined

    @property
    def group_inputs(self) -> int:
        """Return the input channels of a group."""
        return int(self.weights.shape[1])

    @property
    def group_blocks(self) -> int:
        """Return the channel blocks of the input that one group reads."""
        return -(-self.group_inputs // self.x.lanes)

    def group_vectors(self, lanes: int) -> int:
        """Return how many vectors hold the outputs of one group.

        The last group's include all lanes of the result's last block; of levels those beyond the
        channels may hold anything, so vectors without a channel are left out.
        """
        if self.groups == 1 and self.y.blocks > 1 and self.y.dtype != "float32":
            return -(-len(self.weights) // lanes)
        if self.groups == 1:
            return -(-self.y.blocks * self.y.lanes // lanes)
        return len(self.weights) // self.groups // lanes

    def channel_group(self, isa: Isa) -> int:
        """Return how many input channels one step reduces."""
        return isa.dot_group if self.is_integer else 1

    def step(self, isa: Isa) -> int:
        """Return the weights of one step and one output vector."""
        return isa.lanes * self.channel_group(isa)

    def source_steps(self, source: Source, isa: Isa) -> int:
        """Return the steps of one input block at one element of the kernel."""
        return -(-source.channels // self.channel_group(isa))

    def num_steps(self, isa: Isa) -> int:
        """Return the steps of a group's whole reduction."""
        height, width = self.kernel
        steps = (part.num_blocks * self.source_steps(part, isa) for part in self.sources())
        return height * width * sum(steps)

    def sources(self) -> list[Source]:
        """Return the parts of a group's input: whole blocks, and the rest of the last one."""
        whole, rest = divmod(self.group_inputs, self.block_lanes)
        parts = [Source(0, whole, self.block_lanes), Source(whole, 1, rest)]
        return [part for part in parts if part.num_blocks and part.channels]


def required_pads(
    op: Convolution | Dense | Pool, x: Tensor, y: Tensor, isa: Isa | None = None
) -> Pads:
    """Return the least padding (top, left, bottom, right) an operator's input buffer needs.

    Args:
        op: The operator.
        x: What it reads, [1, C, H, W].
        y: What it writes, [1, K, OH, OW].
        isa: Instruction set; with it, padding that lets a convolution of a few channels of levels
            load several neighbouring pixels at once.
    """
    if isinstance(op, Dense):
        return 0, 0, 0, 0
    window = op.window if isinstance(op, Pool) else op.weights.shape[2:]
    if isa is not None and isinstance(op, Convolution) and op.result is not None:
        joined = _joined(op, FEW_CHANNELS, isa) if x.shape[1] <= FEW_CHANNELS else 1
        window = (window[0], -(-window[1] // joined) * joined)
    top, left = op.pads[:2]
    bottom, right = (
        (size - 1) * stride + (reach - 1) * dilation + 1 - before - available
        for size, stride, reach, dilation, before, available in zip(
            y.shape[2:], op.strides, window, op.dilations, (top, left), x.shape[2:], strict=True
        )
    )
    return top, left, max(bottom, 0), max(right, 0)


def layer_of(op: Convolution | Dense, reads: Sequence[Volume], write: Volume, isa: Isa) -> Layer:
    """Bring an operator into the form kernels are written for."""
    residual = reads[1] if len(reads) > 1 else None
    if isinstance(op, Dense):
        weights = op.weights.reshape(*op.weights.shape, 1, 1)
        groups, strides, dilations, origin = 1, (1, 1), (1, 1), (0, 0)
    else:
        weights, groups = merge_groups(op.weights, op.groups, reads[0].lanes, isa.lanes)
        strides, dilations, origin = op.strides, op.dilations, (op.pads[0], op.pads[1])
    volumes = [reads[0], write, *([residual] if residual is not None else [])]
    is_pointwise = weights.shape[2:] == (1, 1) and strides == (1, 1) and origin == (0, 0)
    if is_pointwise and not any(volume.is_padded for volume in volumes):
        volumes = [volume.flattened() for volume in volumes]
    layer = Layer(
        weights=weights,
        bias=op.bias,
        groups=groups,
        strides=strides,
        dilations=dilations,
        origin=origin,
        x=volumes[0],
        y=volumes[1],
        residual=volumes[2] if residual is not None else None,
        activation=op.activation,
        input_zero_point=op.input_zero_point,
        result=op.result,
        add=op.add,
    )
    if isinstance(op, Convolution) and layer.is_integer and layer.x.blocks == 1:
        return _with_joined_pixels(layer, _joined(op, layer.x.lanes, isa))
    return layer


def _joined(op: Convolution, lanes: int, isa: Isa) -> int:
    """Return how many pixels of `lanes` channels of levels one load takes."""
    reach = isa.dot_group * isa.dot_load
    is_plain = op.groups == 1 and op.dilations[1] == 1 and op.weights.shape[3] > 1
    return reach // lanes if is_plain and lanes < reach and reach % lanes == 0 else 1


def _with_joined_pixels(layer: Layer, joined: int) -> Layer:
    """Return the layer with kernel columns turned into channels, where padding allows for it."""
    outputs, inputs, height, width = layer.weights.shape
    steps = -(-width // joined)
    last = (layer.y.width - 1) * layer.strides[1] + steps * joined - layer.origin[1]
    if joined == 1 or last > layer.x.width + layer.x.pads[3]:
        return layer
    lanes = layer.x.lanes
    full = np.zeros((outputs, lanes, height, steps * joined), layer.weights.dtype)
    full[:, :inputs, :, :width] = layer.weights
    moved = full.reshape(outputs, lanes, height, steps, joined).transpose(0, 4, 1, 2, 3)
    weights = moved.reshape(outputs, joined * lanes, height, steps)
    return msgspec.structs.replace(
        layer,
        weights=weights[:, : min(width, joined) * lanes],
        dilations=(layer.dilations[0], joined),
        joined=joined,
    )


def merge_groups(
    weights: NDArray[np.float32] | NDArray[np.int8], groups: int, block: int, lanes: int
) -> tuple[NDArray[np.float32] | NDArray[np.int8], int]:
    """Merge as few groups as it takes for each to start at a whole block and a whole vector.

    Args:
        weights: [outputs, inputs / groups, ...].
        groups: Number of groups.
        block: Input channels that lie side by side.
        lanes: Outputs of a vector.

    Returns:
        Weights [outputs, inputs / fewer groups, ...], zeros where a merged group does not read, and
        the number of groups.
    """
    outputs, inputs = len(weights) // groups, weights.shape[1]
    merged = next(
        count
        for count in range(1, groups + 1)
        if groups % count == 0
        and (count == groups or (count * inputs % block == 0 and count * outputs % lanes == 0))
    )
    if merged == 1:
        return weights, groups
    wide = np.zeros((len(weights), merged * inputs, *weights.shape[2:]), weights.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        first = group % merged * inputs
        wide[rows, first : first + inputs] = weights[rows]
    return wide, groups // merged
