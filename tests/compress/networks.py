"""Small networks that together hold every kind of coupling pruning must handle."""

from __future__ import annotations

import torch
from torch import nn


def conv_norm(given: int, taken: int, *, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(given, taken, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(taken),
        nn.ReLU(),
    )


class Mixed(nn.Module):
    """Residual sum, depthwise and grouped convolution, concatenation, flattened map into linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(1, 8)
        self.body = conv_norm(8, 8)
        self.depthwise = conv_norm(8, 8, groups=8)
        self.grouped = conv_norm(8, 16, groups=4)
        self.left = conv_norm(16, 6)
        self.right = conv_norm(16, 10)
        self.merge = conv_norm(16, 4)
        self.hidden = nn.Linear(4 * 16, 20)
        self.head = nn.Linear(20, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.body(x)
        x = self.grouped(self.depthwise(x))
        x = self.merge(torch.cat([self.left(x), self.right(x)], 1))
        x = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        scores: torch.Tensor = self.head(torch.relu(self.hidden(x)))
        return scores


class Shifted(nn.Module):
    """A batch normalisation whose shift comes out of empty filters too."""

    def __init__(self, *, activation: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, bias=True)
        self.norm = nn.BatchNorm2d(6)
        self.activation = activation
        self.second = nn.Conv2d(6, 5, 3)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.activation(self.norm(self.first(x))))
        scores: torch.Tensor = self.head(x.mean((2, 3)))
        return scores


def settled(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """Give a network weights and running statistics that no two channels share; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.add_(1.0)
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(generator=generator)
                part.running_var.uniform_(0.5, 2.0, generator=generator)
    return module.eval()


def images(num_samples: int = 3, size: int = 8, *, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_samples, 1, size, size, generator=generator)
