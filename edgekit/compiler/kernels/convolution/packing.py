"""Lay weights, biases and multipliers out in the order in which kernels read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.arithmetic.integer_ops import fold_zero_point
from edgekit.compiler.graph.operators import ToLevels
from edgekit.compiler.kernels.convolution.geometry import Layer
from edgekit.compiler.kernels.isa.base import Isa

Array = NDArray[Any]


def packed_constants(layer: Layer, isa: Isa, sizes: Sequence[int]) -> list[Array]:
    """Return packed weights, bias and, for levels, multipliers.

    Args:
        layer: What is computed.
        isa: Instruction set.
        sizes: Vectors in each of a group's output blocks.
    """
    constants = [packed_weights(layer, isa, sizes)]
    if not layer.is_integer:
        return [*constants, _by_vectors(layer, isa, layer.bias, np.float32)]
    assert layer.result is not None
    bias = fold_zero_point(
        layer.bias.astype(np.int32, casting="equiv"),
        layer.weights.astype(np.int8, casting="equiv"),
        layer.input_zero_point,
    )
    factors = np.broadcast_to(layer.result.multipliers, layer.bias.shape)
    return [
        *constants,
        _by_vectors(layer, isa, bias, np.int32),
        _by_vectors(layer, isa, factors, np.float32),
    ]


def packed_weights(layer: Layer, isa: Isa, sizes: Sequence[int]) -> Array:
    """Return flat weights in the order in which they are read.

    That is group, output block, input block, row, column, step, vector, lane, channel of a step.

    A step is one input channel of floats or `dot_group` channels of levels, filled with zeros.
    """
    group = isa.dot_group if layer.is_integer else 1
    height, width = layer.kernel
    parts = []
    for weights in _by_group(layer, isa):
        first = 0
        for size in sizes:
            block = weights[first : first + size]
            first += size
            for source in layer.sources():
                start = source.block * layer.block_lanes
                stop = start + source.num_blocks * source.channels
                steps = -(-source.channels // group)
                part = block[:, :, start:stop].reshape(
                    size, isa.lanes, source.num_blocks, source.channels, height, width
                )
                room = [(0, 0)] * 6
                room[3] = (0, steps * group - source.channels)
                part = np.pad(part, room).reshape(
                    size, isa.lanes, source.num_blocks, steps, group, height, width
                )
                parts.append(part.transpose(2, 5, 6, 3, 0, 1, 4).reshape(-1))
    return np.concatenate(parts)


def accumulator_bound(layer: Layer) -> NDArray[np.float64]:
    """Return the largest absolute value each output's int32 accumulator can have: [outputs]."""
    low, high = (0, 255) if layer.x.dtype == "uint8" else (-128, 127)
    reach = max(abs(low - layer.input_zero_point), abs(high - layer.input_zero_point))
    sums = np.abs(layer.weights.astype(np.float64)).reshape(len(layer.weights), -1).sum(axis=1)
    bound: NDArray[np.float64] = sums * reach + np.abs(layer.bias.astype(np.float64))
    return bound


def scaled_bound(layer: Layer) -> float:
    """Return the largest absolute value that is rounded to a level of the convolution's result."""
    assert isinstance(layer.result, ToLevels)
    return float((accumulator_bound(layer) * np.abs(layer.result.multipliers)).max())


def _by_group(layer: Layer, isa: Isa) -> list[Array]:
    """Return each group's weights: [vectors, lanes, inputs, height, width], zeros at the end."""
    vectors = layer.group_vectors(isa.lanes)
    pieces = np.split(layer.weights, layer.groups)
    return [
        np.pad(piece, [(0, vectors * isa.lanes - len(piece)), (0, 0), (0, 0), (0, 0)]).reshape(
            vectors, isa.lanes, *piece.shape[1:]
        )
        for piece in pieces
    ]


def _by_vectors(layer: Layer, isa: Isa, values: Array, dtype: type[Any]) -> Array:
    full = np.zeros(layer.groups * layer.group_vectors(isa.lanes) * isa.lanes, dtype)
    full[: len(values)] = values
    return full
