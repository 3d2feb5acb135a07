"""The state of a training run, all in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import torch
from torch import nn


class EpochRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Report one epoch.

    Args:
        epoch: Counted from 1.
        lr: Learning rate at its end.
        loss: Mean of the sum of all terms.
        terms: Mean of each weighted term.
        validation: Metric on the validation split.
        validation_loss: Cross-entropy on the validation split.
    """

    epoch: int
    lr: float
    loss: float
    terms: dict[str, float]
    validation: float
    validation_loss: float


@dataclass(kw_only=True)
class LoopState:
    """Hold what changes while a model is trained.

    Attributes:
        model: the student, in train mode while steps run.
        optimizer: what updates it and the methods' adapters.
        generator: source of the sample order and of augmentation.
        num_steps: steps of the whole run.
        memory_format: how images lie in memory.
        step: steps taken.
        epoch: epochs begun, so 1 during the first.
        records: one per finished epoch.
        best_epoch: epoch with the best validation metric so far, 0 before the first.
        best_weights: a copy of the model's state then.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    num_steps: int
    memory_format: torch.memory_format = torch.channels_last
    step: int = 0
    epoch: int = 0
    records: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def keep_best(self, record: EpochRecord, *, is_better: bool) -> None:
        """Add a finished epoch, and copy the weights when it is the best so far."""
        self.records.append(record)
        if is_better:
            self.best_epoch = record.epoch
            self.best_weights = {
                name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()
            }
