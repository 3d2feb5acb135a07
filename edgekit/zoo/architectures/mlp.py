"""Multilayer perceptron over a flattened input."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Annotated

from edgekit.core.model import TensorSpec
from edgekit.core.options import Meta, Options
from edgekit.zoo.architecture import NumClasses, Signature

if TYPE_CHECKING:
    from torch import nn

_Size = Annotated[int, Meta(ge=1, le=65_536)]


class Mlp(Options, frozen=True, kw_only=True):
    """Fully connected layers with ReLU between them, over the flattened input."""

    hidden: Annotated[tuple[_Size, ...], Meta(description="Sizes of the hidden layers")] = (64, 32)
    input_shape: Annotated[
        tuple[_Size, ...], Meta(min_length=1, description="Shape of one sample")
    ] = (64,)
    num_classes: NumClasses = 10

    def build(self) -> nn.Module:
        """Return the network; input (B, *input_shape), output (B, num_classes)."""
        from torch import nn

        sizes = [math.prod(self.input_shape), *self.hidden]
        layers: list[nn.Module] = [nn.Flatten()] if len(self.input_shape) > 1 else []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], self.num_classes))

    def signature(self) -> Signature:
        """Return input `input` and output `logits`."""
        inputs = TensorSpec("input", "float32", (None, *self.input_shape))
        return (inputs,), (TensorSpec("logits", "float32", (None, self.num_classes)),)
