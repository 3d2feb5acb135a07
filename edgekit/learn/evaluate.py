"""Predictions of a torch model in batches, without gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from edgekit.learn.taps import first_tensor
from edgekit.learn.tensors import TensorSplit, as_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_SIZE = 256


def predict_split(
    model: nn.Module, split: TensorSplit, *, batch_size: int = BATCH_SIZE
) -> torch.Tensor:
    """Return the model's output for every sample, [samples, ...]; its mode is left as it was."""
    was_training = model.training
    model.eval()
    outputs = []
    with torch.no_grad():
        for indices in torch.split(torch.arange(len(split)), batch_size):
            inputs, _ = split.take(indices)
            outputs.append(first_tensor(model(*inputs), "the model"))
    model.train(was_training)
    return torch.cat(outputs)


def predict(
    model: nn.Module,
    inputs: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    *,
    batch_size: int = BATCH_SIZE,
) -> NDArray[Any]:
    """Return the model's output for named arrays.

    Args:
        model: Network; called with inputs in the order of `names`.
        inputs: Arrays by name, batch first.
        names: Input names in the order of the model's arguments.
        batch_size: Samples per call.

    Returns:
        Array [samples, ...].
    """
    arrays = tuple(as_tensor(inputs[name]) for name in names)
    split = TensorSplit(inputs=arrays, labels=torch.zeros(len(arrays[0]), dtype=torch.int64))
    result: NDArray[Any] = predict_split(model, split, batch_size=batch_size).numpy()
    return result
