"""Small network of inverted residual blocks with depthwise convolutions."""

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


class MobilenetTiny(Options, frozen=True, kw_only=True):
    """Inverted residual blocks with ReLU6 and depthwise convolutions, for 28 to 64 pixel images.

    Widths are w, 1.5w, 2w (rounded to 8 where w allows), the head has 4w channels.

    Source: the block of Sandler et al., "MobileNetV2", 2018, figure 4(d); depth and widths are
    ours.
    """

    width: Annotated[int, Meta(ge=4, le=512, multiple_of=2, description="Channels of the stem")] = (
        16
    )
    expansion: Annotated[int, Meta(ge=1, le=12, description="Inner to outer width of a block")] = 3
    num_classes: NumClasses = 10
    in_channels: InChannels = 1
    image_size: ImageSize = 28

    def build(self) -> nn.Module:
        """Return the network; input (B, in_channels, H, W), output (B, num_classes)."""
        from torch import nn

        from edgekit.zoo.blocks import ConvNorm, SpatialMean, initialise

        stem, middle, late, head = self._widths()
        return initialise(
            nn.Sequential(
                OrderedDict(
                    stem=ConvNorm(self.in_channels, stem, activation=nn.ReLU6()),
                    block1=self._block(stem, middle, stride=2),
                    block2=self._block(middle, middle, stride=1),
                    block3=self._block(middle, late, stride=2),
                    block4=self._block(late, late, stride=1),
                    head=ConvNorm(late, head, kernel=1, activation=nn.ReLU6()),
                    mean=SpatialMean(),
                    classifier=nn.Linear(head, self.num_classes),
                )
            )
        )

    def signature(self) -> Signature:
        """Return input `image` and output `logits`."""
        return image_signature(self.in_channels, self.image_size, self.num_classes)

    def _widths(self) -> tuple[int, int, int, int]:
        return self.width, self.width * 3 // 2, self.width * 2, self.width * 4

    def _block(self, in_channels: int, out_channels: int, *, stride: int) -> nn.Module:
        from torch import nn

        from edgekit.zoo.blocks import ConvNorm, Residual

        inner = in_channels * self.expansion
        body = nn.Sequential(
            OrderedDict(
                expand=ConvNorm(in_channels, inner, kernel=1, activation=nn.ReLU6()),
                depthwise=ConvNorm(
                    inner, inner, stride=stride, groups=inner, activation=nn.ReLU6()
                ),
                project=ConvNorm(inner, out_channels, kernel=1),
            )
        )
        if stride != 1 or in_channels != out_channels:
            return body
        return Residual(body, activation=None)
