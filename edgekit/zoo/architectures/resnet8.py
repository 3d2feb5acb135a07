"""Residual network of three blocks, after the image classifier of MLPerf Tiny."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated

from edgekit.core.options import Meta, Options
from edgekit.zoo.architecture import (
    ImageSize,
    InChannels,
    NumClasses,
    Signature,
    image_signature,
)

if TYPE_CHECKING:
    from torch import nn


class Resnet8(Options, frozen=True, kw_only=True):
    """Residual network: a stem and three blocks of widths w, 2w, 4w, then mean and classifier.

    Source: the layer list of MLPerf Tiny's ResNet-8; here every convolution, also that of a
    shortcut, is followed by batch normalisation, and the image size is free.
    """

    width: Annotated[int, Meta(ge=1, le=512, description="Channels of the first block")] = 16
    num_classes: NumClasses = 10
    in_channels: InChannels = 1
    image_size: ImageSize = 28

    def build(self) -> nn.Module:
        """Return the network; input (B, in_channels, H, W), output (B, num_classes)."""
        from torch import nn

        from edgekit.zoo.blocks import ConvNorm, SpatialMean, initialise

        width = self.width
        return initialise(
            nn.Sequential(
                OrderedDict(
                    stem=ConvNorm(self.in_channels, width, activation=nn.ReLU()),
                    block1=_block(width, width, stride=1),
                    block2=_block(width, 2 * width, stride=2),
                    block3=_block(2 * width, 4 * width, stride=2),
                    mean=SpatialMean(),
                    classifier=nn.Linear(4 * width, self.num_classes),
                )
            )
        )

    def signature(self) -> Signature:
        """Return input `image` and output `logits`."""
        return image_signature(self.in_channels, self.image_size, self.num_classes)


def _block(in_channels: int, out_channels: int, *, stride: int) -> nn.Module:
    from torch import nn

    from edgekit.zoo.blocks import ConvNorm, Residual

    body = nn.Sequential(
        OrderedDict(
            first=ConvNorm(in_channels, out_channels, stride=stride, activation=nn.ReLU()),
            second=ConvNorm(out_channels, out_channels),
        )
    )
    keeps_shape = stride == 1 and in_channels == out_channels
    shortcut = None if keeps_shape else ConvNorm(in_channels, out_channels, kernel=1, stride=stride)
    return Residual(body, shortcut=shortcut, activation=nn.ReLU())
