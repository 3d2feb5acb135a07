"""The three ways in which a tensor can lie in memory, each as a `Volume`.

- A line: plain row-major order, walked as one run of values.
- A matrix: the same order, with the last axis as the lanes of one block.
- An image: blocks of channels with padding, for [1, C, H, W] (and [1, C], one pixel).

An image of one pixel without padding begins with its line, so it serves as both.
"""

from __future__ import annotations

import math

from edgekit.compiler.graph.tensors import Tensor
from edgekit.compiler.kernels.isa.base import Isa
from edgekit.compiler.kernels.volume import Volume

Pads = tuple[int, int, int, int]
NO_PADS: Pads = (0, 0, 0, 0)
_FEW_CHANNELS = 4


def is_image(tensor: Tensor) -> bool:
    """Return whether a tensor can lie as an image."""
    shape = tensor.shape
    return len(shape) in (2, 4) and shape[0] == 1 and tensor.dtype in ("float32", "uint8", "int8")


def is_pixel(tensor: Tensor) -> bool:
    """Return whether a tensor, as an image, has one pixel."""
    return is_image(tensor) and math.prod(tensor.shape[2:]) == 1


def line_of(tensor: Tensor) -> Volume:
    """Return the layout of a tensor in plain order, as one run of values."""
    return Volume(dtype=tensor.dtype, channels=1, height=1, width=tensor.size, lanes=1)


def matrix_of(tensor: Tensor) -> Volume:
    """Return the layout of a tensor in plain order, as rows of its last axis."""
    channels = tensor.shape[-1]
    rows = tensor.size // channels
    return Volume(dtype=tensor.dtype, channels=channels, height=1, width=rows, lanes=channels)


def joined_of(tensor: Tensor, axis: int) -> Volume:
    """Return the layout of a tensor in plain order, as rows of all its axes from `axis` on."""
    channels = math.prod(tensor.shape[axis:])
    rows = tensor.size // channels
    return Volume(dtype=tensor.dtype, channels=channels, height=1, width=rows, lanes=channels)


def planes_of(tensor: Tensor) -> Volume:
    """Return the layout of an image in plain order, one block for every channel."""
    return _image(tensor, lanes=1, pads=NO_PADS)


def image_of(tensor: Tensor, isa: Isa, pads: Pads = NO_PADS, *, narrow: bool = False) -> Volume:
    """Return the layout of an image in blocks of channels.

    Args:
        tensor: An image.
        isa: Says how many channels a block has.
        pads: Top, left, bottom, right.
        narrow: Whether few channels lie in a block of their own size, as convolutions alone read.
    """
    is_float = tensor.dtype == "float32"
    lanes = isa.float_block if is_float else isa.level_block
    if narrow:
        assert tensor.shape[1] <= _FEW_CHANNELS, tensor
        # A vector of floats is made from one value; levels are multiplied four at a time.
        lanes = 1 if is_float and lanes > _FEW_CHANNELS else min(lanes, _FEW_CHANNELS)
    return _image(tensor, lanes=lanes, pads=pads)


def has_few_channels(tensor: Tensor) -> bool:
    """Return whether an image could be narrow."""
    return is_image(tensor) and tensor.shape[1] <= _FEW_CHANNELS


def _image(tensor: Tensor, *, lanes: int, pads: Pads) -> Volume:
    channels, height, width = (*tensor.shape[1:], 1, 1)[:3]
    return Volume(
        dtype=tensor.dtype,
        channels=channels,
        height=height,
        width=width,
        lanes=lanes,
        pads=pads,
        fill=tensor.grid.zero_point if tensor.grid is not None else 0,
    )
