"""From units that stay to surgery edits, and the proof that the edits removed just those units."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.compress.pruning.groups import Group, Kind
from edgekit.compress.pruning.slices import weight_rows
from edgekit.core.errors import StageError
from edgekit.zoo.surgery import KeepChannels

if TYPE_CHECKING:
    import torch
    from torch import nn

# Float sums over fewer channels round differently; a wrong cut is off by orders of magnitude more.
_TOLERANCE = 1e-4


def edits_for(
    groups: Sequence[Group], kept: Mapping[str, tuple[int, ...]]
) -> tuple[KeepChannels, ...]:
    """Return one edit per cut side of a layer, in the order of the groups.

    Args:
        groups: All groups of the model.
        kept: Units that stay, by group name.
    """
    widths: dict[tuple[str, Kind], int] = {}
    removed: dict[tuple[str, Kind], set[int]] = {}
    for group in groups:
        gone = set(range(group.num_units)) - set(kept[group.name])
        for member in group.members:
            side = (member.module, member.kind)
            widths[side] = member.width
            cut = removed.setdefault(side, set())
            cut.update(index for unit in gone for index in member.indices[unit])
    return tuple(
        KeepChannels(
            module=name,
            kind=kind,
            keep=tuple(index for index in range(widths[name, kind]) if index not in cut),
        )
        for (name, kind), cut in removed.items()
        if cut
    )


def masked_copy(
    module: nn.Module, groups: Sequence[Group], kept: Mapping[str, tuple[int, ...]]
) -> nn.Module:
    """Return a copy of full size that no longer reads the removed channels.

    Columns of the layers that take the channels become zero. Zeroing what gives them would not do:
    a bias or the shift of a batch normalisation would still come out of an empty filter.
    """
    import torch

    masked = copy.deepcopy(module)
    for group in groups:
        gone = set(range(group.num_units)) - set(kept[group.name])
        for member in group.members:
            if member.kind == "in":
                layer = masked.get_submodule(member.module)
                weight = layer.get_parameter("weight")
                rows = weight_rows(layer, torch.ones_like(weight), "in")
                rows[[index for unit in gone for index in member.indices[unit]]] = 0.0
                with torch.no_grad():
                    weight.mul_(_as_weight(rows, weight))
    return masked


def check_cut(cut: nn.Module, masked: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """Return the largest difference between the cut model and the masked one of full size.

    Args:
        cut: The model after surgery.
        masked: From `masked_copy`.
        inputs: Arguments of `forward`.

    Raises:
        StageError: They differ, so channels were removed that don't belong together.
    """
    import torch

    with torch.no_grad():
        expected = _tensors(masked.eval()(*inputs))
        try:
            found = _tensors(cut.eval()(*inputs))
        except RuntimeError as error:
            raise StageError(
                "running the pruned model",
                found=str(error).splitlines()[0],
                hint="Somewhere its forward fixes a number of channels; list the layers in front "
                "of that place under `ignored`",
            ) from error
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        if one.shape != other.shape:
            raise StageError(
                "checking the pruned model",
                found=f"an output of shape {tuple(one.shape)}",
                expected=f"{tuple(other.shape)}",
                hint="List the layers in front of that output under `ignored`",
            )
        scale = max(1.0, float(other.abs().max()))
        difference = float((one - other).abs().max())
        if not difference <= _TOLERANCE * scale:
            raise StageError(
                "checking the pruned model against the masked one",
                found=f"outputs that differ by {difference:.3g}",
                expected=f"at most {_TOLERANCE * scale:.3g}",
                hint="Some operation mixes channels in a way that tracing does not see; list the "
                "layers around it under `ignored`",
            )
        worst = max(worst, difference)
    return worst


def _as_weight(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Undo `weight_rows(..., "in")`: [in, out / groups * rest] back to the shape of the weight."""
    per_group = weight.shape[1]
    groups = rows.shape[0] // per_group
    rest = weight.shape[2:]
    blocks = rows.reshape(groups, per_group, -1, *rest).transpose(1, 2)
    return blocks.reshape(weight.shape)


def _tensors(output: object) -> list[torch.Tensor]:
    import torch

    if isinstance(output, torch.Tensor):
        return [output]
    assert isinstance(output, (tuple, list))
    return [part for part in output if isinstance(part, torch.Tensor)]
