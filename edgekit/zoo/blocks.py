"""Building blocks that the reference networks share.

Plain modules with fixed control flow, so that `torch.export` and dependency tracing see everything.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


class ConvNorm(nn.Sequential):
    """Convolve, normalise over the batch, and activate if `activation` is given."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: nn.Module | None = None,
    ) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            conv=nn.Conv2d(
                in_channels,
                out_channels,
                kernel,
                stride=stride,
                padding=kernel // 2,
                groups=groups,
                bias=False,
            ),
            norm=nn.BatchNorm2d(out_channels),
        )
        if activation is not None:
            parts["activation"] = activation
        super().__init__(parts)


class Residual(nn.Module):
    """Add what `body` makes of the input to what `shortcut` makes of it, then activate."""

    def __init__(
        self, body: nn.Module, *, shortcut: nn.Module | None = None, activation: nn.Module | None
    ) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut if shortcut is not None else nn.Identity()
        self.activation = activation if activation is not None else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the body's output shape."""
        out: torch.Tensor = self.activation(self.body(x) + self.shortcut(x))
        return out


class SpatialMean(nn.Module):
    """Average each channel over height and width: (B, C, H, W) becomes (B, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the means, shape (B, C)."""
        return x.mean((2, 3))


def initialise(module: nn.Module) -> nn.Module:
    """Draw convolution weights for the variance ReLU networks need; return the module.

    Source: He et al., "Delving Deep into Rectifiers", 2015, equation 14 (fan-out form).
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    return module
