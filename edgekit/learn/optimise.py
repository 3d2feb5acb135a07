"""Optimizers, and the learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from edgekit.learn.options import ScheduleName, Training

_WARM_UP = 0.25
_COLDEST_START = 0.04


def make_optimizer(
    model: nn.Module, adapters: Iterable[nn.Parameter], options: Training
) -> torch.optim.Optimizer:
    """Return the optimizer over a model and the adapters of methods.

    Biases and normalisation parameters (one axis or none) have no weight decay: shrinking them
    does not make the function simpler.
    """
    parameters = [p for p in (*model.parameters(), *adapters) if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.lr, betas=(options.momentum, 0.999))
    return torch.optim.SGD(
        groups, lr=options.lr, momentum=options.momentum, nesterov=options.momentum > 0
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def lr_factor(schedule: ScheduleName, progress: float) -> float:
    """Return the share of the highest learning rate to use.

    Args:
        schedule: `constant`; `cosine` falls from 1 to 0; `one-cycle` rises linearly during the
            first quarter and then falls as a cosine.
        progress: Share of the steps already taken, 0 to 1.

    Source: the shape of Smith and Topin, "Super-Convergence", 2018, without its momentum cycle.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "one-cycle":
        if progress < _WARM_UP:
            return _COLDEST_START + (1 - _COLDEST_START) * progress / _WARM_UP
        progress = (progress - _WARM_UP) / (1 - _WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
