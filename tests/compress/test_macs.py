from __future__ import annotations

import pytest
import torch
import torch_pruning
from torch import nn

from edgekit.compress.pruning.macs import count_layers, total_macs, total_params
from tests.compress.networks import Mixed, conv_norm, images, settled


def test_a_convolution_costs_its_filter_at_every_output_pixel() -> None:
    costs = count_layers(nn.Sequential(nn.Conv2d(3, 5, 3, stride=2)), (torch.zeros(1, 3, 9, 9),))
    assert costs["0"].macs == 5 * 4 * 4 * 3 * 3 * 3
    assert costs["0"].params == 5 * 3 * 3 * 3 + 5


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_groups_divide_the_cost(groups: int) -> None:
    whole = count_layers(conv_norm(8, 8), (torch.zeros(1, 8, 4, 4),))["0"].macs
    split = count_layers(conv_norm(8, 8, groups=groups), (torch.zeros(1, 8, 4, 4),))["0"].macs
    assert split * groups == whole


def test_the_batch_does_not_change_the_cost() -> None:
    model = Mixed()
    assert count_layers(model, (images(1),)) == count_layers(model, (images(7),))


def test_counts_agree_with_torch_pruning_up_to_biases() -> None:
    model = Mixed()
    _, params, layer_macs, _ = torch_pruning.utils.count_ops_and_params(
        model, images(1), layer_wise=True
    )
    costs = count_layers(model, (images(1),))
    assert total_params(costs) == params
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            bias = 0 if layer.bias is None else layer.out_features
            assert costs[name].macs == layer_macs[layer] - bias, name


def test_totals_agree_with_torchs_own_counter() -> None:
    from edgekit.core.model import TensorSpec
    from edgekit.zoo.cost import count_macs

    model = settled(Mixed())
    spec = TensorSpec("image", "float32", (None, 1, 8, 8))
    assert total_macs(count_layers(model, (images(1),))) == count_macs(model, (spec,))


def test_a_module_used_twice_says_so_and_costs_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.layer(self.layer(x))
            return found

    cost = count_layers(Twice(), (torch.zeros(2, 4),))["layer"]
    assert (cost.num_calls, cost.macs, cost.params) == (2, 32, 20)


def test_the_mode_of_the_model_is_kept() -> None:
    model = Mixed().train()
    count_layers(model, (images(),))
    assert model.training
