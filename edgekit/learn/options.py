"""Options that everything which trains has in common."""

from __future__ import annotations

from typing import Annotated, Literal

from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options

OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["one-cycle", "cosine", "constant"]
_LARGEST_ADAMW_LR = 0.1


class Augment(Options, frozen=True, kw_only=True):
    """Change training images a little each time they are shown."""

    shift: Annotated[
        int, Meta(ge=0, le=64, description="Move by up to this many pixels each way")
    ] = 0
    flip: Annotated[bool, Meta(description="Mirror left to right, every second image")] = False

    @property
    def is_active(self) -> bool:
        """Tell whether anything is changed at all."""
        return self.flip or self.shift > 0


class Training(Options, frozen=True, kw_only=True):
    """Say how to train: how long, how fast, with which optimizer."""

    epochs: Annotated[int, Meta(ge=1, le=10_000, description="Passes over the training split")] = 6
    lr: Annotated[float, Meta(gt=0, le=10, description="Highest learning rate")] = 0.05
    batch_size: Annotated[int, Meta(ge=2, le=65_536, description="Samples per step")] = 128
    optimizer: Annotated[
        OptimizerName,
        Meta(description="sgd (Nesterov momentum; lr near 0.05) or adamw (near 0.002)"),
    ] = "sgd"
    momentum: Annotated[float, Meta(ge=0, lt=1, description="Momentum; beta 1 of adamw")] = 0.9
    weight_decay: Annotated[
        float, Meta(ge=0, le=1, description="Decay of weight matrices; biases and norms have none")
    ] = 5e-4
    schedule: Annotated[
        ScheduleName, Meta(description="one-cycle (up, then down to 0), cosine (down), constant")
    ] = "one-cycle"
    label_smoothing: Annotated[
        float, Meta(ge=0, lt=1, description="Share of each label spread over all classes")
    ] = 0.0
    augment: Augment = Augment()

    def __post_init__(self) -> None:
        """Refuse a learning rate that is meant for another optimizer."""
        if self.optimizer == "adamw" and self.lr > _LARGEST_ADAMW_LR:
            raise InputError(
                "lr with optimizer adamw",
                found=f"{self.lr:g}",
                expected=f"at most {_LARGEST_ADAMW_LR:g}",
                hint="0.002 is a good start",
            )
