from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from edgekit.core.model import ModelHandle, TensorSpec
from edgekit.zoo.cost import count_macs, count_params, measure_cost


def spec(*shape: int) -> tuple[TensorSpec, ...]:
    return (TensorSpec("x", "float32", (None, *shape)),)


def test_a_linear_layer_multiplies_once_per_weight() -> None:
    assert count_macs(nn.Linear(7, 5), spec(7)) == 35


def test_a_convolution_multiplies_once_per_weight_and_place() -> None:
    assert count_macs(nn.Conv2d(3, 8, 3, padding=1), spec(3, 6, 6)) == 3 * 8 * 9 * 36


def test_a_depthwise_convolution_counts_its_own_channel_only() -> None:
    assert count_macs(nn.Conv2d(8, 8, 3, groups=8), spec(8, 5, 5)) == 8 * 9 * 9


def test_counting_leaves_mode_and_statistics_alone() -> None:
    module = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)).train()
    count_macs(module, spec(2, 4, 4))
    assert module.training
    assert int(module[0].num_batches_tracked) == 0


def test_tied_parameters_count_once() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    assert count_params(module) == 9 + 3 + 3


def test_the_metrics_of_a_checkpoint(saved: Callable[..., tuple[nn.Module, ModelHandle]]) -> None:
    module, handle = saved("mlp")
    found = {metric.name: metric.value for metric in measure_cost(module, handle)}
    assert found["params"] == sum(p.numel() for p in module.parameters()) == 64 * 8 + 8 + 90
    assert found["macs"] == 64 * 8 + 8 * 10
    assert found["size_bytes"] == sum(path.stat().st_size for path in handle.path.iterdir())
    assert torch.is_grad_enabled()
