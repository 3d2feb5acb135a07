"""Cut channels out of single modules: weights, buffers and the attributes that state sizes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from edgekit.core.errors import InputError

Kind = Literal["out", "in"]
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def keep_channels(module: nn.Module, keep: tuple[int, ...], *, kind: Kind, name: str) -> None:
    """Keep only the channels in `keep`, in place.

    Args:
        module: Convolution, linear layer, batch or layer normalisation.
        keep: Channel numbers, ascending.
        kind: Whether the channels are those the module gives or those it takes.
        name: The module's name, for messages.

    Raises:
        InputError: A channel that is not there, nothing kept, or a module that can't be cut.
    """
    cut, size = _plan(module, kind, name)
    if not keep:
        raise InputError(f"'{name}' would keep no channel", expected="at least one")
    if any(a >= b for a, b in itertools.pairwise(keep)):
        raise InputError(f"channels to keep of '{name}'", expected="ascending numbers, each once")
    if keep[0] < 0 or keep[-1] >= size:
        raise InputError(
            f"channels to keep of '{name}'",
            found=f"{keep[0]}..{keep[-1]}",
            expected=f"numbers from 0 to {size - 1}",
        )
    cut(torch.tensor(keep))


def _plan(module: nn.Module, kind: Kind, name: str) -> tuple[Callable[[torch.Tensor], None], int]:
    if isinstance(module, _CONVS):
        if module.groups == 1:
            size = module.out_channels if kind == "out" else module.in_channels
            return lambda keep: _cut_conv(module, keep, kind), size
        if module.groups == module.in_channels == module.out_channels:
            return lambda keep: _cut_depthwise(module, keep), module.out_channels
        size = module.out_channels if kind == "out" else module.in_channels
        return lambda keep: _cut_grouped(module, keep, kind, name), size
    if isinstance(module, nn.Linear):
        size = module.out_features if kind == "out" else module.in_features
        return lambda keep: _cut_linear(module, keep, kind), size
    if isinstance(module, _NORMS):
        return lambda keep: _cut_batch_norm(module, keep), module.num_features
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        return lambda keep: _cut_layer_norm(module, keep), module.normalized_shape[0]
    raise InputError(
        f"'{name}' is a {type(module).__name__}",
        expected="a convolution, linear layer, batch or layer normalisation",
    )


def _cut_conv(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, keep: torch.Tensor, kind: Kind) -> None:
    if kind == "out":
        _select(module, ("weight", "bias"), keep)
        module.out_channels = len(keep)
    else:
        _select(module, ("weight",), keep, dim=1)
        module.in_channels = len(keep)


def _cut_depthwise(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, keep: torch.Tensor) -> None:
    _select(module, ("weight", "bias"), keep)
    module.in_channels = module.out_channels = module.groups = len(keep)


def _cut_grouped(
    module: nn.Conv1d | nn.Conv2d | nn.Conv3d, keep: torch.Tensor, kind: Kind, name: str
) -> None:
    size = module.out_channels if kind == "out" else module.in_channels
    block = size // module.groups
    blocks = [(keep[keep // block == index] % block).tolist() for index in range(module.groups)]
    # All filters are stored over one block of inputs, so every block must keep the same places.
    if len({len(places) for places in blocks}) > 1 or (
        kind == "in" and any(places != blocks[0] for places in blocks)
    ):
        raise InputError(
            f"channels to keep of '{name}', a convolution in {module.groups} groups",
            expected="equally many of each group, for its inputs at the same places",
        )
    if kind == "out":
        _select(module, ("weight", "bias"), keep)
        module.out_channels = len(keep)
    else:
        _select(module, ("weight",), torch.tensor(blocks[0]), dim=1)
        module.in_channels = len(keep)


def _cut_linear(module: nn.Linear, keep: torch.Tensor, kind: Kind) -> None:
    if kind == "out":
        _select(module, ("weight", "bias"), keep)
        module.out_features = len(keep)
    else:
        _select(module, ("weight",), keep, dim=1)
        module.in_features = len(keep)


def _cut_batch_norm(
    module: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, keep: torch.Tensor
) -> None:
    _select(module, ("weight", "bias", "running_mean", "running_var"), keep)
    module.num_features = len(keep)


def _cut_layer_norm(module: nn.LayerNorm, keep: torch.Tensor) -> None:
    _select(module, ("weight", "bias"), keep)
    module.normalized_shape = (len(keep),)


def _select(module: nn.Module, names: tuple[str, ...], keep: torch.Tensor, *, dim: int = 0) -> None:
    for name in names:
        tensor = getattr(module, name, None)
        if tensor is None:
            continue
        with torch.no_grad():
            kept = tensor.index_select(dim, keep.to(tensor.device)).contiguous()
        if isinstance(tensor, nn.Parameter):
            setattr(module, name, nn.Parameter(kept, requires_grad=tensor.requires_grad))
        else:
            setattr(module, name, kept)
