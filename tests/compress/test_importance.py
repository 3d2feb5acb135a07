from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekit.compress.pruning.groups import find_groups
from edgekit.compress.pruning.importance.l2 import L2
from edgekit.compress.pruning.importance.taylor import Taylor
from edgekit.compress.pruning.slices import weight_rows
from edgekit.compress.pruning.statistics import (
    Statistics,
    gradient_statistics,
    weight_statistics,
)
from edgekit.core.errors import StageError
from edgekit.core.registry import registry
from tests.compress.networks import Mixed, images, settled

NAMES = registry("importance").names()


def batches(num_batches: int = 3) -> list[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
    return [((images(6, seed=index),), torch.arange(6) % 10) for index in range(1, num_batches + 1)]


@pytest.mark.parametrize("name", NAMES)
def test_every_importance_gives_one_finite_score_per_unit(name: str) -> None:
    model = settled(Mixed())
    coupling = find_groups(model, (images(),))
    statistics = gradient_statistics(model, coupling.groups, batches())
    for group in coupling.groups:
        scores = registry("importance").get(name)().scores(group, statistics)
        assert scores.shape == (group.num_units,)
        assert scores.isfinite().all()
        assert (scores >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_importance_ranks_a_dead_channel_last(name: str) -> None:
    model = settled(Mixed())
    with torch.no_grad():
        for layer, dim in (("left.0", 0), ("merge.0", 1)):
            weight = model.get_submodule(layer).get_parameter("weight")
            weight.select(dim, 2).zero_()
        norm = model.get_submodule("left.1")
        norm.get_parameter("weight")[2] = 0.0
        norm.get_parameter("bias")[2] = 0.0
    coupling = find_groups(model, (images(),))
    group = next(found for found in coupling.groups if found.name == "left.0")
    statistics = gradient_statistics(model, coupling.groups, batches())
    scores = registry("importance").get(name)().scores(group, statistics)
    assert scores.argmin() == 2
    assert scores[2] == 0.0


def test_l2_is_the_norm_over_filters_and_the_columns_that_read_them() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    (group,) = find_groups(model, (torch.randn(2, 3),)).groups
    scores = L2(normalize="none").scores(group, weight_statistics(model))
    first, second = (model[place].get_parameter("weight").detach() for place in (0, 2))
    expected = (first.square().sum(1) + second.square().sum(0)).sqrt()
    torch.testing.assert_close(scores, expected.double())
    normal = L2().scores(group, weight_statistics(model))
    torch.testing.assert_close(normal.mean(), torch.tensor(1.0, dtype=torch.float64))


def test_taylor_is_what_the_loss_loses_to_first_order() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    inputs, labels = torch.randn(8, 3), torch.arange(8) % 2
    (group,) = find_groups(model, (inputs,)).groups
    statistics = gradient_statistics(model, [group], [((inputs,), labels)])
    scores = Taylor(normalize="none").scores(group, statistics)
    # Scale one channel's weights by (1 - h): the loss changes by h times the score.
    layer, step = model[0], 1e-4
    with torch.no_grad():
        before = nn.functional.cross_entropy(model(inputs).double(), labels)
        for unit in range(4):
            kept = layer.weight[unit].clone(), layer.bias[unit].clone()
            layer.weight[unit] *= 1 - step
            layer.bias[unit] *= 1 - step
            after = nn.functional.cross_entropy(model(inputs).double(), labels)
            layer.weight[unit], layer.bias[unit] = kept
            # float32 forward passes resolve the difference to about 1e-7 / step.
            assert abs(float(abs(after - before) / step) - float(scores[unit])) < 3e-3


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_every_importance_compare_across_groups(name: str) -> None:
    model = settled(Mixed())
    coupling = find_groups(model, (images(),))
    statistics = gradient_statistics(model, coupling.groups, batches())
    for group in coupling.groups:
        scores = registry("importance").get(name)().scores(group, statistics)
        assert float(scores.mean()) == pytest.approx(1.0)


def test_taylor_averages_magnitudes_over_batches_not_signs() -> None:
    model = settled(Mixed())
    coupling = find_groups(model, (images(),))
    statistics = gradient_statistics(model, coupling.groups, batches(2))
    group = coupling.groups[-1]
    flipped = Statistics(
        layers=statistics.layers,
        first_order={
            name: values * torch.tensor([1.0, -1.0], dtype=values.dtype)[:, None, None]
            for name, values in statistics.first_order.items()
        },
    )
    assert torch.equal(Taylor().scores(group, statistics), Taylor().scores(group, flipped))


def test_gradients_are_cleared_and_running_statistics_kept() -> None:
    model = settled(Mixed())
    norm = model.get_submodule("stem.1")
    before = norm.get_buffer("running_mean").clone()
    gradient_statistics(model, find_groups(model, (images(),)).groups, batches())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(norm.get_buffer("running_mean"), before)


def test_collecting_without_a_batch_is_refused() -> None:
    model = settled(Mixed())
    with pytest.raises(StageError, match=r"gradients.*found no batch"):
        gradient_statistics(model, find_groups(model, (images(),)).groups, [])


def test_a_loss_that_is_not_finite_is_refused() -> None:
    model = settled(Mixed())
    inputs = torch.full((2, 1, 8, 8), float("nan"))
    groups = find_groups(model, (images(),)).groups
    with pytest.raises(StageError, match="found a loss of nan, expected a finite loss"):
        gradient_statistics(model, groups, [((inputs,), torch.zeros(2, dtype=torch.int64))])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_rows_of_the_input_side_are_what_reads_each_channel(groups: int) -> None:
    layer = nn.Conv2d(8, 12, 3, groups=groups, bias=False)
    rows = weight_rows(layer, layer.weight.detach(), "in")
    assert rows.shape == (8, 12 // groups * 9)
    image = torch.zeros(1, 8, 3, 3)
    image[0, 5] = 1.0
    # An image of ones in one channel sums that channel's row, whatever the block.
    torch.testing.assert_close(layer(image).sum(), rows[5].sum())
