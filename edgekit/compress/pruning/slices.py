"""Parameters seen channel by channel, whatever the layer: what importance scores are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.compress.pruning.groups import Kind, Member, is_depthwise

if TYPE_CHECKING:
    import torch
    from torch import nn


def weight_rows(layer: nn.Module, values: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Reshape a weight-shaped tensor to one row per channel of one side.

    Args:
        layer: Convolution or linear layer (any group count), or batch normalisation.
        values: The layer's weight, or anything of its shape, such as gradient times weight.
        kind: Which side; layers that give what they take have only `out`.

    Returns:
        Tensor of shape (channels, values per channel).
    """
    groups = 1 if is_depthwise(layer) else int(getattr(layer, "groups", 1))
    if kind == "out":
        return values.reshape(values.shape[0], -1)
    if groups == 1:
        return values.transpose(0, 1).reshape(values.shape[1], -1)
    # [out, in / groups, ...] -> [groups, out / groups, in / groups, ...]: block b of the outputs
    # reads block b of the inputs.
    blocks = values.reshape(groups, -1, *values.shape[1:])
    return blocks.transpose(1, 2).reshape(groups * values.shape[1], -1)


def sum_by_unit(values: torch.Tensor, member: Member) -> torch.Tensor:
    """Add up one value per channel into one value per unit of the group.

    Args:
        values: Shape (member.width,).
        member: The side the values belong to.

    Returns:
        Shape (units,); units that have no channel on this side get 0.
    """
    import torch

    sums = torch.zeros(len(member.indices), dtype=values.dtype)
    places = [unit for unit, found in enumerate(member.indices) for _ in found]
    channels = [channel for found in member.indices for channel in found]
    return sums.index_add(0, torch.tensor(places), values[torch.tensor(channels)])


def relative_to_mean(scores: torch.Tensor) -> torch.Tensor:
    """Divide scores by their mean; all-zero scores stay as they are."""
    mean = float(scores.mean())
    return scores / mean if mean > 0 else scores
