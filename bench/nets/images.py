"""Images for nets without training: smooth blobs with some noise, normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COARSE = 14
_NOISE = 0.3


def draw_images(num_images: int, *, channels: int, size: int, seed: int) -> NDArray[np.float32]:
    """Return images of mean 0 and deviation about 1, float32 (images, channels, size, size).

    White noise would do for speed, but every image of it looks the same to a convolutional net.

    Args:
        num_images: How many.
        channels: Of an image.
        size: Height and width, a multiple of 14.
        seed: Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((num_images, channels, _COARSE, _COARSE))
    tint = rng.standard_normal((num_images, channels, 1, 1))
    block = np.ones((1, 1, size // _COARSE, size // _COARSE))
    noise = rng.standard_normal((num_images, channels, size, size))
    return (np.kron(0.8 * coarse + 0.5 * tint, block) + _NOISE * noise).astype(np.float32)
