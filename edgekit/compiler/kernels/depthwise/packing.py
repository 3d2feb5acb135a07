"""Lay the constants of depthwise convolutions out, block by block of channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgekit.arithmetic.integer_ops import fold_zero_point
from edgekit.compiler.graph.operators import ToFloat, ToLevels
from edgekit.compiler.kernels.convolution.geometry import Layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.compiler.graph.operators import Convolution
    from edgekit.compiler.kernels.volume import Volume

    Array: TypeAlias = NDArray[Any]


def depthwise_layer(op: Convolution, reads: tuple[Volume, ...], write: Volume) -> Layer:
    """Describe a depthwise convolution."""
    return Layer(
        weights=op.weights,
        bias=op.bias,
        groups=op.groups,
        strides=op.strides,
        dilations=op.dilations,
        origin=(op.pads[0], op.pads[1]),
        x=reads[0],
        y=write,
        residual=reads[1] if len(reads) > 1 else None,
        activation=op.activation,
        input_zero_point=op.input_zero_point,
        result=op.result,
        add=op.add,
    )


def by_block(values: Array, volume: Volume) -> Array:
    """Lay values [channels, ...] out as [blocks, ..., lanes], zeros in lanes without a channel."""
    flat = values.reshape(len(values), -1)
    full = np.zeros((volume.blocks * volume.lanes, flat.shape[1]), values.dtype)
    full[: len(values)] = flat
    return full.reshape(volume.blocks, volume.lanes, -1).transpose(0, 2, 1)


def level_constants(layer: Layer) -> list[Array]:
    """Return bias with the zero point folded in, and multipliers, both by block."""
    assert isinstance(layer.result, ToLevels | ToFloat)
    bias: Array = layer.bias
    weights: Array = layer.weights
    bias = fold_zero_point(bias, weights, layer.input_zero_point)
    factors = np.broadcast_to(layer.result.multipliers, layer.bias.shape)
    return [by_block(bias, layer.x), by_block(factors, layer.x)]


def largest_sum(layer: Layer) -> float:
    """Return a bound on the absolute value of every partial sum of levels times weights."""
    bias, _ = level_constants(layer)
    weights = np.abs(by_block(layer.weights, layer.x).astype(np.float64)).sum(axis=1)
    return float((weights * 255 + np.abs(bias.astype(np.float64)).reshape(weights.shape)).max())


def window_weights(layer: Layer, offsets: int, windows: int, pixels: int) -> Array:
    """Return weights as windows of inputs meet them.

    Args:
        layer: The convolution.
        offsets: How many places within the windows an output's first input may have.
        windows: Windows side by side that hold all inputs of an output.
        pixels: Inputs in a window.

    Returns:
        int8 [blocks, kernel rows, offsets, windows, lanes, pixels].
    """
    height, width = layer.kernel
    blocks, lanes = layer.x.blocks, layer.x.lanes
    taps = by_block(layer.weights, layer.x).reshape(blocks, height, width, lanes)
    full = np.zeros((blocks, height, offsets, windows * pixels, lanes), np.int8)
    for offset in range(offsets):
        full[:, :, offset, offset : offset + width] = taps
    split = full.reshape(blocks, height, offsets, windows, pixels, lanes)
    return np.ascontiguousarray(split.swapaxes(-1, -2))
