"""What a model costs when only some units stay, computed from layer costs without building it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.compress.pruning.allocate import By
from edgekit.compress.pruning.groups import Group, is_depthwise
from edgekit.compress.pruning.macs import LayerCost

if TYPE_CHECKING:
    from torch import nn

Kept = Mapping[str, tuple[int, ...]]
"""Units that stay, by group name."""


def cost_model(
    module: nn.Module, groups: Sequence[Group], costs: Mapping[str, LayerCost], by: By
) -> Callable[[Kept], float]:
    """Return a function from the units that stay to the cost of the whole model.

    A layer's MACs and weights are in proportion to the channels it takes and to those it gives, so
    the result is exact; a test compares it with the model after surgery.

    Args:
        module: The model the groups and costs were found in.
        groups: Its groups.
        costs: Its layers, from `count_layers`.
        by: `macs` and `params` of all layers, or `channels` of the groups.
    """
    if by == "channels":
        size = {group.name: group.unit_size for group in groups}
        return lambda kept: float(sum(size[name] * len(units) for name, units in kept.items()))
    layers = {name: (module.get_submodule(name), cost) for name, cost in costs.items()}

    def cost(kept: Kept) -> float:
        shares = kept_shares(groups, kept)
        return sum(
            _layer_cost(layer, found, name, shares, by) for name, (layer, found) in (layers.items())
        )

    return cost


def kept_shares(groups: Sequence[Group], kept: Kept) -> dict[tuple[str, str], float]:
    """Return the share of channels that stays on each cut side of each layer."""
    removed: dict[tuple[str, str], int] = {}
    widths: dict[tuple[str, str], int] = {}
    for group in groups:
        gone = set(range(group.num_units)) - set(kept[group.name])
        for member in group.members:
            side = (member.module, member.kind)
            widths[side] = member.width
            removed[side] = removed.get(side, 0) + sum(len(member.indices[unit]) for unit in gone)
    return {side: 1.0 - count / widths[side] for side, count in removed.items()}


def _layer_cost(
    layer: nn.Module,
    cost: LayerCost,
    name: str,
    shares: Mapping[tuple[str, str], float],
    by: By,
) -> float:
    given = shares.get((name, "out"), 1.0)
    taken = 1.0 if is_depthwise(layer) else shares.get((name, "in"), 1.0)
    if by == "macs":
        return cost.macs * given * taken
    weight = getattr(layer, "weight", None)
    num_weights = weight.numel() if weight is not None else 0
    return num_weights * given * taken + (cost.params - num_weights) * given
