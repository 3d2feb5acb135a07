from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgekit.data.source import Data
from edgekit.learn.evaluate import predict, predict_split
from edgekit.learn.tensors import to_tensors


class Pair(nn.Module):
    """Takes two inputs, in this order."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return first - second


def test_the_batch_size_does_not_show(digits: Data) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 10))
    split = to_tensors(digits.validation, ("image",))
    whole, pieces = (predict_split(model, split, batch_size=size) for size in (200, 7))
    # Sums over a batch of another size are split otherwise, so the last bits may differ.
    torch.testing.assert_close(whole, pieces, rtol=1e-5, atol=1e-6)
    assert whole.shape == (200, 10)


def test_predicting_leaves_mode_and_statistics_alone(digits: Data) -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64)).train()
    predict_split(model, to_tensors(digits.validation, ("image",)))
    assert model.training
    assert int(model[1].num_batches_tracked) == 0


def test_inputs_go_in_by_name_in_the_models_order() -> None:
    arrays = {"b": np.full((3, 2), 1.0), "a": np.full((3, 2), 5.0)}
    np.testing.assert_array_equal(predict(Pair(), arrays, ["a", "b"]), np.full((3, 2), 4.0))
