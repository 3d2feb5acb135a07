"""Dense layers behind flattened images: reorder weights instead of values."""

from __future__ import annotations

import msgspec
import numpy as np

from edgekit.compiler.graph.operators import Dense
from edgekit.compiler.kernels.volume import Volume


def reads_blocks(image: Volume) -> bool:
    """Return whether a dense layer can read an image as it lies in memory.

    Lanes without a channel meet weights that are 0. That is exact for levels; a float there might
    be no number, so floats need full blocks.
    """
    is_pixel = (image.height, image.width) == (1, 1)
    is_full = image.channels % image.lanes == 0
    return not image.is_padded and not is_pixel and (is_full or image.dtype != "float32")


def over_blocks(dense: Dense, image: Volume) -> Dense:
    """Return the dense layer with its weights in the order of an image's memory.

    Args:
        dense: Reads the image flattened in row-major order; weights [N, C * H * W].
        image: A layout for which `reads_blocks` holds.

    Returns:
        The layer over all elements of the image; weights [N, elements].
    """
    outputs = len(dense.weights)
    size = (image.height, image.width)
    full = np.zeros((outputs, image.blocks * image.lanes, *size), dense.weights.dtype)
    full[:, : image.channels] = dense.weights.reshape(outputs, image.channels, *size)
    blocked = full.reshape(outputs, image.blocks, image.lanes, *size).transpose(0, 1, 3, 4, 2)
    return msgspec.structs.replace(
        dense, weights=np.ascontiguousarray(blocked).reshape(outputs, -1)
    )
