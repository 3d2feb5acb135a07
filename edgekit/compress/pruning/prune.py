"""Prune a module in one call: find groups, score them, choose what stays, cut."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.compress.pruning.allocate import (
    Allocation,
    By,
    Limits,
    Scope,
    allocate,
    check_reachable,
)
from edgekit.compress.pruning.contract import Importance
from edgekit.compress.pruning.cost_model import cost_model
from edgekit.compress.pruning.cut import check_cut, edits_for, masked_copy
from edgekit.compress.pruning.groups import Coupling, find_groups
from edgekit.compress.pruning.macs import count_layers
from edgekit.compress.pruning.statistics import gradient_statistics, weight_statistics
from edgekit.zoo.surgery import KeepChannels, replay

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgekit.compress.pruning.statistics import Batch


@dataclass(frozen=True, kw_only=True)
class Request:
    """Say how much to remove and where.

    Attributes:
        ratio: Share of the cost to remove.
        by: What the cost is.
        scope: Whether groups compete or each gives the same share.
        limits: What each group must keep.
        ignored: Module names or patterns that keep all their channels.
    """

    ratio: float
    by: By = "macs"
    scope: Scope = "global"
    limits: Limits = field(default_factory=Limits)
    ignored: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """Hold a cut model and how it came about.

    Attributes:
        module: The cut model, a new object in eval mode.
        edits: What was cut, to be appended to the model's surgery.
        allocation: What was asked for and what was achieved.
        coupling: The groups, and what was left untouched.
        difference: Largest difference of the outputs to those of the masked model.
    """

    module: nn.Module
    edits: tuple[KeepChannels, ...]
    allocation: Allocation
    coupling: Coupling
    difference: float

    def layers(self) -> list[dict[str, Any]]:
        """Return channels before and after of the layer each group is named after."""
        return [
            {
                "layer": group.name,
                "before": group.num_channels,
                "after": len(self.allocation.kept[group.name]) * group.unit_size,
                "coupled": sorted({member.module for member in group.members} - {group.name}),
            }
            for group in self.coupling.groups
        ]


def prune_module(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    importance: Importance,
    request: Request,
    *,
    batches: Callable[[], Iterable[Batch]] | None = None,
) -> Pruned:
    """Return a cut copy of a model.

    Args:
        module: Model; put into eval mode, otherwise left as it is.
        inputs: Arguments of `forward` to trace with and to check the cut model by; at least two
            samples of values as in real data.
        importance: Scores the channels.
        request: How much to remove.
        batches: Gives the training batches an importance asks for.

    Raises:
        InputError: An unknown module in `ignored`, or a ratio that would leave a layer empty.
        StageError: Scores or gradients are not finite, or the cut model computes something else
            than the masked one.
    """
    coupling = find_groups(module, inputs, ignored=request.ignored)
    costs = count_layers(module, inputs)
    cost_of = cost_model(module, coupling.groups, costs, request.by)
    check_reachable(coupling.groups, cost_of, ratio=request.ratio, limits=request.limits)
    statistics = weight_statistics(module)
    if importance.num_batches:
        assert batches is not None
        statistics = gradient_statistics(module, coupling.groups, batches())
    allocation = allocate(
        coupling.groups,
        {group.name: importance.scores(group, statistics) for group in coupling.groups},
        cost_of,
        ratio=request.ratio,
        limits=request.limits,
        scope=request.scope,
    )
    edits = edits_for(coupling.groups, allocation.kept)
    cut = copy.deepcopy(module)
    replay(cut, edits)
    difference = check_cut(cut, masked_copy(module, coupling.groups, allocation.kept), inputs)
    return Pruned(
        module=cut,
        edits=edits,
        allocation=allocation,
        coupling=coupling,
        difference=difference,
    )


def check_request(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], request: Request
) -> Coupling:
    """Refuse, before anything is scored, what `prune_module` would refuse.

    Raises:
        InputError: As in `prune_module`.
    """
    coupling = find_groups(module, inputs, ignored=request.ignored)
    costs = count_layers(module, inputs)
    cost_of = cost_model(module, coupling.groups, costs, request.by)
    check_reachable(coupling.groups, cost_of, ratio=request.ratio, limits=request.limits)
    return coupling
