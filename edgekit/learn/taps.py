"""Taps: outputs of named modules, recorded during a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from edgekit.core.errors import InputError
from edgekit.learn.contracts import OUTPUT, Taps, TapShapes
from edgekit.zoo.surgery import find_module


class TapRecorder:
    """Run a model and return the outputs of chosen modules beside its own.

    Args:
        model: Any network.
        names: Dotted module names, such as `block2` or `block2.body.first`.

    Raises:
        InputError: No module of that name; the nearest is offered.
    """

    def __init__(self, model: nn.Module, names: Sequence[str] = ()) -> None:
        self._model = model
        self._modules = {name: find_module(model, name) for name in names}

    def __call__(self, inputs: Sequence[torch.Tensor]) -> Taps:
        """Return each tap by name, the model's own output as `output`.

        Raises:
            InputError: A tapped module did not run, ran twice, or gave no tensor.
        """
        recorded: dict[str, torch.Tensor] = {}
        handles = [
            module.register_forward_hook(_recording(name, recorded))
            for name, module in self._modules.items()
        ]
        try:
            output = first_tensor(self._model(*inputs), "the model")
        finally:
            for handle in handles:
                handle.remove()
        missing = [name for name in self._modules if name not in recorded]
        if missing:
            raise InputError(f"tap '{missing[0]}'", found="a module that does not run")
        return {**recorded, OUTPUT: output}


def tap_shapes(
    recorder: TapRecorder, model: nn.Module, inputs: Sequence[torch.Tensor]
) -> TapShapes:
    """Return the shape of each tap for one sample; the model's mode is left as it was."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        taps = recorder(inputs)
    model.train(was_training)
    return {name: tuple(tap.shape[1:]) for name, tap in taps.items()}


def first_tensor(result: object, who: str) -> torch.Tensor:
    """Return a module's result, or the first tensor of a tuple or of a mapping.

    Raises:
        InputError: There is no tensor.
    """
    if isinstance(result, torch.Tensor):
        return result
    values = list(result.values()) if isinstance(result, dict) else result
    if isinstance(values, (tuple, list)) and values and isinstance(values[0], torch.Tensor):
        return values[0]
    raise InputError(f"the result of {who}", found=type(result).__name__, expected="a tensor")


def _recording(name: str, recorded: dict[str, torch.Tensor]) -> Callable[..., None]:
    def hook(*call: object) -> None:
        *_, result = call
        if name in recorded:
            raise InputError(
                f"tap '{name}'",
                found="a module that runs more than once",
                hint="Tap the module around it",
            )
        recorded[name] = first_tensor(result, f"module '{name}'")

    return hook
