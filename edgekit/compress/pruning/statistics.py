"""What importance scores may look at: the weights, and gradients collected on training batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgekit.compress.pruning.groups import Group, Member
from edgekit.compress.pruning.slices import sum_by_unit, weight_rows
from edgekit.core.errors import StageError

if TYPE_CHECKING:
    import torch
    from torch import nn

    Batch = tuple[tuple[torch.Tensor, ...], torch.Tensor]
    """Arguments of `forward` and integer labels (batch,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Hold what was collected about a model.

    Attributes:
        layers: Modules by name, with their weights.
        first_order: For each group by name, the sum of gradient times weight, of shape
            (batches, members, units); a member without filters or normalisation weights of its
            own has zeros. Empty unless an importance asked for gradients.
    """

    layers: Mapping[str, nn.Module]
    first_order: Mapping[str, torch.Tensor] = field(default_factory=dict)


def weight_statistics(module: nn.Module) -> Statistics:
    """Return the weights alone."""
    return Statistics(layers=dict(module.named_modules()))


def gradient_statistics(
    module: nn.Module, groups: Sequence[Group], batches: Iterable[Batch]
) -> Statistics:
    """Collect gradient times weight of the cross entropy, batch by batch.

    The model runs in eval mode, so that batch normalisation keeps its running statistics; its
    gradients are cleared afterwards.

    Raises:
        StageError: No batch, or a loss that is not finite.
    """
    import torch
    from torch.nn import functional as F

    module.eval()
    layers = dict(module.named_modules())
    found: dict[str, list[torch.Tensor]] = {group.name: [] for group in groups}
    num_batches = 0
    for inputs, labels in batches:
        module.zero_grad(set_to_none=True)
        outputs = module(*inputs)
        logits = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        loss = F.cross_entropy(logits, labels)
        if not torch.isfinite(loss):
            raise StageError(
                "collecting gradients for importance scores",
                found=f"a loss of {loss.item()}",
                expected="a finite loss",
                hint="The model has diverged, or the inputs are not scaled as in training",
            )
        torch.autograd.backward(loss)
        for group in groups:
            rows = [_first_order(layers[member.module], member) for member in group.members]
            found[group.name].append(torch.stack(rows))
        num_batches += 1
    module.zero_grad(set_to_none=True)
    if not num_batches:
        raise StageError(
            "collecting gradients for importance scores", found="no batch", expected="at least one"
        )
    stacked = {name: torch.stack(values) for name, values in found.items()}
    return Statistics(layers=layers, first_order=stacked)


def _first_order(layer: nn.Module, member: Member) -> torch.Tensor:
    import torch

    sums = torch.zeros(len(member.indices), dtype=torch.float64)
    if member.kind == "in":
        return sums  # the same channels counted from the other end
    for name in ("weight", "bias"):
        parameter = getattr(layer, name, None)
        if isinstance(parameter, torch.nn.Parameter) and parameter.grad is not None:
            product = (parameter.grad * parameter.detach()).double()
            values = weight_rows(layer, product, "out").sum(1)
            sums = sums + sum_by_unit(values, member)
    return sums
