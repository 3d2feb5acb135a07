"""Changes of training images that keep their class."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from edgekit.learn.options import Augment


def augment_images(
    images: torch.Tensor, options: Augment, generator: torch.Generator
) -> torch.Tensor:
    """Return images moved and mirrored at random, each in its own way.

    What comes into view at a border repeats the border pixels: zero would be no background once
    images are normalised.

    Args:
        images: [batch, channels, height, width].
        options: What to change.
        generator: Source of chance.
    """
    batch, channels, height, width = images.shape
    rows = torch.arange(height).expand(batch, height)
    columns = torch.arange(width).expand(batch, width)
    if options.flip:
        mirrored = torch.rand(batch, generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
    if options.shift:
        far = options.shift
        moves = torch.randint(0, 2 * far + 1, (2, batch, 1), generator=generator)
        rows, columns = rows + moves[0], columns + moves[1]
        images = F.pad(images, (far, far, far, far), mode="replicate")
    sample = torch.arange(batch)[:, None, None, None]
    channel = torch.arange(channels)[None, :, None, None]
    return images[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
