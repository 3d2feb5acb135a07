"""What each layer of a torch model costs, so that pruning can foresee what a removal saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """State the cost of one module.

    Attributes:
        macs: Multiply-accumulates of one sample; biases, normalisation and activations count 0,
            since runtimes fold them into the layer before.
        params: Values of the module's own parameters.
        num_calls: How often one forward pass uses the module.
    """

    macs: int
    params: int
    num_calls: int


def count_layers(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> dict[str, LayerCost]:
    """Run one sample and return the cost of every module that holds parameters, by name.

    Args:
        module: Model in any mode; it runs in eval mode and keeps its own.
        inputs: Arguments of `forward`; MACs are divided by the batch, their first size.

    Returns:
        Costs in the order of `named_modules`; products of two activations (attention) are not
        counted, as no channel of a single layer owns them.
    """
    import torch

    owners = {name: part for name, part in module.named_modules() if _own_params(part)}
    macs = dict.fromkeys(owners, 0)
    calls = dict.fromkeys(owners, 0)

    def watch(name: str) -> Any:  # noqa: ANN401 - torch's hook type is not public
        def hook(part: nn.Module, _: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
            calls[name] += 1
            if isinstance(output, torch.Tensor):
                macs[name] += _layer_macs(part, output)

        return hook

    handles = [part.register_forward_hook(watch(name)) for name, part in owners.items()]
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        module.train(was_training)
    batch = inputs[0].shape[0]
    return {
        name: LayerCost(macs=macs[name] // batch, params=_own_params(part), num_calls=calls[name])
        for name, part in owners.items()
    }


def total_macs(costs: Mapping[str, LayerCost]) -> int:
    """Return the multiply-accumulates of all layers for one sample."""
    return sum(cost.macs for cost in costs.values())


def total_params(costs: Mapping[str, LayerCost]) -> int:
    """Return the number of parameters of all layers."""
    return sum(cost.params for cost in costs.values())


def _own_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters(recurse=False))


def _layer_macs(module: nn.Module, output: torch.Tensor) -> int:
    from torch import nn

    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        # Each output value sums one filter: weight is [out, in / groups, kernel...].
        return output.numel() * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    return 0
